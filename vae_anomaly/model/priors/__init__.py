"""Priors :math:`p(z)`, one a file; `base` has their contract."""

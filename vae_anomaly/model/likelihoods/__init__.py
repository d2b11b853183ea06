"""Likelihoods :math:`p(x|z)`, one a file; `base` has their contract."""

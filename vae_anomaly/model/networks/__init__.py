"""Encoders :math:`q(z|x)` and decoders of :math:`p(x|z)`, one architecture a file; `base` has their contract."""

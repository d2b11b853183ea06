r"""E-values of samples: evidence against "this is a normal" that may depend on that of other samples in any way.

An e-value is a number of at least 0 whose mean is at most 1 for a normal; large is anomalous. From a conformal p-value
against n held-out normals, which takes the values j / (n + 1),

.. math:: e = \frac{n + 1}{j \, H_{n+1}}, \qquad H_{n+1} = \sum_{j=1}^{n+1} \frac1j

is one: its mean is 1 where the p-value is uniform on these values, and at most that where larger p-values are likelier,
since e falls with j. Of m samples, e-BH flags the k with the largest e-values, for the largest k whose smallest is at
least m / (k q). Of those flagged, an expected share of at most q is normal, if each normal by itself is exchangeable
with the held-out ones, and however samples depend on each other: samples of one machine may be alike, or one may be
scored twice. It needs p-values that are :math:`H_{n+1}` times as small as Benjamini-Hochberg's procedure does, whose
promise rests on independent samples.

References
----------
False discovery rate control with e-values (Wang & Ramdas, 2022), https://arxiv.org/abs/2009.02824
E-values: calibration, combination and applications (Vovk & Wang, 2021), https://arxiv.org/abs/1912.06116
"""

from __future__ import annotations

import math

import numpy as np

from vae_anomaly.calibration.conformal import benjamini_hochberg


def e_values(p: np.ndarray, n: int) -> np.ndarray:
    """E-values ``(N,)`` from conformal p-values ``(N,)`` against ``n`` held-out normals.

    P-values between two multiples of 1 / (n + 1), as `conformal.conditional` gives them, count as the larger one.
    """
    ranks = np.ceil(np.asarray(p, dtype=np.float64) * (n + 1) - 1e-9)
    result: np.ndarray = (n + 1) / (ranks * (1 / np.arange(1, n + 2)).sum())
    return result


def e_benjamini_hochberg(e: np.ndarray, level: float) -> np.ndarray:
    """Which samples to flag, ``(N,)`` bool, so that the false-discovery rate is at most ``level`` in (0, 1).

    The procedure is Benjamini and Hochberg's on 1 / e, and its promise holds for e-values that depend on each other in
    any way.
    """
    return benjamini_hochberg(1 / np.maximum(e, 1), level)


def fewest_flagged(smallest: float, n_samples: int, level: float) -> int:
    """How many of these samples are flagged together at least, if any is; more than there are: none can be.

    Parameters
    ----------
    smallest
        The smallest p-value that a sample can have, or 1 over the largest e-value.
    n_samples
        How many samples are decided together.
    level
        False-discovery rate.
    """
    return max(1, math.ceil(n_samples * smallest / level - 1e-9))

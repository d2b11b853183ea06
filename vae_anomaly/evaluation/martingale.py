r"""A conformal test martingale: a gambler who bets, score by score, that what arrives is not like what came before.

With :math:`z_1, \ldots, z_n` the reference and all new scores up to the n-th of all and :math:`\tau_n` uniform, the
smoothed p-value of the newest is

.. math:: p_n = \frac{\#\{i : z_i > z_n\} + \tau_n\, \#\{i : z_i = z_n\}}{n}

If new scores are exchangeable with the reference, the p-values are independent and uniform (Vovk et al., 2003), and a
bet that multiplies a stake by :math:`f(p)`, where :math:`\int_0^1 f = 1`, neither gains nor loses on average. Two
gamblers get half of the fortune each and share nothing afterwards:

- the Simple Jumper (Vovk et al., 2021) bets :math:`1 + \epsilon (p - \tfrac12)`, :math:`\epsilon \in \{-1, 0, 1\}`, on
  small p-values, on none in particular and on large ones: scores have risen or fallen;
- the other bets on the ends and the middle. For :math:`\epsilon \in \{0.6, 0.8\}` the power bet
  :math:`\epsilon p^{\epsilon - 1}` gains where some scores lie far above, its mirror image
  :math:`\epsilon (1-p)^{\epsilon - 1}` where some lie far below, and the mean of the two where the spread has grown;
  the symmetric beta densities with parameters 2 and 4 gain where it has shrunk.

A gambler's stakes :math:`S^b` on the bets b follow the p-values. At each step the share J = 0.01 is first moved evenly
between his bets, so that a change may come at any time:

.. math:: S_n = \sum_b S_n^b, \qquad
    S_n^b = \left((1 - J)\, S_{n-1}^b + \tfrac{J}{B}\, S_{n-1}\right) f_b(p_n)

from a fortune of 1 before the first new score. A sum of martingales with fixed weights is a martingale, and by Ville's
inequality it ever reaches :math:`1/\alpha` with probability at most :math:`\alpha` without drift. So one over its
largest value is a p-value, whenever one looks.

References
----------
Testing exchangeability on-line (Vovk, Nouretdinov & Gammerman, 2003), for the power martingale
Retrain or not retrain: conformal test martingales for change-point detection (Vovk et al., 2021),
https://arxiv.org/abs/2102.10439, for the Simple Jumper
"""

from __future__ import annotations

import numpy as np

JUMP = 0.01
BLOCK = 1024
SLOPES = (-1.0, 0.0, 1.0)
EXPONENTS = (0.6, 0.8)
SMALLEST = 1e-12  # p-values count as no smaller: the power bets then gain a little less than they may


def online_p_values(reference: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smoothed conformal p-value of each new score among the reference and all new ones up to itself, ``(N,)``.

    Ties are broken at random, which makes the p-values of exchangeable scores independent and exactly uniform.
    """
    known = np.sort(reference)
    p = np.empty(len(new))
    for start in range(0, len(new), BLOCK):
        part = new[start : start + BLOCK]
        above = len(known) - np.searchsorted(known, part, side="right")
        ties = np.searchsorted(known, part, side="right") - np.searchsorted(known, part, side="left")
        earlier = np.tri(len(part), dtype=bool)  # row i sees columns 0..i, itself included
        above = above + ((part[None, :] > part[:, None]) & earlier).sum(axis=1)
        ties = ties + ((part[None, :] == part[:, None]) & earlier).sum(axis=1)
        total = len(known) + np.arange(1, len(part) + 1)
        p[start : start + BLOCK] = (above + rng.random(len(part)) * ties) / total
        known = np.sort(np.concatenate([known, part]), kind="stable")
    return p


def log_martingale(p: np.ndarray) -> np.ndarray:
    """Logarithm of the two gamblers' fortune after each p-value, ``(N,)``."""
    both = np.logaddexp(log_fortune(linear_bets(p)), log_fortune(bets_on_ends_and_middle(p)))
    result: np.ndarray = both - np.log(2)
    return result


def linear_bets(p: np.ndarray) -> np.ndarray:
    """By how much the Simple Jumper's stakes are multiplied, ``(N, 3)``."""
    return 1 + np.array(SLOPES) * (p[:, None] - 0.5)


def bets_on_ends_and_middle(p: np.ndarray) -> np.ndarray:
    """By how much the other gambler's stakes are multiplied, ``(N, 9)``; the first bet is on nothing."""
    power = np.array(EXPONENTS)
    low, high = (power * np.maximum(end, SMALLEST)[:, None] ** (power - 1) for end in (p, 1 - p))
    middle = p * (1 - p)
    return np.column_stack([np.ones(len(p)), low, high, (low + high) / 2, 6 * middle, 140 * middle**3])


def log_fortune(bets: np.ndarray) -> np.ndarray:
    """Logarithm of one gambler's fortune, ``(N,)``, from what each of his bets is worth at each step, ``(N, B)``."""
    n_bets = bets.shape[1]
    stakes = np.full(n_bets, 1 / n_bets)
    growth = np.empty(len(bets))
    for i, factors in enumerate(bets):
        stakes = ((1 - JUMP) * stakes + JUMP / n_bets) * factors
        growth[i] = stakes.sum()
        stakes /= growth[i]
    result: np.ndarray = np.log(growth).cumsum()
    return result

r"""Exemplars: latent means of rows, and the mean of p(x|z) that belongs to each.

The latents are the means :math:`\mu(x_j)` of training and held-out rows. Under white noise two more numbers are fitted,
the variance v and the share :math:`\alpha` by which each exemplar's mean moves from the decoder's output,
:math:`\hat x_j`, towards the row that it encodes:

.. math::

    (v, \alpha)^* = \arg\max \; \mathrm{mean}_i \, \log \frac1n \sum_j
    N\!\left(x_i; \, (1 - \alpha) \, \hat x_j + \alpha \, x_j, \; v I\right)

over held-out rows :math:`x_i` and the exemplars j of training rows. With fewer than ten held-out rows, the exemplars of
training rows are each scored under all others. For each share of 0, 1/8, ..., 1, v comes from expectation
maximisation, its limit found faster; with squared distances d and responsibilities r,

.. math::

    v \leftarrow g(v) = \frac{1}{MD} \sum_{ij} r_{ij} \, d_{ij}^2, \qquad r_{ij} \propto \exp(-d_{ij}^2 / 2v),

whose fixed point is found by secants of :math:`\log g(v) - \log v` over :math:`\log v`, in a few steps instead of
dozens. The distances for all shares are combined from those to the decoder's outputs and to the rows,

.. math::

    \lVert x - (1 - \alpha) \hat x_j - \alpha x_j \rVert^2 = (1 - \alpha) \lVert x - \hat x_j \rVert^2
    + \alpha \lVert x - x_j \rVert^2 - \alpha (1 - \alpha) \lVert \hat x_j - x_j \rVert^2 .

Then 100 small sets of 16 exemplars are drawn at random. Few exemplars lie farther from a row, so their noise is wider,
by the factor of the highest mean log-density of rows that are left out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from vae_anomaly.fitting.prior_fit import LIKELIHOOD_ROWS, FittingRows, PriorFit
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.likelihoods.gaussian import SMALLEST_VARIANCE
from vae_anomaly.model.pairs import squared_distances
from vae_anomaly.model.priors.exemplars import CACHE_VALUES, N_SETS, NEGLIGIBLE, SET_SIZE, Exemplars, most_exemplars
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import PRIOR_FITS
from vae_anomaly.scoring.blocks import by_block

ENOUGH_ROWS = 10  # held out, since they fit only two numbers
SHARES = tuple(i / 8 for i in range(9))
VARIANCE_STEPS = 20
TOLERANCE = 1e-6  # of the variance's logarithm
SMALLEST_SLOPE = 0.05  # of the secant, which bounds a step to 20 of expectation maximisation
LARGEST_LOG_SPREAD = 20.0
WEIGHT_OF_ALL, WEIGHT_AMONG_ANOMALIES = 0.5, 0.25
FAR = 1e20  # more than squared distances of scaled rows; in single precision it keeps no weight


@PRIOR_FITS.register("exemplars")
class ExemplarsFit(PriorFit):
    """Latent means of rows, and how far the mean of each moves from the decoder's output towards its row."""

    def after_likelihood(self, vae: VAE, rows: FittingRows, x: Tensor) -> None:
        exemplars, of_training = rows.exemplars(most_exemplars(rows.n_features))
        enough = len(rows.held_out) >= ENOUGH_ROWS
        held_out = rows.scaled_sample(rows.held_out, LIKELIHOOD_ROWS) if enough else None
        fit_exemplars(vae, exemplars, of_training, held_out, rows)


def fit_exemplars(
    vae: VAE, rows: np.ndarray, of_training: np.ndarray, held_out: Tensor | None, fitting: FittingRows
) -> None:
    """Set ``vae.prior``; under white noise fit the likelihood's variance and the share of the rows too.

    Parameters
    ----------
    vae
        Trained.
    rows
        Raw rows ``(n, D)``, the exemplars.
    of_training
        ``(n,)`` bool: which of them the networks were trained on.
    held_out
        Scaled rows ``(M, D)`` whose mean log-density is maximised. None: the exemplars of training rows, each under all
        others of them.
    fitting
        As `with_small_sets` takes it.
    """
    loc, p = vae.scaling.loc, vae.likelihood
    results = by_block(vae, rows, lambda x: (vae.encode(x).mu, vae.reconstruct(x)))
    latents, decoded = (torch.from_numpy(result).to(loc) for result in results)
    training = torch.from_numpy(np.flatnonzero(of_training)).to(loc.device)
    if p.shared_variance is None or len(training) < 2:
        vae.prior = Exemplars(latents, decoded)
        return
    exemplars = vae.scaling(torch.from_numpy(rows).to(loc))
    x = (exemplars[training][:LIKELIHOOD_ROWS] if held_out is None else held_out).double()
    from_decoded, from_rows = (squared_distances(x, ends[training]) for ends in (decoded, exemplars))
    between = (decoded - exemplars)[training].double().square().sum(dim=1)
    best, best_share = -math.inf, 0.0
    for share in SHARES:
        squared = torch.lerp(from_decoded, from_rows, share).sub_(between, alpha=share * (1 - share)).clamp_(min=0)
        if held_out is None:
            squared.fill_diagonal_(FAR)
        variance, density = best_variance(squared, rows.shape[1])
        if density > best:
            best, best_share = density, share
            p.shared_variance.copy_(variance)
    vae.prior = with_small_sets(p, latents, torch.lerp(decoded, exemplars, best_share), exemplars, fitting)


@torch.no_grad()
def with_small_sets(p: Likelihood, latents: Tensor, decoded: Tensor, x: Tensor, fitting: FittingRows) -> Exemplars:
    """The prior with its small sets, drawn at random, and with the spread that suits them.

    Parameters
    ----------
    p
        Fitted, of white noise.
    latents, decoded
        As `Exemplars` has them.
    x
        Scaled rows of the exemplars ``(n, D)``. The spread has the highest mean of log p_s(x) over sets s and up to
        1,000 of these rows, each left out of the sets that it is in.
    fitting
        Gives the generator that draws the sets, and whether anomalies are expected among the exemplars: then the set of
        all of them has less weight.
    """
    n = len(latents)
    size = min(SET_SIZE, n // 2)
    if size == 0:
        return Exemplars(latents, decoded)
    weight = torch.tensor(WEIGHT_AMONG_ANOMALIES if fitting.may_be_anomalies else WEIGHT_OF_ALL)
    members = torch.stack([torch.randperm(n, generator=fitting.generator)[:size] for _ in range(N_SETS)])
    prior = Exemplars(latents, decoded, members, weight=weight.to(latents))
    rows = torch.arange(min(n, LIKELIHOOD_ROWS), device=x.device)

    def loss(log_spread: float) -> float:
        prior.spread.fill_(math.exp(log_spread))
        return -float(prior.small_sets(p).terms(x[rows], rows).log_density.mean())

    best = minimize_scalar(loss, bounds=(0, LARGEST_LOG_SPREAD), method="bounded", options={"xatol": 0.01})
    prior.spread.fill_(math.exp(best.x))
    return prior


def best_variance(squared: Tensor, n_features: int) -> tuple[Tensor, float]:
    """The variance of the highest mean log-density under equally likely Gaussians, and that density up to a constant.

    From squared distances ``(M, n)`` float64 of rows and means.
    """
    nearest = squared.amin(dim=1)
    beyond = (squared - nearest[:, None]).clamp_(max=FAR).float()  # takes a third of the time of double precision
    slices = torch.split(beyond, max(1, CACHE_VALUES // beyond.shape[1]))

    def responsibilities(variance: float) -> tuple[Tensor, Tensor]:
        """Sum of the densities over the nearest mean's, and mean squared distance by responsibility, ``(M,)`` each."""
        parts = []
        for rows in slices:
            r = torch.mul(rows, -0.5 / variance).clamp_(min=NEGLIGIBLE).exp_()
            parts.append((r.sum(dim=1), r.mul_(rows).sum(dim=1)))
        total, weighted = (torch.cat(part).double() for part in zip(*parts, strict=True))
        return total, nearest + weighted / total

    log_variance = math.log(max(float(nearest.mean()) / n_features, SMALLEST_VARIANCE))
    step, change_before = 0.0, 0.0
    for _ in range(VARIANCE_STEPS):
        log_variance += step
        variance = math.exp(log_variance)
        total, distance = responsibilities(variance)
        change = math.log(max(float(distance.mean()) / n_features, SMALLEST_VARIANCE)) - log_variance
        if abs(change) < TOLERANCE:
            break
        slope = (change - change_before) / step if step else -1.0
        step, change_before = change / max(-slope, SMALLEST_SLOPE), change
    log_p = total.log() - 0.5 * nearest / variance
    return squared.new_tensor(variance), float(log_p.mean()) - 0.5 * n_features * log_variance

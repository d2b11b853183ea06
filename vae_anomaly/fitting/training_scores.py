r"""Scores of the rows that a model was fitted on, to find anomalies among them.

A prior of exemplars leaves a row out of its own score, so `FittedModel.score_samples` gives a training row what it
gives a new one. But nobody has said which training rows are anomalies, and those of a kind vouch for each other. So the
*order* of training rows is that of the ELBO with no weight on the set of all exemplars (`model.priors.exemplars`), and
the k-th lowest row has the k-th lowest of the left-out scores. These scores are distributed as those of new rows are,
and the threshold for new rows suits them.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.model.priors.base import Prior
from vae_anomaly.model.priors.exemplars import Exemplars, median_of_sets, terms_of
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import SCORES
from vae_anomaly.storage.rows import Rows

MAX_ROWS = 20_000


def leaves_out_own_row(prior: Prior | type[Prior], score: str) -> bool:
    """Whether a training row has this score, by this prior, as a new row would have it."""
    return bool(prior.leaves_out_own_row and SCORES.entry(score).facts.get("leaves_out_own_row"))


def training_scores(model: FittedModel, rows: Rows) -> np.ndarray | None:
    """The score in use of the rows that were fitted, ``(N,)`` float64.

    None for more than 20,000 of them, and if the score would be higher than that of new rows.
    """
    if not rows.in_memory or len(rows) > MAX_ROWS or not leaves_out_own_row(model.vae.prior, model.score):
        return None
    rows, prior = rows.computable().flat(), model.vae.prior
    if model.score != "elbo" or not isinstance(prior, Exemplars) or prior.members is None:
        return model.score_samples(rows)
    left_out, by_small_sets = model.by_block(rows, elbo_and_without_weight)
    order = rankdata(by_small_sets, method="min") - 1
    return np.asarray(np.sort(left_out)[order])


def elbo_and_without_weight(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The ELBO of scaled rows ``(N, D)``, and the same with no weight on the set of all, ``(N,)`` float64 each."""
    assert isinstance(vae.prior, Exemplars)
    large, small = terms_of(vae, vae.prior, x)
    assert small is not None
    reconstruction, kl = vae.prior.terms(large, small)
    return reconstruction - kl, torch.minimum(large.log_density, median_of_sets(small)[0])[:, 0]

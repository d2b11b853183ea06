"""The contract of fitting a prior after training, and the rows that are used for it.

An entry of `vae_anomaly.registry.PRIOR_FITS` is a subclass of `PriorFit`, registered under the name of its prior. The
likelihood is fitted between its two steps, since it depends on the posterior that goes with the prior, and the second
step may depend on the likelihood. Weights of the networks stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.fitting.batches import sample_indices
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.storage.rows import Rows, RowsInMemory

ENOUGH_ROWS, ENOUGH_MAPS = 100, 5  # held out, to fit a likelihood to them; of maps of latents
LIKELIHOOD_ROWS = 1_000
MORE_ROWS = 5_000
MAX_VALUES = 50_000_000  # in one array, however large a row is


@dataclass(frozen=True)
class FittingRows:
    """Raw rows of normals, and how to take some of them at random.

    Parameters
    ----------
    training
        Rows ``(N, D)`` that the networks were trained on, perhaps on disk.
    held_out
        Others, ``(M, D)``.
    scaling
        The model's.
    generator
        Chooses rows, on the CPU.
    others
        More rows ``(K, D)`` that may be exemplars, of few rows that all are used; nothing else is fitted to them.
    may_be_anomalies
        Whether some of all these rows are expected to be anomalies.
    enough
        How many held-out rows are enough.
    """

    training: Rows
    held_out: RowsInMemory
    scaling: Scaling
    generator: torch.Generator
    others: RowsInMemory | None = None
    may_be_anomalies: bool = False
    enough: int = ENOUGH_ROWS

    @property
    def has_enough_held_out(self) -> bool:
        """Whether 100 rows are held out, or as many as are enough."""
        return len(self.held_out) >= self.enough

    @property
    def preferred(self) -> Rows:
        """The held-out rows if there are enough of them, else the training rows."""
        return self.held_out if self.has_enough_held_out else self.training

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.training.shape[1])

    def sample(self, rows: Rows, most: int) -> np.ndarray:
        """Up to ``most`` different rows ``(n, D)`` at random, raw; fewer where large ones come from disk."""
        return rows[sample_indices(rows, rows.max_rows_in_memory(most), self.generator)]

    def scaled_sample(self, rows: Rows, most: int) -> Tensor:
        """The same, scaled and on the model's device, of at most 50 million values or one row."""
        loc = self.scaling.loc
        raw = self.sample(rows, min(most, MAX_VALUES // self.n_features + 1))
        x: Tensor = self.scaling(torch.from_numpy(raw).to(loc.device, loc.dtype))
        return x

    def exemplars(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Up to ``most`` different rows ``(n, D)`` at random, raw, and which are training rows, ``(n,)``.

        They are training and held-out rows, which are not copied into one set for it, and then all of ``others``.
        """
        X, others = self.training, self.held_out
        chosen = sample_indices(X, X.max_rows_in_memory(most), self.generator, more=len(others))
        rows = np.empty((len(chosen), X.shape[1]), X.dtype)
        of_training = chosen < len(X)
        rows[of_training], rows[~of_training] = X[chosen[of_training]], others[chosen[~of_training] - len(X)]
        if self.others is None:
            return rows, of_training
        more = np.zeros(len(self.others), dtype=bool)
        return np.concatenate([rows, self.others.values]), np.concatenate([of_training, more])


class PriorFit:
    """How a prior is fitted; by default nothing is done."""

    def before_likelihood(self, vae: VAE, rows: FittingRows) -> None:
        """Set ``vae.prior``."""

    def after_likelihood(self, vae: VAE, rows: FittingRows, x: Tensor) -> None:
        """Set or refine ``vae.prior``, once the likelihood is fitted.

        Parameters
        ----------
        vae
            Trained, with its likelihood fitted.
        rows
            All rows.
        x
            The scaled rows ``(M, D)`` that the likelihood was fitted to: a sample of ``rows.preferred``.
        """


def row_budget(rows: int, values: int, n_features: int) -> int:
    """How many rows to take: ``rows``, or up to 5,000 if those have at most this number of values together."""
    return max(rows, min(MORE_ROWS, values // n_features))

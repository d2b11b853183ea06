r"""Evidence: the terms of a row's ELBO, feature by feature and latent by latent.

.. math::

    \mathrm{ELBO}(x) = \sum_d E_q[\log p(x|z)]_d - \sum_j \mathrm{KL}_j

Both terms are sums already: of what each feature costs under the likelihood, and each latent under the prior. What
belongs to no single one (a determinant, the choice of a mixture's component) is spread evenly. Nothing is approximated
and no gradient is taken, so the shares add up to the terms. The prior computes them
(`vae_anomaly.model.priors.base.Prior.parts`); here they get the units of the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from torch import Tensor

from vae_anomaly.columns import Columns
from vae_anomaly.model.vae import VAE
from vae_anomaly.tables.frames import as_frame, is_frame
from vae_anomaly.tables.words import FeatureInWords, decoded, feature_in_words, times_of

if TYPE_CHECKING:
    import pandas as pd

TOP = 5
REASONS = 3
LEAST_NATS = 1.0  # that a reason costs
LEAST_SHARE = 0.1  # of the first one's nats
NO_REASON = "no column alone"


class ElboTerms(NamedTuple):
    """The two terms of each sample's ELBO, ``(N,)`` float64, in nats: ELBO = reconstruction - kl."""

    reconstruction: np.ndarray
    kl: np.ndarray


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Explanation:
    """Where the ELBO of each of N samples comes from; arrays are float64, images flat rows of D features.

    Attributes
    ----------
    reconstruction
        ``(N, D)``: each feature's share of the reconstruction term, in nats. Rows sum to that of ``elbo_terms``.
    kl
        ``(N, L)``: each latent's share of the KL term, in nats. Rows sum to that of ``elbo_terms``; with a mixture
        prior a share can be negative. With exemplars as prior the latent variable takes n values instead of having L
        coordinates: then ``(N, n)``, the share r log(n r) of each exemplar by its responsibility r.
    expected
        ``(N, D)``: what the model expects of this sample, in the units of the data: the likelihood's mean, averaged
        over the fixed draws or, by responsibility, over the exemplars. Of a category the code of the likeliest level,
        which ``columns`` names; of a date seconds since 1970.
    spread
        ``(N, D)``: the standard deviation that the model expects around it, in the units of the data: the likelihood's
        variance plus that of its mean over draws or exemplars. Under correlated noise a single pixel may be far off if
        its neighbours are off the other way, so the spread is many times the residuals that images have. Of a category
        the probability of all levels but the likeliest.
    excess
        ``(N, D)``: nats that the feature costs beyond its entropy, which is what the likelihood itself predicts. Zero
        on average for a sample that p(x|z) drew; the higher, the more suspicious. Under correlated noise, whose
        variance counts fewer observations than there are pixels, it is below zero for most pixels, and the differences
        between them matter.
    observed
        ``(N, D)``: the samples, as ``expected`` has them; NaN for a gap. Images that the model aligns are aligned.
    names
        Of the D features.
    columns
        What the features are, of a table with more than plain numbers; otherwise None.
    index
        ``(N,)``: what `to_frame` calls the samples; a DataFrame's own index.
    table
        The samples as they came, if they came as a DataFrame; levels that the model does not know are named by it.
    """

    reconstruction: np.ndarray
    kl: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    excess: np.ndarray
    observed: np.ndarray
    names: tuple[str, ...]
    columns: Columns | None = None
    index: Any = None
    table: pd.DataFrame | None = None

    @classmethod
    def of_rows(
        cls, rows: np.ndarray, arrays: Iterable[np.ndarray], names: tuple[str, ...], columns: Columns | None, table: Any
    ) -> Self:
        """The explanation with these arrays, in the order of its fields, of rows that perhaps came from a table."""
        names_of_parts = ("reconstruction", "kl", "expected", "spread", "excess", "observed")
        parts = dict(zip(names_of_parts, arrays, strict=False))  # the last is of images that the model aligned
        own = None
        if is_frame(table):
            own = as_frame(table)
            own = own.set_axis([str(name) for name in own.columns], axis=1)
            if columns is not None and not set(columns.names) <= set(own.columns):
                own = None
        index = None if own is None else own.index
        observed = parts.pop("observed", np.asarray(rows, dtype=np.float64))
        return cls(**parts, observed=observed, names=names, columns=columns, index=index, table=own)

    def __len__(self) -> int:
        return len(self.excess)

    def __repr__(self) -> str:
        n, n_features = self.excess.shape
        return f"<Explanation of {n:,} samples by {n_features:,} features: in_words(), top(), to_frame()>"

    def to_frame(self) -> pd.DataFrame:
        """One line for each feature of each sample, in their order.

        Returns
        -------
        DataFrame
            ``sample`` (from `index`), ``feature``, ``observed``, ``expected`` and ``spread`` in the feature's own
            units (levels by name, dates as timestamps), ``excess`` and ``reconstruction`` in nats.
        """
        return self._lines(np.tile(np.arange(self.excess.shape[1]), (len(self), 1)))

    def top(self, k: int = TOP) -> pd.DataFrame:
        """As `to_frame`, the ``k`` features alone that cost each sample most, the worst first."""
        return self._lines(self._worst(k))

    def in_words(self, k: int = REASONS) -> list[str]:
        """Why each sample has its score, in a line: ``carat 0.2, expected 1.5 ± 0.1; clarity SI2, expected IF (91 %)``.

        At most ``k`` features are named, the worst first; each costs at least one nat, and a tenth of what the first
        costs. Where there is none, no feature is odd alone: the sample is as expected, or its combination is unusual.
        """
        lines = []
        for row, places in enumerate(self._worst(k)):
            nats = self.excess[row, places]
            named = places[nats >= max(LEAST_NATS, LEAST_SHARE * nats[0])]
            words = [(self.names[place], self.feature_in_words(row, place)) for place in named]
            told = [f"{name} {word.observed}, expected {word.expectation}" for name, word in words]
            lines.append("; ".join(told) or NO_REASON)
        return lines

    def feature_in_words(self, row: int, place: int) -> FeatureInWords:
        """What was observed of one feature of one sample, and what was expected, as text."""
        column = None if self.columns is None else self.columns.modelled[place]
        own = None if self.table is None or column is None else self.table[column.name].iat[row]
        observed, expected, spread = (float(array[row, place]) for array in (self.observed, self.expected, self.spread))
        return feature_in_words(column, observed, expected, spread, own)

    def _worst(self, k: int) -> np.ndarray:
        """Places of the features that cost most, ``(N, k)``."""
        return np.argsort(-self.excess, axis=1, kind="stable")[:, : max(1, k)]

    def _lines(self, places: np.ndarray) -> pd.DataFrame:
        """Lines for the features at places ``(N, k)``."""
        import pandas as pd

        index = np.arange(len(self)) if self.index is None else np.asarray(self.index)
        at = np.arange(len(self))[:, None], places
        values = {"observed": self.observed, "expected": self.expected, "spread": self.spread}
        own = {name: self._own_units(name, array)[at].ravel() for name, array in values.items()}
        return pd.DataFrame(
            {
                "sample": np.repeat(index, places.shape[1]),
                "feature": np.array(self.names, dtype=object)[places].ravel(),
                **{name: pd.Series(array).infer_objects() for name, array in own.items()},
                "excess": self.excess[at].ravel(),
                "reconstruction": self.reconstruction[at].ravel(),
            }
        )

    def _own_units(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values ``(N, D)`` with levels by name, and dates as timestamps; a date's spread as a duration."""
        import pandas as pd

        if self.columns is None:
            return values
        frame = decoded(values, self.columns)
        own = np.empty(values.shape, dtype=object)
        for place, column in enumerate(self.columns):
            if name != "spread":
                own[:, place] = list(frame[column.name])
            elif column.kind == "date":
                own[:, place] = list(pd.to_timedelta(times_of(values[:, place]) - np.datetime64(0, "us")))
            else:
                own[:, place] = values[:, place]
        return own


def names_of_features(
    feature_names: tuple[str, ...] | None, image_shape: tuple[int, ...] | None, n_features: int
) -> tuple[str, ...]:
    """Column names; of images ``row, column`` or ``row, column, channel``; otherwise ``feature 0`` and so on."""
    if feature_names is not None:
        return feature_names
    if image_shape is not None:
        sides = image_shape[:2] if image_shape[2] == 1 else image_shape
        return tuple(", ".join(map(str, place)) for place in itertools.product(*map(range, sides)))
    return tuple(f"feature {place}" for place in range(n_features))


def explain(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
    """Reconstruction, kl, expected, spread and excess of an `Explanation` of scaled rows ``(N, D)``.

    And ``observed``, if the rows are aligned images.
    ``noise`` is as for `elbo_terms`.
    """
    parts = vae.prior.parts(vae, x, noise)
    scaling = vae.scaling
    reconstruction = scaling.to_features(parts.reconstruction)
    excess = scaling.to_features(-parts.reconstruction - parts.entropy)
    spread = scaling.spread(parts.mean, parts.variance)
    observed = (scaling.inverse(x),) if scaling.aligns else ()
    return reconstruction, parts.kl, scaling.inverse(parts.mean), spread, excess, *observed


def posterior_mean(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor]:
    """Means of q(z|x), ``(n, latent_dim)``."""
    return (vae.encode(x).mu,)


def reconstruction(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor]:
    """Means of p(x|z) at the posterior means, ``(n, D)``, in the units of the data."""
    return (vae.scaling.inverse(vae.reconstruct(x)),)

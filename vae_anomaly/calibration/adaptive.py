r"""A threshold that follows slow drift, and keeps the long-run share of flagged rows on any sequence.

Adaptive conformal inference flags row t if its p-value is at most a level that is raised a little after each row that
is not flagged and lowered after one that is:

.. math:: \alpha_{t+1} = \alpha_t + \gamma (\alpha - f_t), \qquad f_t = 1\{p_t \le \alpha_t\}.

A level below 0 flags nothing and one of 1 flags everything, so it never leaves
:math:`[-\gamma, 1 + \gamma]`, and summing up gives, for *any* sequence of p-values in (0, 1], chosen by an adversary
or not,

.. math:: \left| \frac1T \sum_{t \le T} f_t - \alpha \right|
   \le \frac{\max(\alpha_1, 1 - \alpha_1) + \gamma}{\gamma T}.

What is kept is the share of *all* rows, anomalies included, and not a share of the normals: the rule never learns which
are normal. It flags the most unusual rows of each time. If nothing is unusual it flags some all the same, and a lasting
shift counts as normal after a while. The level starts at :math:`\alpha`, and is
:math:`\alpha + \gamma (\alpha t - \sum f)`, computed from counts, so it gathers no rounding.

A p-value here is the rank of a score among the latest ones: those of held-out normals at first, each of which makes
room for a row of the stream. Against the held-out normals alone all p-values would become the smallest one once the
scores have drifted above these, and rows would be flagged by turns.

References
----------
Adaptive conformal inference under distribution shift (Gibbs & Candès, 2021), https://arxiv.org/abs/2106.00170
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.calibration.conformal import finite_scores
from vae_anomaly.calibration.online import Decisions, column_of, count_in, share_of
from vae_anomaly.errors import DataError

STEP = 0.005
WINDOW = 1000
GOLDEN = (5**0.5 - 1) / 2


class AdaptiveThreshold:
    """Decide rows one after the other; in the long run ``share`` of all rows is flagged, whatever they are.

    Parameters
    ----------
    share : float
        Share of the rows to flag, in (0, 1).
    normals : array of shape (n,)
        Anomaly scores of held-out normals, with which the stream is compared at first.
    step : float
        How much the level moves at a time, in (0, 1): a larger one keeps the share sooner, by levels that vary more.
    window : int
        Number of latest scores that a score is compared with.

    Attributes
    ----------
    n_rows, n_flagged : int
        Rows so far, and how many of them were flagged.

    Raises
    ------
    DataError
        If a parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> stream = AdaptiveThreshold(0.05, rng.normal(size=500))
    >>> drifting = rng.normal(size=20_000) + np.linspace(0, 30, 20_000)
    >>> round(float(stream.update(drifting).flagged.mean()), 2)
    0.05
    """

    def __init__(self, share: float, normals: ArrayLike, *, step: float = STEP, window: int = WINDOW) -> None:
        self.share, self.step = share_of(share, "share"), share_of(step, "step")
        if window < 1:
            raise DataError(f"window must be at least 1, got {window}")
        self.window = window
        self.n_rows = self.n_flagged = 0
        first = spread(finite_scores(np.asarray(normals), "normals"), window)
        self._n_first = len(first)
        self._remember(first.tolist())

    def _remember(self, latest: list[float]) -> None:
        """Compare with these scores, the oldest first."""
        self._latest, self._ordered = deque(latest), sorted(latest)

    @property
    def level(self) -> float:
        """What the next row's p-value must not exceed for it to be flagged."""
        return self.share + self.step * (self.share * self.n_rows - self.n_flagged)

    def update(self, scores: ArrayLike) -> Decisions:
        """Decide the next rows.

        Parameters
        ----------
        scores
            Anomaly scores ``(N,)``, higher is more anomalous, in the order of the rows.

        Returns
        -------
        Decisions
            Arrays ``(N,)``: p-values among the latest scores, and levels.

        Raises
        ------
        DataError
            If they are no vector of finite numbers; nothing is decided then.
        """
        column = column_of(scores, "scores")
        p, levels = np.empty(len(column)), np.empty(len(column))
        for i, score in enumerate(column.tolist()):
            n = len(self._ordered)
            p[i] = p_value = (1 + n - bisect_left(self._ordered, score)) / (n + 1)
            levels[i] = level = self.level
            self.n_rows += 1
            self.n_flagged += p_value <= level
            if n == self.window:
                del self._ordered[bisect_left(self._ordered, self._latest.popleft())]
            insort(self._ordered, score)
            self._latest.append(score)
        return Decisions(p <= levels, p, levels)

    def to_state(self) -> dict[str, Any]:
        """What is known of the rows so far: counts, and the latest scores, ready for JSON."""
        return {"rows": self.n_rows, "flagged": self.n_flagged, "latest": list(self._latest)}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on after the rows that a state of `to_state` counts, by a rule with the same parameters.

        Raises
        ------
        DataError
            If no rows can have led to that state.
        """
        n_rows = count_in(state, "rows")
        n_flagged = count_in(state, "flagged", n_rows)
        latest = state.get("latest")
        if not isinstance(latest, list) or not all(type(score) is float and np.isfinite(score) for score in latest):
            raise DataError("the state's latest must be finite scores")
        level = self.share + self.step * (self.share * n_rows - n_flagged)
        n_latest = min(self.window, self._n_first + n_rows)
        if not -self.step <= level <= 1 + self.step or len(latest) != n_latest:
            raise DataError(
                f"the state's {n_flagged:,} flagged and {len(latest):,} latest of {n_rows:,} rows do not fit each other"
            )
        self.n_rows, self.n_flagged = n_rows, n_flagged
        self._remember(latest)


def spread(scores: np.ndarray, most: int) -> np.ndarray:
    """At most so many of these scores, evenly by rank, in an order in which each stretch is spread over all of them."""
    ordered = np.sort(scores)
    n = min(most, len(ordered))
    kept: np.ndarray = ordered[((np.arange(n) + 0.5) * len(ordered) / n).astype(int)]
    return np.take(kept, np.argsort(np.arange(n) * GOLDEN % 1, kind="stable"))

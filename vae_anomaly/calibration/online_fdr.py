r"""Which rows of a stream to flag, one after the other, so that few of those flagged are normal: at every time.

SAFFRON compares the p-value of row t with a level :math:`\alpha_t` that depends on the rows before it alone. The
levels are paid for: a budget W is there at the start and is earned again by every discovery (a row that is flagged)
but the first, and each *candidate*, a row with a p-value of at most :math:`\lambda`, is tested for nothing. So

.. math:: \sum_{s \le t, \; p_s > \lambda} \alpha_s \le W \max(1, R_t)
   \qquad \text{for the number } R_t \text{ of discoveries among the first t rows, for every t.}

With :math:`\lambda = 0` no row is a candidate, which is LORD++. How a budget is spent is free. Here it is spent
evenly over K rows that are no candidates: the level is W / K for each budget of the last K such rows. Where p-values
are coarse no other way can flag a row for longer: n held-out normals give none below 1 / (n + 1), so a lower level
flags nothing, and K is the largest whole number for which W / K is not lower. The usual sequences, such as one that
falls with the power 1.6 of the time, are below that after a few rows. What has to be known of the past is how many
budgets there are of each age below K, however long the stream.

**What is promised.** FDR(t) is the expected share of normals among the rows flagged up to t; 0 where none is. Let
each normal row be independent of all other rows, given the held-out normals. What follows is about every t that is
fixed beforehand, not about one chosen by what was found.

- *p-values that are valid given the held-out normals* (`conformal.conditional`, for all but a share delta of the draws
  of these; or p-values of another origin): with W = (1 - lambda) q, FDR(t) <= q for every t, by the theorems of SAFFRON
  and LORD++, which ask for independent p-values.
- *Conformal p-values* against one set of n held-out normals are neither independent nor valid given the rows before:
  low held-out scores make all p-values small. They are positively dependent (PRDS), for which LOND is proven, but not
  these two: Fisher's theorem for local positive dependence asks for validity given the rows before. Yet

  .. math:: W = \frac{6}{\pi^2} \, \frac{n - l}{n + 1} \, q, \quad l = \lfloor \lambda (n + 1) \rfloor

  (without the second factor for :math:`\lambda = 0`) is enough for FDR(t) <= q at every t, for any n, any law of the
  scores, ties included, and any anomalies, also those that depend on the held-out normals. LORD++ cannot do
  without the factor against the worst of these, which keep the level at the j for which :math:`q_j / j` below is
  largest.

*Proof of the second.* Given the held-out normals, rows are independent, and a normal's p-value is at most
j / (n + 1) with a probability that is not above the j-th smallest of n uniform numbers, :math:`q_j = G_j / G_{n+1}`,
where the :math:`G_j` are sums of j independent exponential ones. More discoveries and candidates never lower a
level, so for a normal row t, with R the discoveries that there were if its p-value were 0,
:math:`E[1\{p_t \le \alpha_t\} / \max(1, R_t)] \le E[q(\alpha_t) / R]` and :math:`E[\alpha_t 1\{p_t > \lambda\} /
\max(1, R_t)] \ge (1 - q_l) E[\alpha_t / R]` (Ramdas et al., Lemma 1). With :math:`S = \max_j (n + 1) q_j / j`, so that
:math:`q(\alpha_t) \le S \alpha_t`, the sum over t is :math:`FDR(t) \le E[S / (1 - q_l)] \, W`. As levels are at most
:math:`\lambda`, :math:`S / (1 - q_l) = (n + 1) \max_{j \le l} (G_j / j) / (G_{n+1} - G_l)`, a ratio of independent
numbers: the mean of 1 over the lower one is 1 / (n - l), and that of :math:`\max_j G_j / j` over all j is
:math:`\pi^2 / 6`, because it exceeds x > 1 with the probability :math:`r = e^{-(1 - r) x}`, whose integral over x from
1 on is :math:`\int_0^1 (-\ln r / (1 - r) - 1) \, dr`. Without candidates, the mean of S itself is at most
:math:`\pi^2 / 6`.

References
----------
SAFFRON: an adaptive algorithm for online control of the false discovery rate (Ramdas et al., 2018),
https://arxiv.org/abs/1802.09098
Online control of the false discovery rate with decaying memory (Ramdas et al., 2017), for LORD++,
https://arxiv.org/abs/1710.00499
Online false discovery rate control for LORD++ & SAFFRON under positive, local dependence (Fisher, 2021),
https://arxiv.org/abs/2110.08161
Asynchronous online testing of multiple hypotheses (Zrnic et al., 2021), for LOND, https://arxiv.org/abs/1812.05068
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.calibration.conformal import conditional
from vae_anomaly.calibration.online import Decisions, column_of, count_in, share_of
from vae_anomaly.constraints import is_integer
from vae_anomaly.errors import DataError

SHARED_NORMALS = 6 / math.pi**2
"""Share of the budget that is left where one set of held-out normals gives all p-values."""
ROWS_OF_A_BUDGET = 1000
"""Where nothing says how coarse p-values are."""


class OnlineFDR:
    """Decide rows one after the other; of those flagged, an expected share of at most ``rate`` is normal at every time.

    Parameters
    ----------
    rate : float
        The false-discovery rate, in (0, 1).
    n_normals : int, optional
        Number of held-out normals against which all p-values were computed by `conformal.p_values`. Without it, the
        p-value of a normal must be valid and independent of all other rows. p-values in groups (`conformal.Mondrian`)
        need an `OnlineFDR` for each group.
    delta : float, optional
        The ``delta`` by which `conformal.conditional` adjusted the p-values. The promise then holds for all but this
        share of the draws of held-out normals.
    candidate_level : float
        Rows with a p-value of at most this cost nothing (SAFFRON), in [0, 1). 0 is LORD++, which suits p-values of
        normals that are larger than they have to be.

    Attributes
    ----------
    smallest : float
        The smallest p-value that a row can have; 0 if that is not known.
    rows_of_a_budget : int
        How many rows that are no candidates a discovery pays for.
    n_rows, n_discoveries : int
        Rows so far, and how many of them were flagged.

    Raises
    ------
    DataError
        If a parameter is out of its range.

    Examples
    --------
    >>> stream = OnlineFDR(rate=0.1)
    >>> stream.update([0.00001, 0.6, 0.00002, 0.9]).flagged.tolist()
    [True, False, True, False]
    >>> later = OnlineFDR(rate=0.1)
    >>> later.resume(stream.to_state())
    >>> later.update([0.00008]).levels.tolist() == stream.update([0.00008]).levels.tolist()
    True
    """

    def __init__(
        self, rate: float, *, n_normals: int | None = None, delta: float | None = None, candidate_level: float = 0.5
    ) -> None:
        self.rate = share_of(rate, "rate")
        if not 0 <= candidate_level < 1:
            raise DataError(f"candidate_level must be at least 0 and below 1, got {candidate_level:g}")
        if n_normals is not None and (not is_integer(n_normals) or n_normals < 1):
            raise DataError(f"n_normals must be a whole number of at least 1, got {n_normals!r}")
        if delta is not None and n_normals is None:
            raise DataError("delta goes with n_normals, the number of held-out normals")
        self.candidate_level = float(candidate_level)
        budget, self.smallest = (1 - candidate_level) * rate, 0.0
        if n_normals is not None and delta is None:
            n_candidates = math.floor(candidate_level * (n_normals + 1) + 1e-9)
            kept = (n_normals - n_candidates) / (n_normals + 1) if candidate_level else 1.0
            budget, self.smallest = SHARED_NORMALS * kept * rate, 1 / (n_normals + 1)
        elif n_normals is not None:
            smallest = conditional(np.array([1 / (n_normals + 1)]), n_normals, share_of(delta or 0, "delta"))
            self.smallest = float(smallest[0])
        fits = ROWS_OF_A_BUDGET if n_normals is None else math.floor((1 - 1e-9) * budget / self.smallest)
        self.rows_of_a_budget = max(1, fits)
        self._unit = budget / self.rows_of_a_budget
        self.n_rows = self.n_discoveries = self._clock = 0
        self._budgets: deque[tuple[int, int]] = deque([(0, 1)])  # when by the clock they were earned, and how many
        self._n_budgets = 1

    @property
    def level(self) -> float:
        """What the next row's p-value must not exceed for it to be flagged."""
        level = self._unit * self._n_budgets
        return min(self.candidate_level, level) if self.candidate_level else level

    @property
    def can_flag(self) -> bool:
        """Whether the next row can be flagged; if not, no later one can, since only discoveries raise the level."""
        return self.level > 0 and self.level >= self.smallest

    def update(self, p_values: ArrayLike) -> Decisions:
        """Decide the next rows.

        Parameters
        ----------
        p_values
            Small is anomalous; ``(N,)``, in [0, 1], in the order of the rows.

        Returns
        -------
        Decisions
            Arrays ``(N,)``: a row is flagged if its p-value is at most its level.

        Raises
        ------
        DataError
            If they are no vector of numbers in [0, 1]; nothing is decided then.
        """
        p = column_of(p_values, "p-values")
        if len(p) and not (p.min() >= 0 and p.max() <= 1):
            raise DataError(f"p-values lie in [0, 1], got {p.min():g} to {p.max():g}")
        levels = np.empty(len(p))
        for i, value in enumerate(p.tolist()):
            levels[i] = level = self.level
            self._count(value, is_discovery=value <= level)
        return Decisions(p <= levels, p, levels)

    def _count(self, p: float, *, is_discovery: bool) -> None:
        """Take a row into account: it costs what was spent on it, and a discovery earns a budget."""
        self.n_rows += 1
        if p > self.candidate_level or not self.candidate_level:
            self._clock += 1
            if self._budgets and self._budgets[0][0] + self.rows_of_a_budget <= self._clock:
                self._n_budgets -= self._budgets.popleft()[1]
        if is_discovery:
            self.n_discoveries += 1
            if self.n_discoveries > 1:
                same = self._budgets.pop()[1] if self._budgets and self._budgets[-1][0] == self._clock else 0
                self._budgets.append((self._clock, same + 1))
                self._n_budgets += 1

    def to_state(self) -> dict[str, Any]:
        """What is known of the rows so far: counts, and pairs of the age and number of budgets, ready for JSON."""
        budgets = [[self._clock - earned, number] for earned, number in self._budgets]
        return {"rows": self.n_rows, "discoveries": self.n_discoveries, "budgets": budgets}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on after the rows that a state of `to_state` counts, by a rule with the same parameters.

        Raises
        ------
        DataError
            If no rows can have led to that state.
        """
        n_rows = count_in(state, "rows")
        n_discoveries = count_in(state, "discoveries", n_rows)
        budgets = state.get("budgets")
        if not isinstance(budgets, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(map(is_integer, pair)) for pair in budgets
        ):
            raise DataError("the state's budgets must be pairs of whole numbers, an age and a number")
        ages, numbers = [age for age, _ in budgets], [number for _, number in budgets]
        oldest = min(n_rows, self.rows_of_a_budget - 1)
        in_order = all(old > young for old, young in zip([oldest + 1, *ages], [*ages, -1], strict=True))
        if not in_order or min(numbers, default=1) < 1 or sum(numbers) > max(1, n_discoveries):
            raise DataError(f"the state's budgets do not fit {n_rows:,} rows with {n_discoveries:,} discoveries")
        self.n_rows, self.n_discoveries, self._clock = n_rows, n_discoveries, 0
        self._budgets = deque((-age, number) for age, number in budgets)
        self._n_budgets = sum(numbers)

"""What is promised with a level of confidence, and how often it is kept in worlds whose truth is known.

A claim is a generator of `Row`s, one for each setting; ``repeats`` says how many data sets are drawn for each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
from scipy.stats import norm
from shifts import SHIFTS
from worlds import WORLDS, adverse_p_values, adverse_stream, truth, world

from vae_anomaly.calibration.adaptive import AdaptiveThreshold
from vae_anomaly.calibration.conformal import conditional as conditional_p_values
from vae_anomaly.calibration.conformal import p_values
from vae_anomaly.calibration.e_values import e_benjamini_hochberg, e_values
from vae_anomaly.calibration.from_normals import Conformal, Quantile
from vae_anomaly.calibration.methods import Method, promised_alarms
from vae_anomaly.calibration.online_fdr import OnlineFDR
from vae_anomaly.calibration.pareto import PeaksOverThreshold
from vae_anomaly.calibration.weighted import Weighted
from vae_anomaly.calibration.with_anomalies import Cost, FBeta, FixedTPR, Youden
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import at_prevalence, compare, measure_drift, roc_auc
from vae_anomaly.evaluation import comparison as comparison_module
from vae_anomaly.evaluation import drift as drift_module
from vae_anomaly.evaluation.bands import Band, p_value_band, precision_recall_band, roc_band
from vae_anomaly.evaluation.bootstrap import OrderedScores
from vae_anomaly.evaluation.drift import distance_with_interval
from vae_anomaly.evaluation.martingale import log_martingale, online_p_values
from vae_anomaly.evaluation.metrics import decisions_at
from vae_anomaly.evaluation.precision_recall import average_precision_estimate
from vae_anomaly.evaluation.sequential import log_evidence
from vae_anomaly.reports.page.selection import threshold_stops

SIZES = ((1, 1), (1, 200), (2, 50), (3, 1000), (5, 5), (10, 10), (20, 200), (50, 50), (100, 3))
AREAS = (0.5, 0.9, 0.99, 0.999, 1.0)
PERFECT = ("some like normals", "some below normals", "outliers among normals")  # worlds that an area of 1 exists in
LAWS = {
    "normal": (lambda rng, n: rng.normal(size=n), norm.isf, norm.sf),
    "heavy tails": (lambda rng, n: rng.standard_cauchy(n), None, lambda x: 0.5 - math.atan(x) / math.pi),
    "ties of 5": (lambda rng, n: rng.integers(0, 5, n).astype(float), None, lambda x: min(1, max(0, (4 - x) / 5))),
    "yes or no, 1 %": (lambda rng, n: (rng.random(n) < 0.01).astype(float), None, lambda x: 0.01 if x < 1 else 0.0),
    "yes or no, 30 %": (lambda rng, n: (rng.random(n) < 0.3).astype(float), None, lambda x: 0.3 if x < 1 else 0.0),
}


@dataclass(frozen=True)
class Row:
    """How often a claim held in a setting.

    Parameters
    ----------
    claim, setting
        What was claimed, and where.
    kept
        In how many of ``repeats`` data sets it held.
    at_least
        The share that passes, before the Monte-Carlo error.
    """

    claim: str
    setting: str
    kept: int
    repeats: int
    at_least: float

    @property
    def share(self) -> float:
        """How often it held."""
        return self.kept / self.repeats

    @property
    def error(self) -> float:
        """Standard error of that, not below that of a share of 95 %."""
        return math.sqrt(max(0.95 * 0.05, self.share * (1 - self.share)) / self.repeats)

    @property
    def passes(self) -> bool:
        """Whether the share is as high as it has to be, within 2.5 standard errors."""
        return self.share >= self.at_least - 2.5 * self.error


def counted(claim: str, setting: str, kept: Iterable[bool], at_least: float = 0.93) -> Row:
    """A row from whether each data set kept the claim."""
    outcomes = list(kept)
    return Row(claim, setting, int(sum(outcomes)), len(outcomes), at_least)


def draw(name: str, auc: float, m: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of m anomalies and n normals."""
    drawn = world(name, auc)
    return np.concatenate([drawn.normal(rng, n), drawn.anomalous(rng, m)]), np.repeat([0, 1], [n, m])


def settings() -> Iterator[tuple[str, float, int, int]]:
    """World, area, m and n."""
    for name, auc, (m, n) in itertools.product(WORLDS, AREAS, SIZES):
        if auc < 1 or name in PERFECT:
            yield name, auc, m, n


def area(repeats: int) -> Iterator[Row]:
    """ROC-AUC's interval."""
    for name, auc, m, n in settings():
        rng = np.random.default_rng(0)
        true = truth(name, auc, 0.5)[0]
        found = (roc_auc(*draw(name, auc, m, n, rng)) for _ in range(repeats))
        yield counted("ROC-AUC interval", f"{name}, AUC {auc}, m {m}, n {n}", (f.low <= true <= f.high for f in found))


def precision(repeats: int) -> Iterator[Row]:
    """Average precision's interval."""
    for name, auc, m, n in settings():
        rng = np.random.default_rng(0)
        true = truth(name, auc, m / (m + n))[1]
        found = (average_precision_estimate(OrderedScores(*draw(name, auc, m, n, rng))) for _ in range(repeats))
        kept = (f.low - 1e-6 <= true <= f.high + 1e-6 for f in found)
        yield counted("average-precision interval", f"{name}, AUC {auc}, m {m}, n {n}", kept)


def comparison(repeats: int) -> Iterator[Row]:
    """The paired test at 5 %, and the interval of the difference, where both scores are equally good."""
    for auc, (m, n) in itertools.product((0.5, 0.9, 0.99), ((1, 1), (1, 50), (2, 50), (3, 50), (10, 50), (50, 50))):
        rng = np.random.default_rng(0)
        labels, results = np.repeat([0, 1], [n, m]), []
        for _ in range(max(24, repeats // 2)):
            shared = rng.normal(size=n + m)
            pair = (
                (shared + rng.normal(size=n + m)) / math.sqrt(2) + norm.ppf(auc) * math.sqrt(2) * labels for _ in "ab"
            )
            with patch.object(comparison_module, "EXCHANGES", 399):  # enough to see the level
                results.append(compare(*pair, labels))
        setting = f"two equal scores, AUC {auc}, m {m}, n {n}"
        yield counted("compare: p > 0.05", setting, (r.p_value > 0.05 for r in results), 0.95)
        yield counted("compare: interval", setting, (r.difference.low <= 0 <= r.difference.high for r in results))


def thresholds(repeats: int) -> Iterator[Row]:
    """Threshold intervals, expected rates, promises for new normals, and the conditional promise."""
    for (law, (sample, _, above)), n, rate in itertools.product(LAWS.items(), (5, 20, 50, 200), (0.05, 0.3)):
        rng = np.random.default_rng(0)
        setting = f"{law}, n {n}, rate {rate}"
        quantile = float(np.quantile(sample(rng, 400_000), 1 - rate, method="inverted_cdf"))
        found = [Quantile(rate).fit(sample(rng, n)).calibration_ for _ in range(repeats)]
        tolerance = 0.02 * abs(quantile) if law == "heavy tails" else 1e-2 * (law == "normal")
        yield counted(
            "threshold interval",
            setting,
            (
                (f.threshold_low is None or f.threshold_low <= quantile + tolerance)
                and (f.threshold_high is None or quantile - tolerance <= f.threshold_high)
                for f in found
            ),
        )
        true = [above(f.threshold) for f in found]
        yield counted(
            "expected false alarms",
            setting,
            (f.false_alarm_low <= rate <= f.false_alarm_high for f, rate in zip(found, true, strict=True)),
        )
        if law in ("normal", "heavy tails"):
            kept = []
            for f in found:
                low, high = promised_alarms(f, 50)
                kept.append(low <= (sample(rng, 50) > f.threshold).mean() <= high)
            yield counted("promised false alarms of 50 normals", setting, kept)


def conditional(repeats: int) -> Iterator[Row]:
    """``conformal --delta``: the rate holds for all but delta of the draws."""
    for n, rate, delta in itertools.product((3, 10, 50, 500), (0.05, 0.1, 0.5), (0.05, 0.2)):
        rng = np.random.default_rng(0)
        try:
            kept = [
                1 - Conformal(rate, delta).choose_threshold(np.sort(rng.random(n)), np.empty(0)) <= rate
                for _ in range(4 * repeats)
            ]
        except DataError:
            continue  # the message says how many it takes
        yield counted("conformal --delta", f"n {n}, rate {rate}, delta {delta}", kept, 1 - delta)


def slider(repeats: int) -> Iterator[Row]:
    """The report's slider, at a threshold fixed beforehand and at the tenth-largest held-out score."""
    for law, (sample, _, above) in LAWS.items():
        rng = np.random.default_rng(0)
        for where in ("a fixed threshold", "a held-out score"):
            kept = []
            for _ in range(repeats):
                held_out = sample(rng, 100)
                at = float(sample(np.random.default_rng(5), 1)[0]) if where[2] == "f" else float(np.sort(held_out)[-10])
                stops = threshold_stops(sample(rng, 20), None, held_out, at)
                true = above(at)
                kept.append(stops.false_alarm_low[stops.current] <= true <= stops.false_alarm_high[stops.current])
            yield counted("slider's false alarms", f"{law}, n 100, {where}", kept)


def tail(repeats: int) -> Iterator[Row]:
    """The rate at a threshold beyond the data."""
    exponential = (lambda rng, n: rng.exponential(size=n), lambda x: math.exp(-x))
    for (law, sample, above), (n, rate) in itertools.product(
        (
            ("normal", LAWS["normal"][0], norm.sf),
            ("exponential", *exponential),
            ("heavy tails", LAWS["heavy tails"][0], LAWS["heavy tails"][2]),
        ),
        ((100, 0.02), (500, 0.004), (500, 0.0001), (2000, 0.001)),
    ):
        rng, kept = np.random.default_rng(0), []
        for _ in range(max(24, repeats // 2)):
            scores, method = np.sort(sample(rng, n)), PeaksOverThreshold(rate)
            method.threshold_ = method.choose_threshold(scores, np.empty(0))
            _, low, high = method.expected_false_alarms(scores)
            kept.append(low <= above(method.threshold_) <= high)
        yield counted("pot: expected false alarms", f"{law}, n {n}, rate {rate}", kept)


def labelled(repeats: int) -> Iterator[Row]:
    """Rates of thresholds that labelled samples chose."""
    methods: dict[str, Callable[[], Method]] = {
        "youden": Youden,
        "f_beta": FBeta,
        "cost": lambda: Cost(miss=10),
        "fixed_tpr": lambda: FixedTPR(0.9),
    }
    for (name, method), (m, n), shift in itertools.product(
        methods.items(), ((1, 50), (2, 50), (3, 100), (5, 5), (10, 100), (50, 50)), (1.0, 3.0)
    ):
        rng, labels, kept = np.random.default_rng(0), np.repeat([0, 1], [n, m]), []
        for _ in range(max(24, repeats // 2)):
            f = method().fit(rng.normal(size=n + m) + shift * labels, labels).calibration_
            kept.append(f.detection_low <= norm.sf(f.threshold - shift) <= f.detection_high)
        yield counted(f"{name}: expected detection", f"shift {shift}, m {m}, n {n}", kept)


def prevalence(repeats: int) -> Iterator[Row]:
    """Precision, F score and cost at a stated share of anomalies, all three at once."""
    for (m, n), share in itertools.product(((1, 5), (3, 50), (10, 10), (20, 200)), (0.001, 0.3)):
        rng, labels, kept = np.random.default_rng(0), np.repeat([0, 1], [n, m]), []
        wrong, found = (1 - share) * norm.sf(1.5), share * norm.sf(-0.5)
        true = (found / (found + wrong), 2 * found / (found + wrong + share), share - found + wrong)
        for _ in range(repeats):
            f = at_prevalence(decisions_at(1.5, rng.normal(size=n + m) + 2 * labels, labels), share)
            ends = [(0.0, 1.0) if e is None else (e.low, e.high) for e in (f.precision, f.f1, f.cost)]
            kept.append(all(low <= value <= high for (low, high), value in zip(ends, true, strict=True)))
        yield counted("evaluate --prevalence", f"share {share}, m {m}, n {n}", kept)


def drift(repeats: int) -> Iterator[Row]:
    """The distance's interval, and the index and the martingale without drift."""
    for (m, n), shift in itertools.product(((1, 1), (3, 10), (100, 50), (500, 500)), (0.0, 1.0, 4.0)):
        rng, true = np.random.default_rng(0), 2 * norm.cdf(shift / 2) - 1
        found = (distance_with_interval(rng.normal(size=m), shift + rng.normal(size=n)) for _ in range(repeats))
        yield counted("drift: KS interval", f"shift {shift}, {m} and {n}", (f.low <= true <= f.high for f in found))
    for m, n, law in itertools.product((5, 100), (3, 50), ("normal", "heavy tails", "ties of 5")):
        rng = np.random.default_rng(0)
        sample = LAWS[law][0]
        with patch.object(drift_module, "EXCHANGES", 39):  # enough to see the level
            results = [measure_drift(sample(rng, m), sample(rng, n)) for _ in range(max(24, repeats // 2))]
        setting = f"no drift, {law}, {m} and {n}"
        yield counted("drift: PSI at most its bound", setting, (r.psi <= r.psi_without_drift for r in results), 0.95)
        yield counted("drift: no alarm", setting, (r.alarm is None for r in results), 0.99)


def alarms(repeats: int) -> Iterator[Row]:
    """The martingale over a long stream without drift, and what it notices, 500 new scores against 500."""
    rng = np.random.default_rng(0)
    for bound in (0.01, 0.05, 0.2):
        kept = [log_martingale(rng.random(1000)).max() < -math.log(bound) for _ in range(repeats)]
        yield counted("drift: no alarm in 1,000 scores", f"no drift, bound {bound}", kept, 1 - bound)
    changes: dict[str, tuple[Callable[[np.random.Generator], np.ndarray], float]] = {
        "spread doubled": (lambda rng: 2 * rng.normal(size=500), 0.95),
        "spread halved": (lambda rng: 0.5 * rng.normal(size=500), 0.95),
        "5 % gross outliers": (lambda rng: rng.normal(size=500) + 10 * (rng.random(500) < 0.05), 0.5),
        "shift 0.5": (lambda rng: 0.5 + rng.normal(size=500), 0.95),
    }
    for name, (sample, power) in changes.items():
        found = []
        for _ in range(max(24, repeats // 2)):
            p = online_p_values(rng.normal(size=500), sample(rng), rng)
            found.append(log_martingale(p).max() >= math.log(100))
        yield counted("drift: alarm, bound 0.01", name, found, power)


def bands(repeats: int) -> Iterator[Row]:
    """The bands of curves: at a point for ROC and precision-recall, as a whole for p-values."""
    for (m, n), at in itertools.product(((1, 20), (5, 50), (50, 50)), (0.02, 0.1, 0.5)):
        rng, labels, roc, pr = np.random.default_rng(0), np.repeat([0, 1], [n, m]), [], []
        detection, alarms = norm.sf(norm.isf(at) - 1.5), norm.sf(norm.isf(at) + 1.5)
        true_precision = m * at / (m * at + n * alarms)
        for _ in range(max(24, repeats // 4)):
            scores = rng.normal(size=n + m) + 1.5 * labels
            roc.append(holds(roc_band(scores, labels), at, detection))
            if at >= 1 / m:
                pr.append(holds(precision_recall_band(scores, labels), at, true_precision))
        yield counted("ROC band", f"false-alarm rate {at}, m {m}, n {n}", roc)
        if pr:
            yield counted("precision-recall band", f"recall {at}, m {m}, n {n}", pr)
    for n, new in itertools.product((5, 50, 500), (3, 100)):
        rng, kept = np.random.default_rng(0), []
        band = p_value_band(new, n)
        for _ in range(repeats):
            p = p_values(rng.normal(size=n), rng.normal(size=new))
            curve = (p[:, None] <= band.x + 1e-9).mean(axis=0)
            kept.append(bool(((band.low <= curve + 1e-9) & (curve - 1e-9 <= band.high)).all()))
        yield counted("band of p-values, whole", f"{n} held out, {new} new", kept)


def holds(band: Band, x: float, value: float) -> bool:
    """Whether a band holds a value at the abscissa next to ``x`` on either side."""
    low, high = np.searchsorted(band.x, x, side="right") - 1, np.searchsorted(band.x, x)
    return bool(min(band.low[low], band.low[high]) <= value <= max(band.high[low], band.high[high]))


def conformal(repeats: int) -> Iterator[Row]:
    """The conformal rate of one new normal, over the draw of the held-out ones too."""
    for (law, (sample, _, _)), (n, rate) in itertools.product(
        LAWS.items(), ((3, 0.3), (19, 0.05), (100, 0.05), (100, 0.3))
    ):
        rng = np.random.default_rng(0)
        kept = (
            sample(rng, 1)[0] <= Conformal(rate).choose_threshold(np.sort(sample(rng, n)), np.empty(0))
            for _ in range(4 * repeats)
        )
        yield counted("conformal: a normal is not flagged", f"{law}, n {n}, rate {rate}", kept, 1 - rate)


def discoveries(repeats: int) -> Iterator[Row]:
    """Of normals alone nothing is flagged but with probability q, which is the false-discovery rate then."""
    rng, level = np.random.default_rng(0), 0.2
    batches = {
        "against 49, as adverse as can be": lambda: (adverse_p_values(rng), 49),
        "copies, against 99": lambda: (p_values(rng.normal(size=99), np.full(20, rng.normal())), 99),
        "opposites, against 99": lambda: (p_values(rng.normal(size=99), rng.normal() * np.repeat([-1, 1], 10)), 99),
    }
    for name, draw_batch in batches.items():
        kept = [not e_benjamini_hochberg(e_values(*draw_batch()), level).any() for _ in range(4 * repeats)]
        yield counted("--fdr 0.2 --dependence arbitrary: no discovery", f"normals, {name}", kept, 1 - level)


def sequential(repeats: int) -> Iterator[Row]:
    """The false-alarm rate after every one of 3,000 normals at once."""
    rows = np.arange(1, 3001)
    for rate in (0.001, 0.01, 0.05, 0.3, 0.9):
        k = (np.random.default_rng(0).random((2 * repeats, len(rows))) < rate).cumsum(axis=1)
        covered = log_evidence(rate, k, rows) < math.log(20)  # where the interval, found from it, holds the rate
        kept = covered.all(axis=1).tolist()
        yield counted("drift --sequential: covered after every row", f"rate {rate}", kept, 0.95)


def streams(repeats: int) -> Iterator[Row]:
    """``--stream --fdr``: a flagged row, drawn at random from those so far, is normal with probability q at most."""
    level = 0.2
    for (n, law), share, shift, n_rows in itertools.product(
        ((100, "normal"), (1000, "normal"), (1000, "heavy tails")), (0.0, 0.1, 0.4), (3.0, 50.0), (100, 1000)
    ):
        if not share and shift > 3:
            continue
        for candidate_level, name in ((0.5, "SAFFRON"), (0.0, "LORD++")):
            rng, kept = np.random.default_rng(0), []
            for _ in range(repeats):
                is_odd = rng.random(n_rows) < share
                scores = LAWS[law][0](rng, n + n_rows)
                p = p_values(scores[:n], scores[n:] + shift * is_odd)
                rule = OnlineFDR(level, n_normals=n, candidate_level=candidate_level)
                flagged = np.flatnonzero(rule.update(p).flagged)
                kept.append(not len(flagged) or bool(is_odd[rng.choice(flagged)]))
            setting = f"{name}, {law}, n {n}, {share:.0%} odd by {shift:g}, after {n_rows} rows"
            yield counted(f"--stream --fdr {level}: a flagged row is odd, or none is", setting, kept, 1 - level)
    rng, kept = np.random.default_rng(0), []
    for _ in range(repeats):
        rule = OnlineFDR(level, n_normals=2000, candidate_level=0)
        p, is_odd = adverse_stream(rng, 2000, 6000, rule.rows_of_a_budget)
        kept.append(bool(is_odd[rng.choice(np.flatnonzero(rule.update(p).flagged))]))
    setting = "LORD++, n 2000, as adverse as can be, after 6000 rows"
    yield counted(f"--stream --fdr {level}: a flagged row is odd, or none is", setting, kept, 1 - level)


def streams_given_normals(repeats: int) -> Iterator[Row]:
    """``--stream --fdr`` with p-values by ``--delta``: the rate for all but delta of the draws of held-out normals."""
    level, delta, n, n_rows = 0.2, 0.1, 500, 200
    for share, shift in ((0.0, 0.0), (0.2, 3.0), (0.2, 50.0)):
        rng, kept = np.random.default_rng(0), []
        for _ in range(max(24, repeats // 4)):
            normals, wrong = rng.normal(size=n), []
            for _ in range(100):
                is_odd = rng.random(n_rows) < share
                p = conditional_p_values(p_values(normals, rng.normal(size=n_rows) + shift * is_odd), n, delta)
                flagged = OnlineFDR(level, n_normals=n, delta=delta).update(p).flagged
                wrong.append((flagged & ~is_odd).sum() / max(1, flagged.sum()))
            kept.append(np.mean(wrong) <= level + 2 * np.std(wrong) / 10)
        setting = f"{share:.0%} odd by {shift:g}, n {n}, delta {delta}, after {n_rows} rows"
        yield counted(f"--stream --fdr {level}, calibrated with --delta", setting, kept, 1 - delta)


def adaptive(repeats: int) -> Iterator[Row]:
    """``--stream --adaptive``: the share of flagged rows lies within its bound after every row, on any sequence."""
    rows, step = np.arange(1, 2001), 0.005
    ways: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "no drift": lambda rng: rng.normal(size=len(rows)),
        "drift of 40 spreads": lambda rng: rng.normal(size=len(rows)) + rows / 50,
        "a shift of 10 spreads": lambda rng: rng.normal(size=len(rows)) + 10 * (rows > 1000),
        "always the highest yet": lambda rng: np.cumsum(rng.exponential(size=len(rows))),
        "always the lowest yet": lambda rng: -np.cumsum(rng.exponential(size=len(rows))),
        "ever the same": lambda rng: np.zeros(len(rows)),
    }
    for (name, sample), share in itertools.product(ways.items(), (0.01, 0.2)):
        rng, kept = np.random.default_rng(0), []
        bound = (max(share, 1 - share) + step) / (step * rows) + 1e-9
        for _ in range(max(24, repeats // 4)):
            rule = AdaptiveThreshold(share, rng.normal(size=100), step=step)
            flagged = rule.update(sample(rng)).flagged
            kept.append(bool((np.abs(np.cumsum(flagged) / rows - share) <= bound).all()))
        yield counted("--stream --adaptive: share within its bound", f"{name}, share {share}", kept, 1.0)


def shifted(repeats: int) -> Iterator[Row]:
    """A normal of the target, by the true density ratio and by an estimated one, and the rate to expect of it."""
    for (name, shift), ratio, (n, rate) in itertools.product(
        SHIFTS.items(), ("known", "estimated"), ((400, 0.1), (1000, 0.05))
    ):
        rng, passed, covered = np.random.default_rng(0), [], []
        new = np.sort(shift.new(rng, 100_000))
        for _ in range(2 * repeats if ratio == "known" else repeats):
            scores, target = getattr(shift, ratio)(rng, n)
            try:
                f = Weighted(rate, target).fit(scores).calibration_
            except DataError:
                continue  # the message says which rate can be kept
            true = 1 - np.searchsorted(new, f.threshold, side="right") / len(new)
            passed += (shift.new(rng, 1) <= f.threshold).tolist()
            covered.append(f.false_alarm_low <= true <= f.false_alarm_high)
        setting = f"{name}, ratio {ratio}, n {n}, rate {rate}"
        yield counted("weighted: a normal of the target is not flagged", setting, passed, 1 - rate)
        yield counted("weighted: expected false alarms", setting, covered)


CLAIMS = (
    area,
    precision,
    bands,
    conformal,
    comparison,
    thresholds,
    conditional,
    slider,
    tail,
    labelled,
    prevalence,
    drift,
    alarms,
    discoveries,
    streams,
    streams_given_normals,
    adaptive,
    sequential,
    shifted,
)

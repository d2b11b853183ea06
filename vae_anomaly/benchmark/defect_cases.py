"""Cases of the protocol ``defects``: images learnt from, and tests of small changes whose place may be known.

Each seed makes its own images, all from its generator. A method that has a threshold of its own for 5 % false alarms is
judged by it; any other gets the conformal one of further normals, which no method is fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Self

import numpy as np

from vae_anomaly.benchmark.cases import Case, Outcome, some_of
from vae_anomaly.benchmark.defects import DIGIT_DEFECTS, TEXTURE_CHANGES, WEAVE_DEFECTS, texture, weave
from vae_anomaly.benchmark.maps import MAP_SCORE
from vae_anomaly.calibration.conformal import p_values
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.pixels import pixel_figures
from vae_anomaly.evaluation.roc import roc_auc

if TYPE_CHECKING:
    from vae_anomaly.benchmark.fitted import Fitted

FALSE_ALARM_RATE = 0.05
N_WEAVE, N_TEXTURE, MOST_DIGITS = 200, 300, 1_000  # images to learn from
N_FURTHER, N_NORMAL, N_OF_KIND = 100, 60, 20
JITTER, LIGHT = 1.0, 0.1  # of a camera that moves: pixels to each side, share of the light
LEAST_SIDE = 32  # of a weave, in pixels: the longest defects have 28


@dataclass(frozen=True)
class DefectTest:
    """Normal images, anomalous ones, and where these are anomalous.

    Parameters
    ----------
    normal, anomalous
        Images ``(N, H, W[, C])`` and ``(M, H, W[, C])``.
    masks
        ``(M, H, W)`` bool; None where the change is everywhere.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    masks: np.ndarray | None

    def shrunk(self, n: int) -> Self:
        """The test with at most ``n`` images of each kind."""
        own = some_of(len(self.anomalous), n)
        masks = None if self.masks is None else self.masks[own]
        return replace(
            self, normal=self.normal[some_of(len(self.normal), n)], anomalous=self.anomalous[own], masks=masks
        )


@dataclass(frozen=True)
class DefectCase(Case):
    """Normal images to learn from, and tests that each have their own normals and anomalies.

    Parameters
    ----------
    protocol, name, X_train
        As `Case` has them.
    further_normals
        From which a method that has no threshold for 5 % false alarms gets one.
    tests
        By name.
    seed
        That made the images, and the only one to run this case with.
    """

    measure_names = (
        *("roc_auc_low", "roc_auc_high", "found", "false_alarms"),
        *("pixel_roc_auc", "pixel_average_precision", "region_overlap"),
    )
    judges_maps = True

    X_train: np.ndarray
    further_normals: np.ndarray
    tests: Mapping[str, DefectTest]
    seed: int

    @property
    def only_seed(self) -> int:
        return self.seed

    @property
    def test_names(self) -> tuple[str, ...]:
        return tuple(self.tests)

    @property
    def n_normal(self) -> int:
        return len(next(iter(self.tests.values())).normal)

    def n_anomalous(self, test: str) -> int:
        return len(self.tests[test].anomalous)

    def outcomes(self, fitted: Fitted, score: str) -> dict[str, Outcome]:
        """Images that several tests share are scored once.

        Raises
        ------
        DataError
            If scores depend on the images that are scored together.
        """
        if fitted.transductive:
            raise DataError("a sample's score depends on those that it is scored with: no threshold holds for new ones")
        known: dict[int, Judged] = {}

        @cache
        def further() -> np.ndarray:
            return scores_of_images(fitted, score, self.further_normals)[0]

        def judged(X: np.ndarray) -> Judged:
            if id(X) not in known:
                scores, maps = scores_of_images(fitted, score, X)
                flags = None if score == MAP_SCORE else fitted.flags(score, X)
                if flags is None:
                    flags = p_values(further(), scores) <= FALSE_ALARM_RATE
                known[id(X)] = Judged(scores, flags, maps)
            return known[id(X)]

        return {
            name: outcome(judged(test.normal), judged(test.anomalous), test.masks) for name, test in self.tests.items()
        }

    def shrunk(self, n: int) -> Self:
        return replace(
            self,
            X_train=self.X_train[some_of(len(self.X_train), n)],
            further_normals=self.further_normals[some_of(len(self.further_normals), n)],
            tests={name: test.shrunk(n) for name, test in self.tests.items()},
        )


@dataclass(frozen=True)
class Judged:
    """Anomaly scores ``(N,)`` of images, which of them are flagged, ``(N,)`` bool, and their maps if asked for."""

    scores: np.ndarray
    flags: np.ndarray
    maps: np.ndarray | None


def scores_of_images(fitted: Fitted, score: str, X: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Anomaly scores ``(N,)`` of images; with the maps that they are of, if that is the score.

    Raises
    ------
    DataError
        If the method has no maps.
    """
    if score != MAP_SCORE:
        return -fitted.score_samples(score, X), None
    maps = fitted.pixel_maps(X)
    if maps is None:
        raise DataError(f"{MAP_SCORE} needs a method that has maps of pixels")
    return maps.max(axis=(1, 2)), maps


def outcome(normal: Judged, anomalous: Judged, masks: np.ndarray | None) -> Outcome:
    """Scores and measures of a test; those of pixels where there are maps and masks."""
    labels = np.repeat([0, 1], [len(normal.scores), len(anomalous.scores)])
    auc = roc_auc(np.concatenate([normal.scores, anomalous.scores]), labels)
    pixels: tuple[float | None, ...] = (None, None, None)
    if normal.maps is not None and anomalous.maps is not None and masks is not None:
        no_defect = np.zeros(normal.maps.shape, bool)
        pixels = pixel_figures(np.concatenate([normal.maps, anomalous.maps]), np.concatenate([no_defect, masks]))
    shares = float(anomalous.flags.mean()), float(normal.flags.mean())
    measures = dict(zip(DefectCase.measure_names, (auc.low, auc.high, *shares, *pixels), strict=True))
    return Outcome(normal.scores, anomalous.scores, measures)


def weave_case(seed: int, side: int) -> DefectCase:
    """Cloth, and three kinds of defect."""
    rng = np.random.default_rng(seed)
    X_train, further, normal = (weave(rng, n, side)[0] for n in (N_WEAVE, N_FURTHER, N_NORMAL))
    tests = {kind: DefectTest(normal, *weave(rng, N_OF_KIND, side, kind=kind)) for kind in WEAVE_DEFECTS}
    return DefectCase("defects", "weave", X_train, further, tests, seed)


def texture_case(seed: int) -> DefectCase:
    """Stochastic texture, and changes of a patch and of the whole."""
    rng = np.random.default_rng(seed)
    X_train, further, normal = (texture(rng, n)[0] for n in (N_TEXTURE, N_FURTHER, N_NORMAL))
    tests = {}
    for kind in TEXTURE_CHANGES:
        images, masks = texture(rng, N_OF_KIND, kind=kind)
        tests[kind] = DefectTest(normal, images, None if masks.all() else masks)
    return DefectCase("defects", "texture", X_train, further, tests, seed)


def digit_case(seed: int, name: str, X_train: np.ndarray, X_test: np.ndarray) -> DefectCase:
    """Images of one digit, and defects of its strokes.

    The test images are divided by the seed: as many remain normal as get a defect of each kind. Of the training images
    a fifth, at most `N_FURTHER`, are the further normals, and at most `MOST_DIGITS` of the rest are learnt from.
    """
    rng = np.random.default_rng(seed)
    own = rng.permutation(len(X_train))
    n_further = min(N_FURTHER, len(own) // 5)
    normal, *parts = np.array_split(X_test[rng.permutation(len(X_test))], 1 + len(DIGIT_DEFECTS))
    tests = {
        kind: DefectTest(normal, *defect(images, rng))
        for (kind, defect), images in zip(DIGIT_DEFECTS.items(), parts, strict=True)
    }
    further, learnt = X_train[np.sort(own[:n_further])], X_train[np.sort(own[n_further:][:MOST_DIGITS])]
    return DefectCase("defects", name, learnt, further, tests, seed)


def camera_case(seed: int, side: int, *, moving: bool) -> DefectCase:
    """Cloth learnt under a camera that stands still or moves; tests under a moving camera and changing light.

    ``false_alarms`` are what counts: with a threshold for 5 %, the share of normals that are flagged all the same. The
    anomalies are all defects of the weave under the same conditions.
    """
    rng = np.random.default_rng(seed)
    conditions: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
        "still": weave,
        "jitter": partial(weave, jitter=JITTER),
        "light": partial(weave, light=LIGHT),
        "jitter_and_light": partial(weave, jitter=JITTER, light=LIGHT),
    }
    learnt = conditions["jitter_and_light" if moving else "still"]
    X_train, further = (learnt(rng, n, side)[0] for n in (N_WEAVE, N_FURTHER))
    tests = {}
    for name, taken in conditions.items():
        normal = taken(rng, N_NORMAL, side)[0]
        defective = [taken(rng, N_OF_KIND, side, kind=kind) for kind in WEAVE_DEFECTS]
        images, masks = (np.concatenate(parts) for parts in zip(*defective, strict=True))
        tests[name] = DefectTest(normal, images, masks)
    return DefectCase("defects", "moving-camera" if moving else "still-camera", X_train, further, tests, seed)

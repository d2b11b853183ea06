"""Maps against masks: scikit-learn and a slow count of every threshold agree, and laws of ROC curves hold."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import boxes_of, evaluate_pixels


def made(seed: int, n: int = 8, side: int = 9, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Maps that know something of masks with one or two squares, which may touch or lie within each other."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, side, side), bool)
    for mask in masks[: n - 2]:
        for _ in range(rng.integers(1, 3)):
            top, left, size = *rng.integers(0, side - 3, 2), rng.integers(1, 4)
            mask[top : top + size, left : left + size] = True
    maps = rng.normal(size=masks.shape) + masks * rng.uniform(0, 2, (n, 1, 1))
    return (maps if levels is None else np.rint(levels * maps)), masks


def regions_by_hand(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Connected regions, corners included, by a flood fill."""
    left, regions = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        edge = [left.pop()]
        region = set(edge)
        while edge:
            y, x = edge.pop()
            around = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= around
            region |= around
            edge += around
        regions.append(region)
    return regions


def overlap_by_hand(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """PRO from its definition: every threshold in turn, trapezia between them."""
    regions = [
        [heat[place] for place in region]
        for heat, mask in zip(maps, masks, strict=True)
        for region in regions_by_hand(mask)
    ]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        share = np.mean([np.mean([value >= threshold for value in region]) for region in regions])
        points.append((float((normal >= threshold).mean()), float(share)))
    total = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > x0 and x0 < limit:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            total += (end - x0) * (y0 + y_end) / 2
    return total / limit


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_their_definitions(seed: int, levels: int | None) -> None:
    maps, masks = made(seed, levels=levels)
    found = evaluate_pixels(maps, masks)
    assert found.roc_auc.value == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert found.average_precision.value == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))
    assert found.average_precision_chance == pytest.approx(masks.mean())
    assert found.pro.value == pytest.approx(overlap_by_hand(maps, masks))
    assert found.n_regions == sum(len(regions_by_hand(mask)) for mask in masks)
    assert (found.n_images, found.n_anomalous) == (8, 6)
    assert json.loads(json.dumps(found.to_dict()))["pro"]["value"] == found.pro.value


@pytest.mark.parametrize("seed", range(3))
def test_only_the_order_of_pixels_counts_and_neither_that_of_images_nor_their_sides(seed: int) -> None:
    maps, masks = made(seed)
    values = [figure.value for figure in figures(maps, masks)]
    for other in ((np.exp(3 * maps), masks), (maps[::-1], masks[::-1]), (maps.swapaxes(1, 2), masks.swapaxes(1, 2))):
        assert [figure.value for figure in figures(*other)] == pytest.approx(values)


def figures(maps: np.ndarray, masks: np.ndarray) -> tuple:
    found = evaluate_pixels(maps, masks)
    return found.roc_auc, found.average_precision, found.pro


def test_perfect_constant_and_reversed_maps() -> None:
    _, masks = made(0)
    perfect, flat, reversed_ = (evaluate_pixels(maps, masks) for maps in (masks * 1.0, masks * 0.0, masks * -1.0))
    assert (perfect.roc_auc.value, perfect.average_precision.value, perfect.pro.value) == pytest.approx((1, 1, 1))
    assert (flat.roc_auc.value, flat.pro.value) == pytest.approx((0.5, 0.15))
    assert flat.average_precision.value == pytest.approx(masks.mean())
    assert (reversed_.roc_auc.value, reversed_.pro.value) == (0, 0)
    assert (perfect.pro.low, perfect.pro.high) == (None, None)  # nothing varied, so nothing is bounded


def test_overlap_counts_a_small_defect_as_much_as_a_large_one() -> None:
    masks = np.zeros((2, 20, 20), bool)
    masks[0, :10, :10], masks[1, 4, 4] = True, True
    only_large = evaluate_pixels(np.stack([masks[0], np.zeros((20, 20))]), masks)
    assert only_large.roc_auc.value > 0.99
    assert only_large.pro.value == pytest.approx((0.5 + 0.5 * 0.15), abs=1e-3)


def test_intervals_hold_what_other_images_give() -> None:
    """Drawn anew 40 times, the figures of a large set lie in about 95 % of the intervals."""
    truth = [figure.value for figure in figures(*made(1, n=600))]
    inside = [
        [
            figure.low <= value <= figure.high
            for figure, value in zip(figures(*made(seed + 100, n=25)), truth, strict=True)
        ]
        for seed in range(40)
    ]
    assert (np.mean(inside, axis=0) >= 0.85).all()


def test_few_images_have_no_interval_and_the_same_arrays_the_same() -> None:
    few = evaluate_pixels(*made(0, n=6))  # of which four have a defect
    assert (few.roc_auc.low, few.pro.high) == (None, None)
    assert evaluate_pixels(*made(0, n=20)) == evaluate_pixels(*made(0, n=20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps, masks: (maps[0], masks[0]), r"must both be \(N, H, W\)"),
        (lambda maps, masks: (maps[:3], masks), "of one shape"),
        (lambda maps, masks: (np.where(masks, np.nan, maps), masks), "6 of 8 maps hold NaN"),
        (lambda maps, masks: (maps, masks * 255), r"got \[0, 255\]: give masks > 0"),
        (lambda maps, masks: (maps, masks & False), "none are of a defect"),
        (lambda maps, masks: (maps, masks | True), "all are of a defect"),
        (lambda maps, masks: (maps[:0], masks[:0]), "none are of a defect"),
    ],
)
def test_what_is_refused(change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_pixels(*change(*made(0)))


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_those_of_a_flood_fill(seed: int) -> None:
    heat = made(seed)[0][0]
    expected = set()
    for region in regions_by_hand(heat > 0.5):
        ys, xs = zip(*region, strict=True)
        peak = max(heat[place] for place in region)
        expected.add((min(ys), min(xs), max(ys) + 1, max(xs) + 1, peak))
    boxes = boxes_of(heat, 0.5)
    assert set(boxes) == expected
    assert len(boxes) == len(expected)
    assert [box.peak for box in boxes] == sorted((box.peak for box in boxes), reverse=True)


def test_boxes_at_the_edges_of_what_can_be() -> None:
    heat = np.array([[0.0, 1.0], [2.0, 0.0]])
    assert boxes_of(heat, 0.5) == [(0, 0, 2, 2, 2.0)]  # corners touch
    assert boxes_of(heat, 1) == [(1, 0, 2, 1, 2.0)]  # a pixel at the threshold is not above it
    assert boxes_of(heat, 2) == []
    with pytest.raises(DataError, match="add up its channels"):
        boxes_of(np.zeros((2, 2, 3)), 0)
    with pytest.raises(DataError, match="without NaN"):
        boxes_of(np.array([[np.nan]]), 0)

"""The evidence on one sample, as `explain_sample` collects it, as a figure and as text."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.cli.text import titled
from vae_anomaly.storage.safe_reading import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vae_anomaly.scoring.attribution import Explanation
    from vae_anomaly.tables.words import FeatureInWords


def costs(evidence: dict[str, Any]) -> list[float]:
    """Nats that each feature costs beyond what the model predicts; of an image, beyond its best pixel.

    The noise of neighbouring pixels is correlated, and its variance counts fewer independent observations than there
    are pixels: by that variance nearly every pixel does well, and only the differences between pixels mean something.
    """
    excess: list[float] = evidence["features"]["excess"]
    best = min(excess) if evidence["image_shape"] else 0.0
    return [value - best for value in excess]


def words_of(parts: Explanation) -> list[FeatureInWords]:
    """All features of one sample in words."""
    return [parts.feature_in_words(0, place) for place in range(len(parts.names))]


def draw(evidence: dict[str, Any], parts: Explanation, top: int) -> Figure:
    """The figure that suits the data."""
    import numpy as np

    from vae_anomaly.reports import plot_feature_evidence, plot_image_evidence

    observed, expected, spread = parts.observed[0], parts.expected[0], parts.spread[0]
    nats = np.array(costs(evidence))
    title = f"{printable(sample_name(evidence | {'data': Path(evidence['data']).name}))}\n{decision_text(evidence)}"
    shape = evidence["image_shape"]
    if shape is None:
        words = words_of(parts)
        return plot_feature_evidence(parts.names, observed, expected, spread, nats, most=top, title=title, words=words)
    signs = evidence.get("signs")
    heat = None if signs is None else (np.array(signs["heat"]), signs["strongest_heat"])
    return plot_image_evidence(*(array.reshape(shape) for array in (observed, expected, nats)), heat=heat, title=title)


def sample_name(evidence: dict[str, Any]) -> str:
    """Number, identifiers, file and label of the sample."""
    label = "" if evidence["label"] is None else f", label {evidence['label']}"
    file = "" if evidence["file"] is None else f", {evidence['file']}"
    ids = "".join(f", {name} {text}" for name, text in evidence["ids"].items())
    return f"row {evidence['row']} of {evidence['data']}{ids}{file}{label}"


def decision_text(evidence: dict[str, Any]) -> str:
    """The decision, the score and the threshold."""
    decision = "anomaly" if evidence["decision"] else "normal"
    return f"{decision}, anomaly score {evidence['anomaly_score']:.2f}, threshold {evidence['threshold']:.2f}"


def evidence_text(evidence: dict[str, Any], parts: Explanation, top: int, shares_of: str) -> str:
    """The evidence on one sample as text; ``shares_of`` names what has shares of the KL term."""
    e = evidence
    lines = [
        *titled("sample", [printable(sample_name(e))]),
        *titled(
            "score",
            [
                decision_text(e),
                f"score {e['score']}, p-value {e['p_value']:.3g} among {e['n_held_out']:,} held-out normals",
                *sign_lines(e),
            ],
        ),
        *titled("ELBO", [term_text("reconstruction", e["reconstruction"]), term_text("KL", e["kl"])]),
        *titled("pixels" if e["image_shape"] else "features", feature_lines(e, parts, top)),
        *titled(shares_of, largest_shares(e[shares_of], top)),
    ]
    return "\n".join(lines)


def sign_lines(evidence: dict[str, Any]) -> list[str]:
    """What of an image is odd: the whole, its worst place, or that it costs too little."""
    if "signs" not in evidence:
        return []
    nats, worst = evidence["signs"]["nats"], evidence["signs"]["worst_place"]
    oddest = max(nats, key=nats.__getitem__)
    what = {
        "whole": "the whole image costs too much",
        "place": "one place costs too much",
        "too regular": "the image costs too little: it is more normal than normal",
    }[oddest]
    each = ", ".join(f"{name} {value:.2f}" for name, value in nats.items())
    return [
        f"oddest: {what} ({each}: minus log p-value over its share)",
        f"worst place: row {worst['row']}, column {worst['column']}, {worst['nats']:.2f} nats",
    ]


def term_text(name: str, term: dict[str, Any]) -> str:
    """A term of the ELBO, and its place among those of the held-out normals."""
    below, median = term["held_out_below"], term["held_out_median"]
    return (
        f"{name} {term['value']:.2f} nats; {below:.1%} of {term['n_held_out']:,} held-out normals lie below, "
        f"their median is {median:.2f}"
    )


def feature_lines(evidence: dict[str, Any], parts: Explanation, top: int) -> list[str]:
    """The features that cost most, worst first, as a table."""
    from vae_anomaly.tables.words import shortened

    nats, is_image = costs(evidence), evidence["image_shape"] is not None
    order = sorted(range(len(nats)), key=lambda i: -nats[i])[:top]
    rows = [("row, column" if is_image else "name", "observed", "expected", "nats")]
    for i in order:
        if is_image:  # correlated with its neighbours, one pixel's spread means little
            shown = f"{parts.observed[0, i]:.4g}", f"{parts.expected[0, i]:.4g}"
        else:
            words = parts.feature_in_words(0, i)
            shown = printable(words.observed), printable(words.expectation)
        rows.append((printable(shortened(parts.names[i])), *shown, f"{nats[i]:,.3f}"))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    than = "more than the best pixel" if is_image else "beyond what the model predicts"
    return [
        f"nats {than}, the {len(order):,} worst of {len(nats):,}",
        *("  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]) for r in rows),
    ]


def largest_shares(shares: list[float], top: int) -> list[str]:
    """The largest shares of the KL term."""
    order = sorted((i for i, share in enumerate(shares) if share >= 0.005), key=lambda i: -shares[i])[:top]
    if not order:
        return [f"nats of the KL term, all {len(shares):,} shares are below 0.005"]
    largest = ", ".join(f"{i}: {shares[i]:.2f}" for i in order)
    return [f"nats of the KL term, the {len(order):,} largest shares of {len(shares):,}", *textwrap.wrap(largest, 100)]

"""``vae-anomaly explain``: why one sample got its score."""

from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import options
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import printable

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector

SUFFIXES = (".png", ".svg", ".json", ".txt")


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("data", type=options.data_path)
@click.option("--row", type=click.IntRange(0), required=True, help="Which sample of DATA, counted from 0.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="How many features and latents.")
@click.option("--output", type=options.file_path, help="File to write: .png or .svg for a figure, .json or .txt.")
@options.label_column_option
@options.score_option
@options.device_option
@options.json_option
def explain(
    model: Path,
    data: Path,
    row: int,
    top: int,
    output: Path | None,
    label_column: str | None,
    score_name: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Show why a sample got its score: the ELBO's two terms, shared out over features and latents.

    DATA is as for score. Named are the features or pixels that cost most, beside what the model expected instead:
    nats beyond what it predicts of a feature, or more than the image's best pixel. It is always the ELBO that is
    explained, whatever the score. JSON holds all features.
    """
    from vae_anomaly.reports.plots.style import to_png, to_svg
    from vae_anomaly.storage.atomic import atomic_write

    if output is not None and output.suffix not in SUFFIXES:
        raise click.BadParameter(f"{output} is neither .png, .svg, .json nor .txt", param_hint="--output")
    detector = options.load_detector(model, device, score_name)
    evidence = gather(detector, one_sample(data, row, label_column, detector.n_features_in_), row)
    whole = json.dumps({"model": str(model)} | evidence, indent=2, allow_nan=False)
    text = render(evidence, top, detector.vae_.prior.shares_of)
    if output is not None:
        if output.suffix in (".png", ".svg"):
            figure = draw(evidence, top)
            content = to_png(figure) if output.suffix == ".png" else to_svg(figure)
        else:
            content = f"{whole if output.suffix == '.json' else text}\n".encode()
        with atomic_write(output) as file:
            file.write(content)
        text += f"\nwrote      {printable(output)}"
    elif str(data) != "-":
        again = shlex.join(["vae-anomaly", "explain", str(model), str(data), "--row", str(row)])
        text += f"\nfigure     {printable(again)} --output row-{row}.png"
    click.echo(whole if as_json else text)


def one_sample(data: Path, row: int, label_column: str | None, n_features: int) -> Dataset:
    """The sample with this number, read in constant memory."""
    import numpy as np

    from vae_anomaly.datasets import chunks

    seen = 0
    for part in chunks(data, max(1, options.CHUNK_BYTES // (8 * n_features)), label_column):
        if row < seen + len(part):
            return part.take(np.array([row - seen]))
        seen += len(part)
    raise DataError(f"{part.source} has {seen:,} samples, numbered 0 to {seen - 1}: there is no row {row}")


def gather(detector: VAEDetector, sample: Dataset, row: int) -> dict[str, Any]:
    """Everything about one sample, as JSON holds it."""
    import numpy as np

    frame = sample.to_frame()
    parts, terms = detector.explain(frame), detector.elbo_terms(frame)
    score = detector.score_samples(frame)
    held_out = detector.held_out_scores_
    return {
        "data": sample.source,
        "row": row,
        "file": None if sample.row_names is None else sample.row_names[0],
        "label": None if sample.labels is None else str(sample.labels[0]),
        "score": detector.score_name,
        "anomaly_score": -float(score[0]),
        "threshold": detector.calibration_.threshold,
        "decision": int(-score[0] > detector.calibration_.threshold),
        "p_value": float(detector.p_values_of(score)[0]),
        "n_held_out": len(detector.calibration_scores_),
        "reconstruction": beside(float(terms.reconstruction[0]), held_out["reconstruction"]),
        "kl": beside(float(terms.kl[0]), -held_out["kl"]),
        "image_shape": None if detector.image_shape_ is None else list(detector.image_shape_),
        "features": {
            "name": feature_names(detector, sample),
            "observed": np.asarray(sample.X, dtype=np.float64).ravel().tolist(),
        }
        | {name: getattr(parts, name)[0].tolist() for name in ("expected", "spread", "reconstruction", "excess")},
        detector.vae_.prior.shares_of: parts.kl[0].tolist(),
    }


def beside(value: float, held_out: np.ndarray) -> dict[str, Any]:
    """A term, and where it lies among those of held-out normals."""
    import numpy as np

    return {
        "value": value,
        "n_held_out": len(held_out),
        "held_out_median": float(np.median(held_out)),
        "held_out_below": float(np.mean(held_out < value)),
    }


def feature_names(detector: VAEDetector, sample: Dataset) -> list[str]:
    """Column names, pixels as row, column and channel, or numbers."""
    import itertools

    if detector.image_shape_ is not None:
        sides = detector.image_shape_[:2] if detector.image_shape_[2] == 1 else detector.image_shape_
        return [", ".join(map(str, place)) for place in itertools.product(*map(range, sides))]
    names = getattr(detector, "feature_names_in_", sample.feature_names)
    return [f"feature {i}" for i in range(detector.n_features_in_)] if names is None else list(map(str, names))


def costs(evidence: dict[str, Any]) -> list[float]:
    """Nats that features cost beyond what the model predicts; for images, more than the pixel that does best.

    The noise of neighbouring pixels is correlated, and its variance is one for fewer pixels than there are: against it
    nearly all do well, and only their differences tell something.
    """
    excess: list[float] = evidence["features"]["excess"]
    best = min(excess) if evidence["image_shape"] else 0.0
    return [value - best for value in excess]


def draw(evidence: dict[str, Any], top: int) -> Figure:
    """The figure that suits the data."""
    import numpy as np

    from vae_anomaly.reports import plot_feature_evidence, plot_image_evidence

    features = evidence["features"]
    observed, expected, spread = (np.array(features[name]) for name in ("observed", "expected", "spread"))
    nats = np.array(costs(evidence))
    title = f"{printable(heading(evidence | {'data': Path(evidence['data']).name}))}\n{verdict(evidence)}"
    shape = evidence["image_shape"]
    if shape is None:
        return plot_feature_evidence(features["name"], observed, expected, spread, nats, most=top, title=title)
    return plot_image_evidence(*(array.reshape(shape) for array in (observed, expected, nats)), title=title)


def heading(evidence: dict[str, Any]) -> str:
    """Which sample it is."""
    label = "" if evidence["label"] is None else f", label {evidence['label']}"
    file = "" if evidence["file"] is None else f", {evidence['file']}"
    return f"row {evidence['row']} of {evidence['data']}{file}{label}"


def verdict(evidence: dict[str, Any]) -> str:
    """What was decided, and by which score."""
    decision = "anomaly" if evidence["decision"] else "normal"
    return f"{decision}, anomaly score {evidence['anomaly_score']:.2f}, threshold {evidence['threshold']:.2f}"


def render(evidence: dict[str, Any], top: int, shares_of: str) -> str:
    """The evidence as text; ``shares_of`` are what has shares of the KL term."""
    e = evidence
    lines = [
        *options.column("sample", [printable(heading(e))]),
        *options.column(
            "score",
            [verdict(e), f"score {e['score']}, p-value {e['p_value']:.3g} among {e['n_held_out']:,} held-out normals"],
        ),
        *options.column("ELBO", [term("reconstruction", e["reconstruction"]), term("KL", e["kl"])]),
        *options.column("pixels" if e["image_shape"] else "features", worst_features(e, top)),
        *options.column(shares_of, largest_shares(e[shares_of], top)),
    ]
    return "\n".join(lines)


def term(what: str, about: dict[str, Any]) -> str:
    """One term beside those of the held-out normals."""
    below, median = about["held_out_below"], about["held_out_median"]
    return (
        f"{what} {about['value']:.2f} nats; {below:.1%} of {about['n_held_out']:,} held-out normals lie below, "
        f"their median is {median:.2f}"
    )


def worst_features(evidence: dict[str, Any], top: int) -> list[str]:
    """The features that cost most, worst first, as a table."""
    from vae_anomaly.reports import measured

    features, nats, is_image = evidence["features"], costs(evidence), evidence["image_shape"] is not None
    order = sorted(range(len(nats)), key=lambda i: -nats[i])[:top]
    rows = [("row, column" if is_image else "name", "observed", "expected", "nats")]
    for i in order:
        observed, expected, spread = (features[key][i] for key in ("observed", "expected", "spread"))
        if is_image:  # how far a single pixel may stray says little where the noise of its neighbours is correlated
            shown = f"{observed:.4g}", f"{expected:.4g}"
        else:
            seen, mean, std = measured(observed, expected, spread)
            shown = seen, f"{mean} ± {std}"
        name = printable(features["name"][i])
        rows.append((name if len(name) <= 40 else name[:39] + "…", *shown, f"{nats[i]:,.3f}"))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    than = "more than the best pixel" if is_image else "beyond what the model predicts"
    return [
        f"nats {than}, the {len(order):,} worst of {len(nats):,}",
        *("  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]) for r in rows),
    ]


def largest_shares(shares: list[float], top: int) -> list[str]:
    """The largest shares of the KL term."""
    order = sorted((i for i, share in enumerate(shares) if share >= 0.005), key=lambda i: -shares[i])[:top]
    listed = ", ".join(f"{i}: {shares[i]:.2f}" for i in order)
    return [f"nats of the KL term, the {len(order):,} largest shares of {len(shares):,}", *textwrap.wrap(listed, 100)]

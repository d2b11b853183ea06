"""The page of a report: one HTML file that opens from disk and can be read without scripts.

Names that came with the data (of files, classes and features) may be hostile. Jinja2 escapes all of them; the content
security policy allows the page's own style and script, by their hashes, and nothing else; and the page has no address
outside itself.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from vae_anomaly.evaluation import AtPrevalence, at_prevalence
from vae_anomaly.registry import FIGURES
from vae_anomaly.reports.page.captioned_figure import SECTIONS, CaptionedFigure
from vae_anomaly.reports.page.charts import (
    HEIGHT,
    WIDTH,
    axes,
    data_uri,
    heat_pictures,
    photographs,
    residual_maps,
    roc_chart,
    score_chart,
)
from vae_anomaly.reports.page.glossary import GLOSSARY
from vae_anomaly.reports.page.report import Evidence, Report, nats
from vae_anomaly.reports.page.selection import Stops, table_rows, threshold_stops
from vae_anomaly.reports.page.verdict import findings, percent
from vae_anomaly.reports.plots.samples import displayable
from vae_anomaly.reports.plots.style import darkened
from vae_anomaly.storage.safe_reading import printable
from vae_anomaly.tables.words import feature_in_words

TEMPLATES = Path(__file__).parent / "templates"
STATIC_ROWS = 50  # of the table, without scripts
TOP_FEATURES = 8  # of a sample in the gallery
KINDS = {
    "most anomalous": "The highest anomaly scores.",
    "borderline": "The scores closest to the threshold.",
    "missed": "Anomalies that are not flagged, the lowest scores first.",
    "false alarms": "Normal samples that are flagged, the highest scores first.",
    "typical": "Scores in the middle of the normals, for comparison.",
}


def render_page(report: Report, figures: dict[str, CaptionedFigure]) -> str:
    """The page as text.

    Parameters
    ----------
    report
        What the page shows.
    figures
        Its figures, by their names in the registry, in the order of the page.
    """
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    rows = table_rows(report.anomaly_score)
    stops = threshold_stops(
        report.anomaly_score,
        report.anomalous,
        report.held_out["anomaly_score"],
        report.calibration.threshold,
        weights=report.held_out.get("weight"),
    )
    titles = report.row_titles
    roc = None if report.evaluation is None else roc_chart(report.evaluation.roc)
    scores = score_chart(series(report), report.calibration.threshold)
    return template().render(
        report=report,
        style=Markup(style),  # the project's own files, checked by the policy's hashes
        script=Markup(script),
        style_hash=sha256(style),
        script_hash=sha256(script),
        glossary=GLOSSARY,
        findings=findings(report),
        sections=[(title, pictures(figures, section)) for section, title in SECTIONS.items()],
        kinds=KINDS,
        gallery=gallery(report),
        rows=[row(report, titles, i) for i in rows[:STATIC_ROWS].tolist()],
        name_title="name" if report.ids else "file",
        n_rows=len(rows),
        stops=stops,
        roc=roc,
        scores=scores,
        worth=worth(report),
        box=(WIDTH, HEIGHT, *axes()),
        data={
            "stops": stops_data(stops),
            "rows": rows_data(report, rows),
            "roc": None if roc is None else {"x": list(roc.x), "y": list(roc.y)},
            "scores": list(scores.x),
            "counts": counts(report),
        },
    )


def template() -> Template:
    """The page's template, with the filters that write numbers and names."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"nats": nats, "percent": percent, "shown": printable, "count": count}
    return environment.get_template("report.html")


def sha256(text: str) -> str:
    """Hash of an inline style or script, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def count(n: int) -> str:
    """A number of things, thousands separated."""
    return f"{n:,}"


def series(report: Report) -> dict[str, np.ndarray]:
    """Scores by kind, as the histogram shows them."""
    score, anomalous = report.anomaly_score, report.anomalous
    if anomalous is None:
        return {"samples": score, "held-out normals": report.held_out["anomaly_score"]}
    return {
        "normal": score[~anomalous],
        "anomalous": score[anomalous],
        "held-out normals": report.held_out["anomaly_score"],
    }


def counts(report: Report) -> dict[str, int | None]:
    """How many samples there are, and of which kind."""
    anomalous = report.anomalous
    n = len(report.anomaly_score)
    n_anomalous = None if anomalous is None else int(anomalous.sum())
    return {"n": n, "n_anomalous": n_anomalous, "n_normal": None if n_anomalous is None else n - n_anomalous}


def worth(report: Report) -> AtPrevalence | None:
    """What the threshold is worth at the share of anomalies that was stated, or that the labels have."""
    evaluation = report.evaluation
    if evaluation is None or evaluation.decisions is None:
        return None
    stated = evaluation.at_prevalence
    return stated or at_prevalence(evaluation.decisions, evaluation.average_precision_chance)


def stops_data(stops: Stops) -> dict[str, Any]:
    """The slider's thresholds and the effects of each, as lists."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(stops).items()}


def rows_data(report: Report, rows: np.ndarray) -> dict[str, Any]:
    """The table's columns as lists; scores keep every bit, since the page decides by them."""
    titles = report.row_titles
    return {
        "row": report.rows[rows].tolist(),
        "score": report.anomaly_score[rows].tolist(),
        "p": [float(f"{value:.4g}") for value in report.p_value[rows]],
        "reconstruction": [round(value, 2) for value in report.reconstruction[rows].tolist()],
        "kl": [round(value, 2) for value in report.kl[rows].tolist()],
        "label": None if report.labels is None else [printable(name) for name in report.labels[rows]],
        "anomalous": None if report.anomalous is None else report.anomalous[rows].astype(int).tolist(),
        "name": [printable(titles[i]) for i in rows] if titles else None,
    }


def row(report: Report, titles: list[str], i: int) -> dict[str, Any]:
    """One sample's numbers."""
    held_out = report.held_out
    anomalous = None if report.anomalous is None else bool(report.anomalous[i])
    flagged = bool(report.flagged[i])
    outcome = {
        (None, True): "flagged",
        (None, False): "not flagged",
        (True, True): "found",
        (True, False): "missed",
        (False, True): "false alarm",
        (False, False): "correctly not flagged",
    }[anomalous, flagged]
    return {
        "row": int(report.rows[i]),
        "score": report.anomaly_score[i],
        "p": report.p_value[i],
        "reconstruction": report.reconstruction[i],
        "kl": report.kl[i],
        "reconstruction_above": float(np.median(held_out["reconstruction"]) - report.reconstruction[i]),
        "kl_above": float(report.kl[i] - np.median(held_out["kl"])),
        "label": None if report.labels is None else report.labels[i],
        "anomalous": anomalous,
        "outcome": outcome,
        "name": titles[i] if titles else None,
    }


def pictures(figures: dict[str, CaptionedFigure], section: str) -> list[dict[str, Any]]:
    """A section's figures as vector images for light and dark pages."""
    return [
        picture(captioned) for name, captioned in figures.items() if FIGURES.entry(name).facts["section"] == section
    ]


def picture(captioned: CaptionedFigure) -> dict[str, Any]:
    """A figure as two vector images, for light and dark pages, and their size in pixels."""
    width, height = captioned.figure.get_size_inches()
    return {
        "captioned": captioned,
        "light": data_uri(captioned.svg, "image/svg+xml"),
        "dark": data_uri(darkened(captioned.svg), "image/svg+xml"),
        "width": round(96 * width),
        "height": round(96 * height),
    }


def gallery(report: Report) -> list[tuple[str, list[dict[str, Any]]]]:
    """The samples to look at, by kind, each with its evidence."""
    evidence = image_evidence(report) if report.image_shape is not None else table_evidence(report)
    titles = report.row_titles
    evidence_of = dict(zip(report.evidence.rows.tolist(), evidence, strict=True))
    return [
        (kind, [row(report, titles, i) | evidence_of[i] for i in rows.tolist()])
        for kind, rows in report.gallery.items()
        if len(rows)
    ]


def image_evidence(report: Report) -> list[dict[str, Any]]:
    """Input, expected image, signed residual and, where it is known, heat of each sample, as data URIs."""
    assert report.image_shape is not None
    height, width, channels = report.image_shape
    limits = report.limits or (float(report.evidence.observed.min()), float(report.evidence.observed.max()))
    observed, expected = (
        values.reshape(-1, height, width, channels).astype(np.float64)
        for values in (report.evidence.observed, report.evidence.expected)
    )
    residuals = residual_maps(observed - expected)
    seen, mean = photographs(displayable(observed), limits), photographs(displayable(expected), limits)
    heat: list[str | None] = [None] * len(seen)
    if report.evidence.heat is not None:
        heat = [*heat_pictures(observed, report.evidence.heat, report.evidence.strongest_heat, limits)]
    return [
        {"input": a, "expected": b, "residual": c, "heat": d, "width": width, "height": height}
        for a, b, c, d in zip(seen, mean, residuals, heat, strict=True)
    ]


def table_evidence(report: Report) -> list[dict[str, Any]]:
    """The features that add most to each sample's score, with observed and expected value and their distance."""
    e = report.evidence
    names = report.feature_names or tuple(f"feature {i}" for i in range(e.observed.shape[1]))
    samples = []
    for i, excess in enumerate(e.excess):
        most = np.argsort(-excess, kind="stable")[:TOP_FEATURES]
        features = [{"name": names[d], "excess": excess[d]} | measured(e, i, d) for d in most]
        samples.append({"features": features, "others": max(0, len(names) - len(most))})
    return samples


def measured(evidence: Evidence, i: int, d: int) -> dict[str, Any]:
    """What was observed and expected of one feature of one sample; a category and a gap have no distance."""
    values = evidence.observed[i, d], evidence.expected[i, d], evidence.spread[i, d]
    words = feature_in_words(None, *values) if evidence.words is None else evidence.words[i][d]
    observed, expected, spread = values
    has_distance = not words.is_level and spread > 0 and not np.isnan(observed)
    return words._asdict() | {"deviation": (observed - expected) / spread if has_distance else None}

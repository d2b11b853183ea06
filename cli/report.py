"""``vae-anomaly report``: one page that shows how good a model is, what it flags, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import DataOptions, check_one_source, load_samples, samples_for
from vae_anomaly.cli.normal_classes import is_normal, normal_classes
from vae_anomaly.cli.outputs import check_outputs, data_inputs
from vae_anomaly.cli.report_contents import build_report
from vae_anomaly.cli.text import print_lines
from vae_anomaly.cli.unseen import all_rows_option, check_both_kinds, unseen
from vae_anomaly.progress import phase
from vae_anomaly.storage.outputs import Output


@click.command()
@click.argument("model", type=click_types.file_path)
@options.labelled_data_options
@options.id_column_option
@click.option(
    "--output",
    type=click_types.folder_path,
    default=Path("report"),
    show_default=True,
    help="Folder to write; an earlier report in it is replaced.",
)
@all_rows_option
@options.score_option
@options.device_option
def report(model: Path, output: Path, all_rows: bool, score_name: str | None, device: str, **data_options: Any) -> None:
    """Show what a model makes of samples, with or without labels: report.html, report.json, scores.csv, figures.

    The page opens from disk and needs no network. It shows how good the scores are; what the threshold costs; the
    most anomalous, borderline, missed and falsely flagged samples, with the features that their scores come from; and
    what the model takes for normal. With labels, samples that the model was trained on, or that stopped its training,
    are left out; without, they are marked in a note.
    """
    import numpy as np

    from vae_anomaly.reports import PAGE, check_report_folder, write_report

    given = DataOptions(**data_options)
    check_outputs({"MODEL": model} | data_inputs(given), Output("--output", output, entries="*"))
    check_report_folder(output)
    check_one_source(given)
    detector = options.load_detector(model, device, score_name)
    samples = samples_for(detector.model_, load_samples(given, detector), given.id_columns)
    if samples.labels is None and given.normal is not None:
        raise click.UsageError("--normal needs labels: give --labels, --label-column or a folder of classes")
    normal, anomalous, source = given.normal, None, samples.rows.source
    is_all = all_rows or samples.labels is None
    chunks = samples.rows.computable().flat().chunks()
    found = unseen({model: (detector.model_, chunks)}, len(samples), source, all_rows=is_all)
    if samples.labels is not None:
        normal = normal_classes(given, samples, detector.metadata_)
        anomalous = ~is_normal(samples.labels, normal, source)
        check_both_kinds(anomalous, found, source)
        if not found.kept.all():
            anomalous, samples = anomalous[found.kept], samples.take(np.flatnonzero(found.kept))
    notes = () if found.note is None else (f"{found.note}.",)
    with phase("scoring and explaining"):
        contents = build_report(detector, samples, anomalous, normal, model, notes)
    with phase("writing the report"):
        write_report(contents, output)
    print_lines(*(f"note: {note}" for note in notes), f"wrote {output / PAGE}")

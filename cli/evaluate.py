"""``vae-anomaly evaluate``: how good a model is on labelled data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import DataOptions, check_one_source, load_samples, reading_for
from vae_anomaly.cli.normal_classes import is_normal, normal_classes
from vae_anomaly.cli.outputs import check_outputs, data_inputs
from vae_anomaly.cli.pixels import pixel_lines, pixel_results
from vae_anomaly.cli.text import print_lines, titled
from vae_anomaly.cli.unseen import all_rows_option, check_both_kinds, unseen
from vae_anomaly.storage.outputs import Output

FAR_BELOW_CHANCE = 0.4


@click.command()
@options.labelled_data_options
@options.model_option
@click.option("--output", type=click_types.file_path, help="Save all figures, curves included, as .json.")
@all_rows_option
@click.option(
    "--prevalence",
    type=click_types.share,
    help="Share of anomalies among the samples to come: precision, F score and cost there.",
)
@click.option("--miss", type=float, default=1.0, show_default=True, help="Cost of an anomaly that is not flagged.")
@click.option("--false-alarm", type=float, default=1.0, show_default=True, help="Cost of a normal that is flagged.")
@options.score_option
@options.device_option
@options.json_option
def evaluate(
    model: Path,
    output: Path | None,
    all_rows: bool,
    prevalence: float | None,
    miss: float,
    false_alarm: float,
    score_name: str | None,
    device: str,
    as_json: bool,
    **data_options: Any,
) -> None:
    """Evaluate a model on labelled samples: ROC-AUC with its interval, per class, and what the threshold does.

    Labels are 0 = normal and 1 = anomaly, or class names. Samples that the model was trained on, or that stopped its
    training, are left out, and counted in the output.
    """
    import numpy as np

    from vae_anomaly.calibration.methods import promised_alarms
    from vae_anomaly.evaluation import evaluate as evaluate_scores
    from vae_anomaly.storage.atomic import atomic_write

    given = DataOptions(**data_options)
    if output is not None:
        check_outputs({"--model": model} | data_inputs(given), Output("--output", output))
    check_one_source(given)
    detector = options.load_detector(model, device, score_name)
    samples = load_samples(given, detector)
    if samples.labels is None:
        raise click.UsageError("DATA has no labels: give --labels or --label-column")
    normal = normal_classes(given, samples, detector.metadata_)
    anomalous = ~is_normal(samples.labels, normal, samples.source)
    rows = detector.model_.rows(samples.X, samples.source)
    found = unseen({model: (detector.model_, [rows])}, len(rows), samples.source, all_rows=all_rows)
    check_both_kinds(anomalous, found, samples.source)
    scores = detector.model_.score_samples(rows[found.kept])
    evaluation = evaluate_scores(
        -scores,
        anomalous[found.kept].astype(int),
        samples.labels[found.kept] if normal else None,
        threshold=detector.calibration_.threshold,
        calibration_scores=None if detector.model_.calibration_weights is not None else -detector.calibration_scores_,
        prevalence=prevalence,
        miss=miss,
        false_alarm=false_alarm,
    )
    masks = None if samples.masks is None else [samples.masks[i] for i in np.arange(len(rows))[found.kept]]
    reading = reading_for(detector, given.reading).images
    pixels = pixel_results(detector.model_, rows[found.kept], masks, anomalous[found.kept], reading)
    about = {"data": samples.source, "model": str(model), "fitted_on": found.facts}
    promised = {"promised_false_alarms": promised_alarms(detector.calibration_, evaluation.roc_auc.n_normal)}
    if output is not None:
        with atomic_write(output, "w", encoding="utf-8") as file:
            json.dump(about | {"test": evaluation.to_dict(curves=True) | promised | {"pixels": pixels}}, file)
    test = evaluation.to_dict() | promised | {"pixels": pixels}
    if as_json:
        click.echo(json.dumps(about | {"test": test}, indent=2))
    else:
        data = [samples.source] if found.note is None else [samples.source, found.note]
        lines = [*titled("data", data), *titled("model", [str(model)])]
        print_lines(*lines, *titled("test", describe_evaluation(test)))


def describe_evaluation(test: dict[str, Any]) -> list[str]:
    """An evaluation as lines of text."""
    overall, precision, decisions = test["roc_auc"], test["average_precision"], test["decisions"]
    lines = [
        f"{overall['n_normal']:,} normal and {overall['n_anomalous']:,} anomalous samples",
        f"ROC-AUC {overall['value']:.4f} (95 % interval {overall['low']:.4f} to {overall['high']:.4f}); "
        f"{test['partial_auc']:.4f} up to 10 % false alarms",
        f"average precision {precision['value']:.4f} ({precision['low']:.4f} to {precision['high']:.4f}; "
        f"{test['average_precision_chance']:.4f} by chance)",
        f"{test['fpr_at_95_tpr']:.1%} false alarms where 95 % of the anomalies are found; "
        f"{test['tpr_at_1_fpr']:.1%} found at 1 % false alarms",
    ]
    if overall["high"] < 0.5 and overall["value"] < FAR_BELOW_CHANCE:
        lines.append(
            "this is far below 0.5: anomalies score as more normal than normals do. Are the labels the other way round "
            "(--normal)?"
        )
    if decisions is not None:
        found, alarms = decisions["detection_rate"], decisions["false_alarm_rate"]
        lines.append(
            f"at the threshold {found['value']:.1%} of anomalies found ({found['low']:.1%} to {found['high']:.1%}), "
            f"{alarms['value']:.1%} false alarms ({alarms['low']:.1%} to {alarms['high']:.1%})"
        )
        lines.append(
            f"{decisions['true_positives']:,} found, {decisions['false_negatives']:,} missed, "
            f"{decisions['false_positives']:,} false alarms, {decisions['true_negatives']:,} correctly passed"
        )
    lines += pixel_lines(test.get("pixels"))
    if test["at_prevalence"] is not None:
        lines += describe_prevalence(test["at_prevalence"])
    lines += describe_trust(test)
    if test["per_group"]:
        lines.append("anomalous class   ROC-AUC   95 % interval      samples")
    for name, auc in test["per_group"].items():
        interval = f"{auc['low']:.4f} to {auc['high']:.4f}"
        lines.append(f"{name:<15}   {auc['value']:.4f}    {interval}   {auc['n_anomalous']:>6,}")
    return lines


def describe_prevalence(found: dict[str, Any]) -> list[str]:
    """What the threshold is worth at a share of anomalies, as lines of text."""
    precision, f1, cost = found["precision"], found["f1"], found["cost"]
    worth = "nothing is flagged" if precision is None else f"precision {shares(precision)}"
    return [
        f"where {found['prevalence']:.4g} of the samples are anomalies: {worth}, F1 {f1['value']:.3f} "
        f"({f1['low']:.3f} to {f1['high']:.3f})",
        f"and 1,000 samples cost {1000 * cost['value']:.4g} ({1000 * cost['low']:.4g} to {1000 * cost['high']:.4g}), "
        f"at {found['miss']:g} for a miss and {found['false_alarm']:g} for a false alarm",
    ]


def describe_trust(test: dict[str, Any]) -> list[str]:
    """Whether promises are kept and p-values can be relied on, as lines of text."""
    from vae_anomaly.evaluation.verdicts import breaks_promise, is_surprising

    lines = []
    if test["promised_false_alarms"] is not None:
        low, high = promised = test["promised_false_alarms"]
        broken = test["decisions"] is not None and breaks_promise(
            promised, test["decisions"]["false_alarm_rate"]["value"]
        )
        lines.append(
            f"promised for {test['roc_auc']['n_normal']:,} normals: {low:.1%} to {high:.1%} false alarms (95 % "
            "prediction interval)" + (": warning, there are more" if broken else "")
        )
    if test["p_value_check"] is not None:
        check = test["p_value_check"]
        like = (
            "warning, these normals are not like the held-out ones"
            if is_surprising(check["p_value"])
            else "like the held-out ones"
        )
        lines.append(
            f"p-values of the normals: {check['distance']:.3f} from uniform (KS, p = {check['p_value']:.2g}): {like}"
        )
    return lines


def shares(estimate: dict[str, float]) -> str:
    """A share with its interval."""
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"

"""``vae-anomaly drift``: whether the scores of presumed normals have moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.text import print_lines, titled
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.calibration.result import Calibration
    from vae_anomaly.fitted_model import FittedModel

SHARE_BY_ROUNDING = 0.05  # of held-out scores that others may equal, since single precision has few different numbers


@click.command()
@click.argument("reference", type=click_types.existing_file)
@click.argument("new", type=click_types.existing_file)
@click.option(
    "--alarm-bound",
    type=click_types.share,
    default=0.01,
    show_default=True,
    help="Largest probability of an alarm where there is no drift.",
)
@click.option(
    "--sequential",
    is_flag=True,
    help="Show the false-alarm rate at the model's threshold too, by an interval that holds however often you look.",
)
@click.option("--fail-on-drift", is_flag=True, help=f"Exit with {options.ALARM_EXIT_CODE} on an alarm.")
@options.score_option
@options.json_option
@click.pass_context
def drift(
    ctx: click.Context,
    reference: Path,
    new: Path,
    alarm_bound: float,
    sequential: bool,
    fail_on_drift: bool,
    score_name: str | None,
    as_json: bool,
) -> None:
    """Compare scores of presumed normals with a reference.

    REFERENCE is a model (its held-out normals) or a score file of normals, NEW a score file in order of arrival. A
    conformal test martingale raises the alarm, whether scores rise, fall, spread, narrow or gain outliers: without
    drift, the probability that it ever does is at most --alarm-bound. A score file has no rows by which a model could
    know its own, but it knows its held-out scores to the bit: if they are in NEW, the output says so.

    With --sequential, NEW may grow from day to day, as long as it keeps its first rows: the interval of the false-alarm
    rate covers the true one on all days at once, in at least 95 % of streams.
    """
    if sequential and reference.suffix != ".vae":
        raise click.UsageError("--sequential needs a model as REFERENCE, whose threshold decides what is flagged")
    from vae_anomaly.evaluation import measure_drift
    from vae_anomaly.storage.score_table import read_score_table

    scores, note = read_score_table(new)["anomaly_score"].to_numpy(), []
    false_alarms: list[str] = []
    about: dict[str, Any] = {}
    if reference.suffix == ".vae":
        model = options.load_detector(reference, "cpu", score_name).model_
        if model.calibration_weights is not None:
            raise DataError(
                f"{reference}: its held-out normals are weighted for a target, and drift is tested against equal ones: "
                "give as REFERENCE a score file of normals like the target, or the model from before"
            )
        known = -model.calibration_scores
        n_own = own_scores(model, scores)
        about = {"own_scores": n_own}
        if sequential:
            false_alarms, about["sequential"] = describe_false_alarms(scores, model.calibration)
        if n_own:
            note = [
                f"{n_own:,} of the {len(known):,} scores that {reference} was calibrated by are in {new}: it was "
                "scored from rows that the model was fitted on, and cannot show drift; score rows that came later"
            ]
    else:
        known = read_score_table(reference)["anomaly_score"].to_numpy()
    result = measure_drift(known, scores, alarm_bound=alarm_bound)
    if as_json:
        click.echo(json.dumps(result.to_dict() | about, indent=2))
    else:
        alarm = "no alarm" if result.alarm is None else f"ALARM at row {result.alarm}"
        lines = [
            *titled("note", note),
            f"samples    {result.n_reference:,} in the reference, {result.n_new:,} new",
            f"KS         {result.ks.value:.4f} (at least 95 % sure: {result.ks.low:.4f} to {result.ks.high:.4f}), "
            f"p = {result.ks_p_value:.3g}",
            f"PSI        {result.psi:.4f} nats beyond chance; without drift it is at most "
            f"{result.psi_without_drift:.4f} with probability 0.95",
            f"martingale {alarm}: {result.verdict}",
            f"           without drift an alarm is ever raised with probability at most {alarm_bound:g}",
        ]
        print_lines(*lines, *titled("flagged", false_alarms))
    if fail_on_drift and result.alarm is not None:
        ctx.exit(options.ALARM_EXIT_CODE)


def describe_false_alarms(scores: np.ndarray, calibration: Calibration) -> tuple[list[str], dict[str, Any]]:
    """How many of these normals are flagged, with a confidence sequence: as lines of text, and ready for JSON."""
    from vae_anomaly.evaluation import sequential_rate

    expected = calibration.false_alarm_high
    found = sequential_rate(scores > calibration.threshold, expected)
    rate = found.rate
    lines = [
        f"{found.n_flagged:,} of {found.n:,}, {rate.value:.2%} ({rate.low:.2%} to {rate.high:.2%}: at least 95 % sure, "
        "however often you look)"
    ]
    if found.exceeds_at is not None:
        lines.append(
            f"warning: since row {found.exceeds_at} there are more false alarms than the {expected:.2%} that the "
            "calibration lets expect at most"
        )
    return lines, found.to_dict() | {"expected_at_most": expected}


def own_scores(model: FittedModel, scores: np.ndarray) -> int:
    """How many of a model's held-out scores are among anomaly scores ``(N,)``; 0 if no more than new rows have."""
    import numpy as np

    held_out = -model.calibration_scores
    n = int(np.isin(held_out, scores).sum())
    is_chance = model.fitted_on is not None and not model.fitted_on.is_more_than_chance(n, len(held_out))
    return 0 if is_chance or n <= SHARE_BY_ROUNDING * len(held_out) else n

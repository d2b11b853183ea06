"""``vae-anomaly drift``: have the scores of presumed normals moved."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vae_anomaly.cli import options

DRIFT_EXIT_CODE = 3


@click.command()
@click.argument("reference", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--alarm-bound",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Probability of an alarm without drift, at most.",
)
@click.option("--fail-on-drift", is_flag=True, help=f"Exit with {DRIFT_EXIT_CODE} on an alarm.")
@options.score_option
@options.json_option
@click.pass_context
def drift(
    ctx: click.Context,
    reference: Path,
    new: Path,
    alarm_bound: float,
    fail_on_drift: bool,
    score_name: str | None,
    as_json: bool,
) -> None:
    """Compare scores of presumed normals with a reference.

    REFERENCE is a model (its held-out normals) or a score file of normals, NEW a score file in order of arrival. The
    alarm is a conformal test martingale's: without drift it ever goes off with probability at most --alarm-bound.
    """
    from vae_anomaly.evaluation import measure_drift
    from vae_anomaly.reports import read_score_table

    if reference.suffix == ".vae":
        known = -options.load_detector(reference, "cpu", score_name).calibration_scores_
    else:
        known = read_score_table(reference)["anomaly_score"].to_numpy()
    result = measure_drift(known, read_score_table(new)["anomaly_score"].to_numpy(), alarm_bound=alarm_bound)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        alarm = "no alarm" if result.alarm is None else f"ALARM at row {result.alarm}"
        lines = [
            f"samples    {result.n_reference:,} in the reference, {result.n_new:,} new",
            f"KS         {result.ks.value:.4f} (95 % interval {result.ks.low:.4f} to {result.ks.high:.4f}), "
            f"p = {result.ks_p_value:.3g}",
            f"PSI        {result.psi.value:.4f} (95 % interval {result.psi.low:.4f} to {result.psi.high:.4f}) nats",
            f"martingale {alarm}: its largest value 10^{result.log10_martingale:.1f}; without drift it ever reaches "
            f"{1 / alarm_bound:g} with probability at most {alarm_bound:g}",
        ]
        options.say(*lines)
    if fail_on_drift and result.alarm is not None:
        ctx.exit(DRIFT_EXIT_CODE)

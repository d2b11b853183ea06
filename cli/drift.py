"""``vae-anomaly drift``: whether the scores of presumed normals have moved."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.text import print_lines


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
@click.option("--fail-on-drift", is_flag=True, help=f"Exit with {options.ALARM_EXIT_CODE} on an alarm.")
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

    REFERENCE is a model (its held-out normals) or a score file of normals, NEW a score file in order of arrival. A
    conformal test martingale raises the alarm: without drift, the probability that it ever does is at most
    --alarm-bound.
    """
    from vae_anomaly.evaluation import measure_drift
    from vae_anomaly.storage.score_table import read_score_table

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
            f"KS         {result.ks.value:.4f} (at least 95 % sure: {result.ks.low:.4f} to {result.ks.high:.4f}), "
            f"p = {result.ks_p_value:.3g}",
            f"PSI        {result.psi:.4f} nats beyond chance; without drift it is at most "
            f"{result.psi_without_drift:.4f} with probability 0.95",
            f"martingale {alarm}: its largest value 10^{result.log10_martingale:.1f}; without drift it ever reaches "
            f"{1 / alarm_bound:g} with probability at most {alarm_bound:g}",
        ]
        print_lines(*lines)
    if fail_on_drift and result.alarm is not None:
        ctx.exit(options.ALARM_EXIT_CODE)

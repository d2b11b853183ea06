"""``python -m vae_anomaly.cli``."""

from vae_anomaly.cli import main

main(prog_name="vae-anomaly")

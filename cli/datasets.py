"""``vae-anomaly datasets``: the data sets known by name, and which are on disk."""

from __future__ import annotations

from pathlib import Path

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.text import print_lines


@click.command()
@options.data_dir_option
@click.option("--download", type=click.Choice(options.DATASETS), help="Download a data set into the cache now.")
def datasets(data_dir: Path | None, download: str | None) -> None:
    """List the data sets known by name and where they are on disk."""
    from vae_anomaly.datasets import NAMED, load_named, locate

    if download is not None:
        load_named(download, data_dir, progress=True)
    for name, named in NAMED.items():
        if not named.mirrors:
            where = "built in"
        else:
            folder = locate(name, data_dir)
            where = str(folder) if folder else "not on disk (downloaded on first use)"
        print_lines(f"{name:<14} {named.about}", f"{'':<14} {where}")

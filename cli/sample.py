"""``vae-anomaly sample``: what a model takes for normal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.outputs import check_outputs
from vae_anomaly.cli.text import print_lines
from vae_anomaly.storage.outputs import Output

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vae_anomaly.detector import VAEDetector


@click.command()
@click.option(
    "-n",
    "n_samples",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="How many samples.",
)
@click.option(
    "--output",
    type=click_types.file_path,
    required=True,
    help="File to write: .png for a grid of images; .npy or .csv for any samples.",
)
@options.model_option
@click.option("--seed", type=click_types.seed, default=0, show_default=True, help="Seed of the draws.")
@options.device_option
def sample(n_samples: int, output: Path, model: Path, seed: int, device: str) -> None:
    """Draw samples from the model: latents from the prior, decoded to their expected value."""
    import numpy as np

    from vae_anomaly.storage.atomic import atomic_write

    if output.suffix not in (".png", ".npy", ".csv"):
        raise click.BadParameter(f"{output} is neither .png, .npy nor .csv", param_hint="--output")
    check_outputs({"--model": model}, Output("--output", output))
    detector = options.load_detector(model, device)
    samples = detector.sample(n_samples, random_state=seed)
    if output.suffix != ".csv" and detector.model_.columns is not None:
        raise click.ClickException("the model's samples are rows of a table: use .csv")
    if output.suffix == ".png":
        write_grid(output, detector, samples)
    elif output.suffix == ".npy":
        with atomic_write(output) as file:
            np.save(file, samples, allow_pickle=False)
    else:
        write_table(output, detector, samples)
    print_lines(f"wrote {output}")


def write_grid(output: Path, detector: VAEDetector, samples: np.ndarray) -> None:
    """Write images as a .png of all of them."""
    from vae_anomaly.reports import image_grid
    from vae_anomaly.storage.atomic import atomic_write

    if detector.image_shape_ is None or detector.image_shape_[2] not in (1, 3):
        raise click.ClickException("the model's samples are no images that a .png can show: use .npy or .csv")
    scaling = detector.vae_.scaling
    limits = tuple(scaling.inverse(scaling.loc.new_tensor([0.0, 1.0])).tolist()) if scaling.loc.ndim == 0 else None
    figure = image_grid(samples.reshape(-1, *detector.image_shape_), limits)
    with atomic_write(output) as file:
        figure.savefig(file, format="png", dpi=100)


def write_table(output: Path, detector: VAEDetector, samples: np.ndarray | pd.DataFrame) -> None:
    """Write samples as rows of a .csv, with a header if the model knows names of features."""
    import pandas as pd

    from vae_anomaly.storage.atomic import atomic_write

    names = getattr(detector, "feature_names_in_", None)
    own = samples if isinstance(samples, pd.DataFrame) else samples.reshape(len(samples), -1)
    frame = pd.DataFrame(own, columns=names)
    with atomic_write(output, "w", encoding="utf-8", newline="") as file:
        frame.to_csv(file, index=False, header=names is not None)

"""``vae-anomaly score``: anomaly scores, a chunk at a time."""

from __future__ import annotations

from pathlib import Path

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.fit import to_frame


@click.command()
@click.argument("data", type=options.data_path)
@options.model_option
@click.option(
    "--output",
    type=options.file_path,
    help="File to write: .csv, .parquet, .jsonl or .npy.  [default: CSV on stdout]",
)
@options.label_column_option
@options.device_option
def score(data: Path, model: Path, output: Path | None, label_column: str | None, device: str) -> None:
    """Score samples: higher is more anomalous.

    DATA is a .npy, .npz, .csv or .parquet file, a folder of images, or - for CSV or .npy on standard input. One row
    comes out for each sample: index, anomaly_score (the negative ELBO, in nats), decision (1 = anomaly), and the ELBO's
    two terms: anomaly_score = kl - reconstruction. Memory does not grow with the file.
    """
    import sys

    import pandas as pd
    from tqdm import tqdm

    from vae_anomaly.datasets import chunks
    from vae_anomaly.reports import open_score_table

    detector = options.load_model(model, device)
    n_rows = max(1, options.CHUNK_BYTES // (8 * detector.n_features_in_))
    with (
        open_score_table(output or sys.stdout) as write,
        tqdm(unit=" rows", desc="scoring", disable=None, leave=False) as bar,
    ):
        start = 0
        for part in chunks(data, n_rows, label_column):
            terms = detector.elbo_terms(to_frame(part))
            anomaly_score = terms.kl - terms.reconstruction
            columns = {
                "index": range(start, start + len(part)),
                "anomaly_score": anomaly_score,
                "decision": (anomaly_score > detector.calibration_.threshold).astype(int),
                "reconstruction": terms.reconstruction,
                "kl": terms.kl,
            }
            if part.row_names is not None:
                columns["file"] = part.row_names
            write(pd.DataFrame(columns))
            start += len(part)
            bar.update(len(part))

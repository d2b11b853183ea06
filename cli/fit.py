"""``vae-anomaly fit``: train, evaluate, calibrate, write the model."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.data import data_to_fit, is_normal, listed, named_parts, take
from vae_anomaly.cli.evaluate import describe_evaluation
from vae_anomaly.parameters import PARAMETERS
from vae_anomaly.registry import SCORES

if TYPE_CHECKING:
    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.reports import Report
    from vae_anomaly.storage.rows import RowsOnDisk


UNLABELLED_ROWS = 10_000
CONSTRAINTS: dict[str, Any] = {parameter.name: parameter.constraint for parameter in PARAMETERS}


@click.command()
@click.option(
    "--normal", type=options.NameList(), help="Classes that are normal, such as 0,1,2; the rest is anomalous."
)
@click.option(
    "--dataset",
    type=click.Choice(options.DATASETS),
    help="Data set by name.  [default: mnist, or digits offline]",
)
@options.data_dir_option
@click.option(
    "--data", type=options.data_path, help="Your own data: .npy, .npz, .csv, .parquet, .zarr or a folder of images."
)
@options.labels_option
@options.label_column_option
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of your own labelled normals kept for the test, beside all anomalies.",
)
@click.option(
    "--output",
    type=options.file_path,
    default=Path("model.vae"),
    show_default=True,
    help="Model file to write.",
)
@click.option("--scores", type=options.file_path, help="Scores of the test part.  [default: OUTPUT with .scores.csv]")
@click.option(
    "--architecture",
    type=click.Choice(tuple(CONSTRAINTS["architecture"])),
    default="mlp",
    show_default=True,
    help="Encoder and decoder.",
)
@click.option(
    "--latent-dim",
    type=click.IntRange(1),
    help="Size of the latent space.  [default: 16, less for few features]",
)
@click.option(
    "--likelihood",
    type=click.Choice(tuple(CONSTRAINTS["likelihood"])),
    default="auto",
    show_default=True,
    help="p(x|z); auto: correlated_gaussian for images, gaussian for tables.",
)
@click.option(
    "--prior",
    type=click.Choice(tuple(CONSTRAINTS["prior"])),
    default="auto",
    show_default=True,
    help="p(z), fitted after training; auto: mixture for images, exemplars for tables.",
)
@click.option(
    "--score",
    "score_name",
    type=click.Choice(tuple(SCORES)),
    default="elbo",
    show_default=True,
    help="What samples are judged by; other commands can choose another.",
)
@click.option(
    "--preprocessing",
    type=click.Choice(tuple(CONSTRAINTS["preprocessing"])),
    default="auto",
    show_default=True,
    help="Scaling of the data.",
)
@click.option("--image-shape", type=options.Shape(), metavar="HxW[xC]", help="Shape of images that come as flat rows.")
@click.option(
    "--input-noise",
    type=click.FloatRange(0),
    help="Noise on training inputs, in multiples of their spread.  [default: 2 for 28x28 images, 0.2 for tables]",
)
@click.option(
    "--epochs", type=click.IntRange(1), help="Most passes over the data.  [default: 30, more for few samples]"
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Samples a training step.  [default: 128, or 256 from 25,000 samples or 2,500 images up]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "full", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the products in training; auto takes bfloat16 where it is measured to be faster.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    help="Its peak.  [default: 0.001 for 128 samples a step, growing with their root]",
)
@click.option(
    "--patience", type=click.IntRange(1), help="Epochs without progress before stopping.  [default: a third of them]"
)
@click.option(
    "--contamination",
    type=options.Contamination(),
    metavar="auto|SHARE",
    default="auto",
    show_default=True,
    help="auto: 5 % false alarms on held-out normals; a number: that share of the training samples is flagged.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Same seed, same model, to the bit.",
)
@click.option(
    "--report/--no-report",
    "with_report",
    default=True,
    show_default=True,
    help="Write a report on the test part, the page OUTPUT with .report/report.html.",
)
@click.option(
    "--checkpoint",
    "checkpoint_dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to keep the training's state in, so that --resume goes on where it was killed.",
)
@click.option(
    "--checkpoint-interval",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds between two checkpoints.",
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --checkpoint, if there is one.")
@click.option(
    "--engine",
    type=click.Choice(("ray",)),
    help="Fit by several workers of a Ray cluster; all must see the data, and the folder of --checkpoint.",
)
@options.address_option
@options.workers_option
@options.device_option
@options.json_option
def fit(
    normal: tuple[str, ...] | None,
    dataset: str | None,
    data_dir: Path | None,
    data: Path | None,
    labels: Path | None,
    label_column: str | None,
    test_fraction: float,
    output: Path,
    scores: Path | None,
    with_report: bool,
    seed: int,
    checkpoint_dir: Path | None,
    resume: bool,
    as_json: bool,
    engine: str | None,
    address: str | None,
    workers: int | None,
    **parameters: Any,
) -> None:
    """Train on normal samples, evaluate on unseen ones, write a model file.

    \b
    vae-anomaly fit --normal 0,1,2                       MNIST's own training and test parts
    vae-anomaly fit --data normals.npy                   everything in the file is normal
    vae-anomaly fit --data all.csv --label-column label  0 = normal, 1 = anomaly
    """  # noqa: D301 - click reads the control character
    if data is None:
        if labels or label_column:
            raise click.UsageError("--labels and --label-column go with --data")
        if normal is None:
            raise click.UsageError("say which classes are normal, such as --normal 0,1,2, or give --data")
    elif dataset or data_dir:
        raise click.UsageError("give either --data or --dataset (with --data-dir), not both")
    if engine is None and (address is not None or workers is not None):
        raise click.UsageError("--address and --workers go with --engine")
    if engine is not None and checkpoint_dir is None:
        raise click.UsageError("--engine ray needs --checkpoint, a folder that all workers see")
    if resume and checkpoint_dir is None:
        raise click.UsageError("--resume needs --checkpoint, the folder with the checkpoints to go on from")
    from vae_anomaly.reports import check_report_folder
    from vae_anomaly.storage.score_table import SCORE_SUFFIXES

    scores = scores or output.with_suffix(".scores.csv")
    if scores.suffix not in SCORE_SUFFIXES:
        raise click.BadParameter(f"{scores} is none of {', '.join(SCORE_SUFFIXES)}", param_hint="--scores")
    for path in (output, scores):
        check_writable(path)
    folder = output.with_suffix(".report")
    if with_report:
        check_report_folder(folder)

    if engine is not None and not click.get_current_context().find_root().obj:
        fit_on_ray(checkpoint_dir, resume, address, workers)
        return
    from vae_anomaly.fitting.distributed import joined

    judged = None
    with joined() as team, resumable(checkpoint_dir, resume, team.rank):
        name, training, test = gather(normal, dataset, data_dir, data, labels, label_column, test_fraction, seed)
        from vae_anomaly.detector import VAEDetector
        from vae_anomaly.storage.rows import RowsOnDisk

        on_disk = isinstance(training, RowsOnDisk)
        parameters |= {"checkpoint_dir": checkpoint_dir, "resume": resume}
        detector = VAEDetector(random_state=seed, verbose=True, **parameters)
        started = time.perf_counter()
        detector.fit_keeping_checkpoints(training if isinstance(training, RowsOnDisk) else training.to_frame())
        seconds = time.perf_counter() - started
        if team.rank:
            return  # the first of them has the same model
        about = {
            "name": name,
            "source": training.source,
            "normal": None if normal is None else list(normal),
            "n_normal": len(training),
        } | ({"on_disk": True} if on_disk else {})
        detector.metadata_ = {"data": about}
        detector.save(output)
        files = {"model": str(output)}
        if test is not None or with_report:
            seen = look(detector, training, test, normal, output)
            files |= write_findings(seen, None if test is None else scores, folder if with_report else None)
            if seen.evaluation is not None:
                judged = seen.evaluation.to_dict() | {"promised_false_alarms": seen.promised}
    summary = {
        "data": about,
        "model": describe_model(detector, seconds),
        "threshold": vars(detector.calibration_),
        "test": judged,
        "files": files,
    }
    click.echo(json.dumps(summary, indent=2) if as_json else render(summary))


def fit_on_ray(checkpoint_dir: Path | None, resume: bool, address: str | None, workers: int | None) -> None:
    """Have workers run the command that was typed; when one dies, all of them go on from the newest checkpoint."""
    from vae_anomaly.engines.on_ray import train_on_ray
    from vae_anomaly.fitting import checkpoints

    assert checkpoint_dir is not None
    if not resume:
        checkpoints.refuse_existing(checkpoint_dir)
    checkpoint_dir.mkdir(parents=True, exist_ok=True)
    typed = click.get_current_context().meta[options.ARGUMENTS]
    given = {"folder": os.getcwd(), "arguments": [*typed, *(() if resume else ("--resume",))]}
    with contextlib.redirect_stdout(io.StringIO()):  # where Ray would tell of every worker that dies
        said = train_on_ray(on_worker, given, workers, address, checkpoint_dir.absolute())
    click.echo(said, nl=False)


def on_worker(given: dict[str, Any]) -> str:
    """Run the command on one of several workers; what it prints.

    Raises
    ------
    EngineError
        If it fails, with its message.
    """
    from vae_anomaly.cli import main
    from vae_anomaly.errors import EngineError

    os.chdir(given["folder"])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            main(given["arguments"], standalone_mode=False, obj="a worker")
        except click.ClickException as error:
            raise EngineError(error.message) from None
    return said.getvalue()


@contextlib.contextmanager
def resumable(folder: Path | None, resume: bool, rank: int) -> Iterator[None]:
    """Have the block's fit keep checkpoints in a folder, if one is given; empty it once all its files are written.

    Of several ranks the first speaks and cleans up. An interruption gets a note: the command that goes on. Of a damaged
    checkpoint a line on stderr tells.
    """
    if folder is None:
        yield
        return
    from vae_anomaly.errors import CheckpointWarning
    from vae_anomaly.fitting import checkpoints

    if not resume:
        checkpoints.refuse_existing(folder)
    elif not rank and not checkpoints.found(folder):
        click.echo(f"note: {folder} holds no checkpoint: starting from the beginning", err=True)
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder / "probe")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", CheckpointWarning)
            warnings.showwarning = lambda message, *rest: click.echo(f"note: {message}", err=True)
            yield
    except KeyboardInterrupt as interruption:
        typed = click.get_current_context().meta[options.ARGUMENTS]
        command = shlex.join(["vae-anomaly", *typed, *(() if resume else ("--resume",))])
        found = checkpoints.found(folder)
        interruption.add_note(f"to go on: {command}" if found else "there was no checkpoint yet to go on from")
        raise
    if not rank:
        checkpoints.remove(folder)


def check_writable(path: Path) -> None:
    """Find out before the training, not after it, that a file cannot be written."""
    from vae_anomaly.storage.atomic import atomic_write

    try:
        with atomic_write(path):
            raise InterruptedError
    except InterruptedError:
        pass


def gather(
    normal: tuple[str, ...] | None,
    dataset: str | None,
    data_dir: Path | None,
    data: Path | None,
    labels: Path | None,
    label_column: str | None,
    test_fraction: float,
    seed: int,
) -> tuple[str, Dataset | RowsOnDisk, Dataset | None]:
    """A name, the normals to train on, and the samples to judge the model by, if labels allow it."""
    import numpy as np

    from vae_anomaly.storage.rows import RowsOnDisk

    if data is None:
        name, given, test = named_parts(dataset, data_dir)
        assert given.labels is not None
        return name, given.take(is_normal(given.labels, normal, given.source)), test
    own, names = data_to_fit(data, labels, label_column)
    if names is None:
        if normal is not None:
            raise click.UsageError("--normal needs labels: give --labels, --label-column or a folder of classes")
        return str(data), own, None
    normals = is_normal(names, normal, own.source)
    rng, anomalies = np.random.default_rng(seed), np.flatnonzero(~normals)
    rows, shown = rng.permutation(np.flatnonzero(normals)), anomalies
    n_test = round(test_fraction * len(rows)) if len(anomalies) else 0
    if isinstance(own, RowsOnDisk):
        n_test, shown = min(n_test, own.most_held()), rng.permutation(anomalies)[: own.most_held()]
        training: Dataset | RowsOnDisk = own.without(np.concatenate([rows[:n_test], anomalies]))
    else:
        training = own.take(np.sort(rows[n_test:]))
    if not n_test:
        return str(data), training, None
    return str(data), training, take(own, np.sort(np.concatenate([rows[:n_test], shown])), names)


def look(
    detector: VAEDetector,
    training: Dataset | RowsOnDisk,
    test: Dataset | None,
    normal: tuple[str, ...] | None,
    model: Path,
) -> Report:
    """What a report shows: the test part, or without one an even sample of what was given."""
    import numpy as np

    from vae_anomaly.cli.report import gather
    from vae_anomaly.storage.rows import RowsOnDisk

    if test is not None:
        assert test.labels is not None
        return gather(detector, test, ~is_normal(test.labels, normal, test.source), normal, model)
    most = training.most_held(UNLABELLED_ROWS) if isinstance(training, RowsOnDisk) else UNLABELLED_ROWS
    rows = np.unique(np.linspace(0, len(training) - 1, min(len(training), most)).astype(int))
    note = (
        f"There is no test part: these are {len(rows):,} of the {len(training):,} samples given, most of which the "
        "model was trained on. Those flagged may be anomalies among them."
    )
    return gather(detector, take(training, rows), None, None, model, (note,))


def write_findings(seen: Report, scores: Path | None, folder: Path | None) -> dict[str, str]:
    """Write a score table and a report, where they are wanted; returns what stands where."""
    from vae_anomaly import reports
    from vae_anomaly.storage.score_table import open_score_table

    files = {}
    if scores is not None:
        with open_score_table(scores) as write:
            write(seen.frame())
        files["scores"] = str(scores)
    if folder is not None:
        reports.write_report(seen, folder)  # of which the import alone takes a second
        files["report"] = str(folder / reports.PAGE)
    return files


def describe_model(detector: VAEDetector, seconds: float) -> dict[str, Any]:
    """What was trained, and how it went."""
    history = detector.history_
    best = max(history, key=lambda epoch: epoch["validation_reconstruction"] - epoch["validation_kl"])
    return {
        "architecture": detector.architecture,
        "likelihood": detector.likelihood_,
        "prior": detector.prior_,
        "score": detector.score_name,
        "latent_dim": detector.noise_.shape[-1],
        "n_parameters": sum(weight.numel() for weight in detector.vae_.parameters()),
        "n_features": detector.n_features_in_,
        "image_shape": detector.image_shape_,
        "validation_fraction": detector.validation_fraction,
        "calibration_fraction": detector.calibration_fraction,
        "seed": detector.random_state,
        "device": str(detector.vae_.scaling.loc.device),
        "precision": detector.precision_,
        "seconds": round(seconds, 2),
        "epochs": len(history),
        "best_epoch": best["epoch"],
        "validation_elbo": best["validation_reconstruction"] - best["validation_kl"],
        "validation_reconstruction": best["validation_reconstruction"],
        "validation_kl": best["validation_kl"],
    }


def render(summary: dict[str, Any]) -> str:
    """The summary as text."""
    data, model, test = summary["data"], summary["model"], summary["test"]
    images = model["image_shape"]
    shape = " x ".join(map(str, images)) + " images" if images else f"{model['n_features']} features"
    which = f", normal: {listed(data['normal'])}" if data["normal"] else ""
    most = ", at most 20,000 samples or 32 MiB each, the rest read from disk" if data.get("on_disk") else ""
    lines = [
        f"data       {data['source']}{which}",
        f"           {data['n_normal']:,} normal samples, {shape}; {model['validation_fraction']:.0%} held out to "
        f"stop the training, {model['calibration_fraction']:.0%} to set the threshold{most}",
        f"model      {model['architecture']}, {model['likelihood']} likelihood, {model['prior']} prior, "
        f"{model['latent_dim']} latents, {model['n_parameters']:,} weights",
        f"training   {model['epochs']} epochs in {model['seconds']:.1f} s on {model['device']}"
        f"{' with bfloat16 products' if model['precision'] == 'bfloat16' else ''}, "
        f"best epoch {model['best_epoch']}, seed {model['seed']}",
        f"           validation ELBO in training {model['validation_elbo']:.1f} nats = reconstruction "
        f"{model['validation_reconstruction']:.1f} - KL {model['validation_kl']:.1f}",
        *options.column("threshold", options.describe_calibration(summary["threshold"])),
    ]
    if model["score"] != "elbo":
        lines.append(f"score      {model['score']}")
    if test is not None:
        lines += options.column("test", describe_evaluation(test))
    lines.append(f"wrote      {', '.join(summary['files'].values())}")
    return options.shown(*lines)

"""``vae-anomaly benchmark``: this detector and others, by one protocol, to a table."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly import __version__
from vae_anomaly.cli import options
from vae_anomaly.cli.data import is_normal, listed, named_parts
from vae_anomaly.errors import DataError
from vae_anomaly.registry import SCORES

if TYPE_CHECKING:
    from vae_anomaly.benchmark.protocols import Case

PROTOCOLS = ("one-class", "multi", "leave-one-out", "ood", "tabular")
PACKAGES = ("vae-anomaly", "numpy", "scipy", "scikit-learn", "torch", "pyod")
QUICK_CASES = 2
folder_path = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True)
class Plan:
    """What there is to run: fingerprints of the data, and for each case's name how to make it."""

    data: dict[str, str]
    cases: dict[str, Callable[[], Iterator[Case]]]

    def restricted(self, names: tuple[str, ...]) -> Plan:
        """The plan with these cases alone."""
        unknown = [name for name in names if name not in self.cases]
        if unknown:
            raise click.BadParameter(
                f"no case {listed(unknown)}: there are {listed(list(self.cases))}", param_hint="--cases"
            )
        return Plan(self.data, {name: self.cases[name] for name in names})


@click.command()
@click.argument("protocol", type=click.Choice(PROTOCOLS))
@click.option(
    "--dataset",
    type=click.Choice(options.DATASETS),
    help="Data set by name.  [default: mnist, or digits offline]",
)
@options.data_dir_option
@click.option("--data", type=folder_path, help="For tabular: a folder of .npz files with X and y (1 = anomaly).")
@click.option("--normal", type=options.NameList(), help="For multi: classes that are normal.  [default: 0,1,2]")
@click.option("--methods", type=options.NameList(), default="all", show_default=True, help="Such as vae,pca,lof.")
@click.option(
    "--scores",
    type=options.NameList(),
    default="default",
    show_default=True,
    help="Scores of vae, by name; default: all but the slow ones; all.",
)
@click.option("--seeds", type=click.IntRange(1), help="How many, from 0.  [default: 3; 5 for tabular; 1 with --quick]")
@click.option("--cases", type=options.NameList(), help="Only these: classes, data sets or files.  [default: all]")
@click.option("--quick", is_flag=True, help="A small size that ends in seconds, to see that it runs.")
@click.option("--fresh", is_flag=True, help="Begin anew where records of an earlier run are in the way.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmark"),
    show_default=True,
    help="Folder for PROTOCOL.csv, .json, .md, and the records to resume from.",
)
@options.device_option
def benchmark(
    protocol: str,
    dataset: str | None,
    data_dir: Path | None,
    data: Path | None,
    normal: tuple[str, ...] | None,
    methods: tuple[str, ...],
    scores: tuple[str, ...],
    seeds: int | None,
    cases: tuple[str, ...] | None,
    quick: bool,
    fresh: bool,
    output: Path,
    device: str,
) -> None:
    """Run one protocol on this detector and on others: one split, one scaling, several seeds, one table.

    \b
    one-class      each class normal in turn
    multi          several classes normal (--normal 0,1,2)
    leave-one-out  all classes normal but one
    ood            a data set against the others on disk and against synthetic images, both directions
    tabular        every .npz of --data: train on half of the normals, test on the rest and all anomalies

    Each finished record is on disk at once: the same command goes on where it was cut. PyOD's detectors take part
    where it is installed (pip install 'vae-anomaly[bench]'), where it puts them; --device is for this detector.
    """  # noqa: D301 - click reads the control character
    if (protocol == "tabular") != (data is not None) or (data is not None and (dataset or data_dir)):
        raise click.UsageError("tabular needs --data FOLDER, all other protocols a --dataset (with --data-dir)")
    if normal is not None and protocol != "multi":
        raise click.UsageError("--normal goes with multi")
    seeds = seeds or (1 if quick else 5 if protocol == "tabular" else 3)
    plan = tables(data, seeds) if data is not None else images(protocol, dataset, data_dir, normal or ("0", "1", "2"))
    if cases is not None:
        plan = plan.restricted(cases)
    elif quick:
        plan = plan.restricted(tuple(plan.cases)[:QUICK_CASES])
    chosen, named = chosen_methods(methods), chosen_scores(scores)

    from vae_anomaly.benchmark.run import QUICK_ROWS, Key, run
    from vae_anomaly.reports import RecordLog, record_frame, summary_table, write_benchmark

    settings = {"version": __version__, "protocol": protocol, "quick": quick, "device": device, "data": plan.data}
    settings |= {"normal": normal or ["0", "1", "2"]} if protocol == "multi" else {}
    output.mkdir(parents=True, exist_ok=True)
    log = RecordLog(output / f"{protocol}.records.jsonl", settings, fresh=fresh)

    def key(record: dict[str, Any]) -> Key:
        return Key(*(record[name] for name in Key._fields))

    made = chain.from_iterable(make() for make in plan.cases.values())
    for record in run(
        (case.shrunk(QUICK_ROWS) for case in made) if quick else made,
        chosen,
        seeds=range(seeds),
        scores=named,
        device=device,
        done={key(record) for record in log.records if record["error"] is None},
        n_cases=len(plan.cases) * (seeds if protocol == "tabular" else 1),
        progress=True,
    ):
        log.append(record)

    # what failed in an earlier run was tried again: the last word counts
    records = record_frame({key(record): record for record in log.records}.values())
    around = environment()
    about = {
        "command": command_line(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": settings,
        "environment": around,
    }
    notes = [f"command: `{about['command']}`"]
    if quick:
        notes.append(
            f"**quick look**: at most {QUICK_ROWS} samples of each kind and few cases; it shows that everything runs, "
            "not how good anything is"
        )
    notes += [
        f"data: {listed(list(plan.data))}; seeds: {listed([str(seed) for seed in sorted(set(records['seed']))])}",
        f"{', '.join(f'{name} {version}' for name, version in around['packages'].items())}; {around['cpu']}, "
        f"{around['threads']} threads, device {around['device']}",
        "means over seeds, then over cases; bold: ROC-AUC below 0.5, anomalies score as more normal than normals do",
    ]
    paths = write_benchmark(output, protocol, records, about, notes)
    if quick:
        options.say(f"quick look: at most {QUICK_ROWS} samples of each kind", "")
    options.say(*summary_table(records).split("\n"), "", f"wrote {', '.join(map(str, paths))}")


def images(protocol: str, dataset: str | None, data_dir: Path | None, normal: tuple[str, ...]) -> Plan:
    """Cases of the protocols on named image data sets."""
    import numpy as np

    from vae_anomaly.benchmark import protocols as benchmark
    from vae_anomaly.datasets import NAMED, load_named, locate
    from vae_anomaly.storage.rows import fingerprint

    name, training, test = named_parts(dataset, data_dir)
    if protocol == "ood":
        sets = {name: (training.X, test.X)}
        for other, about in NAMED.items():
            if other != name and (not about.mirrors or locate(other, data_dir)):
                more, unseen = load_named(other, data_dir)
                sets[other] = (more.X, unseen.X)

        def against_the_rest(own: str) -> Iterator[Case]:
            others = {other: X_test for other, (_, X_test) in sets.items() if other != own}
            return benchmark.out_of_distribution(own, *sets[own], others)

        return Plan(
            {own: fingerprint(*arrays) for own, arrays in sets.items()},
            {own: partial(against_the_rest, own) for own in sets},
        )
    assert training.labels is not None
    assert test.labels is not None
    arrays = training.X, training.labels, test.X, test.labels
    data = {name: fingerprint(*arrays)}
    if protocol == "multi":
        is_normal(test.labels, normal, test.source)
        return Plan(data, {"+".join(normal): partial(benchmark.multi, *arrays, normal)})
    make = benchmark.one_class if protocol == "one-class" else benchmark.leave_one_out
    return Plan(data, {label: partial(make, *arrays, [label]) for label in np.unique(test.labels).tolist()})


def tables(folder: Path, seeds: int) -> Plan:
    """Cases of the tabular protocol."""
    from vae_anomaly.benchmark import protocols as benchmark
    from vae_anomaly.datasets import load_file

    files = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if not files:
        raise DataError(f"{folder} holds no .npz files")

    def case(name: str) -> Iterator[Case]:
        table = load_file(files[name])
        if table.labels is None:
            raise DataError(f"{files[name]} has no labels: needs y, 1 = anomaly")
        anomalous = ~is_normal(table.labels, None, table.source)
        return benchmark.tabular(name, table.X, anomalous.astype(int), range(seeds))

    data = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return Plan(data, {name: partial(case, name) for name in files})


def chosen_methods(methods: tuple[str, ...]) -> list[str]:
    """Names of methods; all of them means those that are installed, and says which are not."""
    from vae_anomaly.benchmark.peers import PEERS
    from vae_anomaly.benchmark.run import VAE, check_methods

    if methods != ("all",):
        try:
            check_methods(methods)
        except DataError as error:
            raise click.BadParameter(str(error), param_hint="--methods") from error
        return list(methods)
    missing = [name for name, peer in PEERS.items() if not peer.available]
    if missing:
        click.echo(f"note: left out, PyOD is not installed: {', '.join(missing)}", err=True)
    return [VAE, *(name for name in PEERS if name not in missing)]


def chosen_scores(scores: tuple[str, ...]) -> list[str]:
    """Names of this detector's scores."""
    from vae_anomaly.benchmark.run import DETECTOR_SCORES

    if scores == ("all",):
        return list(DETECTOR_SCORES)
    if scores == ("default",):
        return [name for name in DETECTOR_SCORES if not SCORES.entry(name).facts.get("slow")]
    unknown = [name for name in scores if name not in DETECTOR_SCORES]
    if unknown:
        raise click.BadParameter(
            f"no score {listed(unknown)}: there are {listed(DETECTOR_SCORES)}", param_hint="--scores"
        )
    return list(scores)


def command_line() -> str:
    """The command as it was given, without what changes no number: where things are on this machine."""
    context = click.get_current_context()
    words = ["vae-anomaly", "benchmark", context.params["protocol"]]
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if given and name not in ("protocol", "output", "data_dir", "fresh"):
            words += [parameter.opts[-1], *shown(context.params[name])]
    return " ".join(words)


def shown(value: Any) -> list[str]:
    """An option's value as it is typed: nothing for a flag, of a folder its name."""
    if value is True:
        return []
    if isinstance(value, Path):
        return [value.name]
    return [",".join(value) if isinstance(value, tuple) else str(value)]


def environment() -> dict[str, Any]:
    """What times and numbers depend on."""
    import torch

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "packages": packages,
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def cpu_name() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

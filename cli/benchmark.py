"""``vae-anomaly benchmark``: this detector and others, by one protocol, to a table."""

from __future__ import annotations

import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly import __version__
from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.benchmark_environment import command_line, environment
from vae_anomaly.cli.benchmark_plan import (
    DEFECT_PROTOCOL,
    PROTOCOLS,
    TABLE_PROTOCOLS,
    Plan,
    TableOptions,
    plan_defects,
    plan_images,
    plan_tables,
    table_files,
)
from vae_anomaly.cli.data import DataOptions
from vae_anomaly.cli.outputs import check_outputs, data_inputs
from vae_anomaly.cli.text import comma_separated, print_lines
from vae_anomaly.errors import DataError
from vae_anomaly.registry import SCORES
from vae_anomaly.storage.outputs import Output

if TYPE_CHECKING:
    from vae_anomaly.benchmark.run import Key
    from vae_anomaly.storage.record_log import RecordLog

QUICK_CASES = 2


@click.command()
@click.argument("protocol", type=click.Choice(PROTOCOLS))
@options.dataset_option
@options.data_dir_option
@click.option(
    "--data",
    type=click_types.existing_path,
    help="For tables: a folder of .npz files with X and y (1 = anomaly), or one file; planted needs no y.",
)
@click.option("--label-column", help="For tables: the column of --data with the labels (1 = anomaly).")
@click.option(
    "--only-numbers", is_flag=True, help="For contaminated and planted: leave out all columns but those of numbers."
)
@click.option("--kinds", type=click_types.NameList(), help="For planted: kinds of errors.  [default: all that apply]")
@click.option("--errors", type=click.IntRange(1), help="For planted: rows with an error.  [default: 10]")
@click.option("--side", type=click.IntRange(1), help="For defects: pixels along a side of the cloth.  [default: 64]")
@click.option("--normal", type=click_types.NameList(), help="For multi: classes that are normal.  [default: 0,1,2]")
@click.option(
    "--methods",
    type=click_types.NameList(),
    default="all",
    show_default=True,
    help="Methods to compare, such as vae,pca,lof.",
)
@click.option(
    "--scores",
    type=click_types.NameList(),
    default="default",
    show_default=True,
    help="Scores of vae, by name; default: all but the slow ones; all.",
)
@click.option(
    "--seeds", type=click.IntRange(1), help="Number of seeds, from 0.  [default: 3; 5 for tables; 1 with --quick]"
)
@click.option("--cases", type=click_types.NameList(), help="Only these: classes, data sets or files.  [default: all]")
@click.option("--quick", is_flag=True, help="A small benchmark of seconds, to see that it runs.")
@click.option("--fresh", is_flag=True, help="Discard the records of an earlier run, and start over.")
@click.option(
    "--output",
    type=click_types.folder_path,
    default=Path("benchmark"),
    show_default=True,
    help="Folder for PROTOCOL.csv, .json, .md, and the records that a later run continues from.",
)
@options.device_option
def benchmark(
    protocol: str,
    dataset: str | None,
    data_dir: Path | None,
    data: Path | None,
    label_column: str | None,
    only_numbers: bool,
    kinds: tuple[str, ...] | None,
    errors: int | None,
    side: int | None,
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
    defects        cloth, texture and digits with small changes of known place, and a camera that moves
    tabular        every table of --data: train on half of the normals, test on the rest and all anomalies
    contaminated   every table of --data: train on all rows, without labels, and judge the same rows
    planted        every table of --data: errors of known place in ten rows, one kind at a time; train on all rows

    Each finished record is on disk at once: the same command goes on where it was interrupted. PyOD's detectors take
    part if it is installed (pip install 'vae-anomaly[bench]'), on the device that PyOD chooses; --device is for this
    detector.
    """  # noqa: D301 - click reads the control character
    check_usage()
    from vae_anomaly.reports import check_benchmark_folder

    given = DataOptions(data=None, dataset=dataset, data_dir=data_dir, labels=None, label_column=None, normal=normal)
    # of the folder --data only these files are read: the results may lie beside them
    read = data_inputs(given) if data is None else {path.name: path for path in table_files(data).values()}
    check_outputs(read, *(Output("--output's", output / name) for name in file_names(protocol)))
    check_benchmark_folder(output, protocol)
    normal, errors, side = normal or ("0", "1", "2"), errors or 10, side or 64
    seeds = seeds or (1 if quick else 5 if data is not None else 3)
    if data is not None:
        tables = TableOptions(data, label_column, only_numbers, kinds, errors)
        plan = plan_tables(protocol, tables, seeds)
    elif protocol == DEFECT_PROTOCOL:
        plan = plan_defects(dataset, data_dir, side, seeds)
    else:
        plan = plan_images(protocol, dataset, data_dir, normal)
    if cases is not None:
        plan = plan.restricted(cases)
    elif quick:
        plan = plan.restricted(tuple(plan.cases)[:QUICK_CASES])
    chosen, named = chosen_methods(methods), chosen_scores(scores)

    from vae_anomaly.storage.atomic import make_folder
    from vae_anomaly.storage.record_log import RecordLog

    settings = {"version": __version__, "protocol": protocol, "quick": quick, "device": device, "data": plan.data}
    settings |= {"normal": normal} if protocol == "multi" else {}
    settings |= {"label_column": label_column} if label_column is not None else {}
    settings |= {"only_numbers": True} if only_numbers else {}
    settings |= {"errors": errors} if protocol == "planted" else {}
    settings |= {"side": side} if protocol == DEFECT_PROTOCOL else {}
    make_folder(output)
    log = RecordLog(output / f"{protocol}.records.jsonl", settings, fresh=fresh)
    run_missing(log, plan, chosen, named, seeds, settings)
    write_results(log, output, settings)


def check_usage() -> None:
    """Refuse options that do not go with the protocol."""
    given = click.get_current_context().params
    protocol, on_tables = given["protocol"], given["protocol"] in TABLE_PROTOCOLS
    if on_tables != (given["data"] is not None) or (on_tables and (given["dataset"] or given["data_dir"])):
        raise click.UsageError(
            f"{', '.join(TABLE_PROTOCOLS[:-1])} and {TABLE_PROTOCOLS[-1]} need --data, all other protocols a --dataset "
            "(with --data-dir)"
        )
    goes_with = {
        "normal": ("multi",),
        "label_column": TABLE_PROTOCOLS,
        "only_numbers": ("contaminated", "planted"),
        "kinds": ("planted",),
        "errors": ("planted",),
        "side": (DEFECT_PROTOCOL,),
    }
    for name, protocols in goes_with.items():
        if given[name] not in (None, False) and protocol not in protocols:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with {comma_separated(protocols)}")


def file_names(protocol: str) -> list[str]:
    """What the folder holds of a benchmark."""
    return [f"{protocol}{suffix}" for suffix in (".records.jsonl", ".csv", ".json", ".md")]


def run_missing(
    log: RecordLog, plan: Plan, methods: list[str], scores: list[str], n_seeds: int, settings: dict[str, Any]
) -> None:
    """Run what has no result in the log yet, and log it."""
    from vae_anomaly.benchmark.run import QUICK_ROWS, run

    cases = chain.from_iterable(make() for make in plan.cases.values())
    for record in run(
        (case.shrunk(QUICK_ROWS) for case in cases) if settings["quick"] else cases,
        methods,
        seeds=range(n_seeds),
        scores=scores,
        device=settings["device"],
        done={key_of(record) for record in log.records if record["error"] is None},
        n_cases=plan.n_cases,
        progress=True,
    ):
        log.append(record)


def key_of(record: dict[str, Any]) -> Key:
    """What identifies the result."""
    from vae_anomaly.benchmark.run import Key

    return Key(*(record[name] for name in Key._fields))


def write_results(log: RecordLog, output: Path, settings: dict[str, Any]) -> None:
    """Write the tables of a finished benchmark, and print the summary."""
    from vae_anomaly.benchmark.run import QUICK_ROWS
    from vae_anomaly.reports import record_frame, summary_table, write_benchmark

    # what failed in an earlier run was run again: the last record of a result counts
    records = record_frame({key_of(record): record for record in log.records}.values())
    about = {
        "command": command_line(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": settings,
        "environment": environment(),
    }
    seeds = sorted(set(records["seed"]))
    paths = write_benchmark(output, settings["protocol"], records, about, notes_on(about, seeds))
    if settings["quick"]:
        print_lines(f"quick look: at most {QUICK_ROWS} samples of each kind", "")
    print_lines(*summary_table(records).split("\n"), "", f"wrote {', '.join(map(str, paths))}")


def notes_on(about: dict[str, Any], seeds: list[int]) -> list[str]:
    """What a reader of the table must know, in Markdown."""
    from vae_anomaly.benchmark.run import QUICK_ROWS

    settings, around = about["settings"], about["environment"]
    notes = [f"command: `{about['command']}`"]
    if settings["quick"]:
        notes.append(
            f"**quick look**: at most {QUICK_ROWS} samples of each kind and few cases; it shows that everything runs, "
            "not how good anything is"
        )
    return [
        *notes,
        f"data: {comma_separated(list(settings['data']))}; seeds: {comma_separated(list(map(str, seeds)))}",
        f"{', '.join(f'{name} {version}' for name, version in around['packages'].items())}; {around['cpu']}, "
        f"{around['threads']} threads, device {around['device']}",
        "means over seeds, then over cases; bold: ROC-AUC below 0.5, anomalies score as more normal than normals do",
    ]


def chosen_methods(methods: tuple[str, ...]) -> list[str]:
    """Names of methods; "all" stands for those that are installed, and a note on stderr lists the others."""
    from vae_anomaly.benchmark.fitted import VAE
    from vae_anomaly.benchmark.peers import PEERS
    from vae_anomaly.benchmark.run import check_methods

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
            f"no score {comma_separated(unknown)}: there are {comma_separated(DETECTOR_SCORES)}", param_hint="--scores"
        )
    return list(scores)

"""What ``vae-anomaly benchmark`` runs: the cases of a protocol, made when their turn comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_anomaly.cli.data import load_named_parts
from vae_anomaly.cli.normal_classes import is_normal
from vae_anomaly.cli.text import comma_separated
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vae_anomaly.benchmark.cases import Case
    from vae_anomaly.datasets import Dataset

IMAGE_PROTOCOLS = ("one-class", "multi", "leave-one-out", "ood")
TABLE_PROTOCOLS = ("tabular", "contaminated", "planted")
DEFECT_PROTOCOL = "defects"
PROTOCOLS = (*IMAGE_PROTOCOLS, DEFECT_PROTOCOL, *TABLE_PROTOCOLS)
DEFECT_DIGITS = ("1", "7")


@dataclass(frozen=True)
class Plan:
    """What to run.

    Parameters
    ----------
    data
        Fingerprints of the data, by name.
    cases
        Functions that make the cases, by name.
    n_of_each
        How many each of them makes; None if that shows only when it has read its data.
    """

    data: dict[str, str]
    cases: Mapping[str, Callable[[], Iterator[Case]]]
    n_of_each: int | None = 1

    @property
    def n_cases(self) -> int | None:
        """How many cases there are, if that is known."""
        return None if self.n_of_each is None else len(self.cases) * self.n_of_each

    def restricted(self, names: tuple[str, ...]) -> Plan:
        """The plan with only these cases."""
        unknown = [name for name in names if name not in self.cases]
        if unknown:
            raise click.BadParameter(
                f"no case {comma_separated(unknown)}: there are {comma_separated(list(self.cases))}",
                param_hint="--cases",
            )
        return replace(self, cases={name: self.cases[name] for name in names})


def plan_images(protocol: str, dataset: str | None, data_dir: Path | None, normal: tuple[str, ...]) -> Plan:
    """Cases of the protocols on named image data sets."""
    import numpy as np

    from vae_anomaly.benchmark import protocols as benchmark
    from vae_anomaly.datasets import NAMED, load_named, locate
    from vae_anomaly.storage.rows import fingerprint

    name, training, test = load_named_parts(dataset, data_dir)
    if protocol == "ood":
        sets = {name: (training.to_array(), test.to_array())}
        for other, about in NAMED.items():
            if other != name and (not about.mirrors or locate(other, data_dir)):
                other_training, other_test = load_named(other, data_dir)
                sets[other] = (other_training.to_array(), other_test.to_array())

        def against_all_others(own: str) -> Iterator[Case]:
            others = {other: X_test for other, (_, X_test) in sets.items() if other != own}
            return benchmark.out_of_distribution(own, *sets[own], others)

        return Plan(
            {own: fingerprint(*arrays) for own, arrays in sets.items()},
            {own: partial(against_all_others, own) for own in sets},
        )
    assert training.labels is not None
    assert test.labels is not None
    arrays = training.to_array(), training.labels, test.to_array(), test.labels
    data = {name: fingerprint(*arrays)}
    if protocol == "multi":
        is_normal(test.labels, normal, test.source)
        return Plan(data, {"+".join(normal): partial(benchmark.multi, *arrays, normal)})
    make = benchmark.one_class if protocol == "one-class" else benchmark.leave_one_out
    return Plan(data, {label: partial(make, *arrays, [label]) for label in np.unique(test.labels).tolist()})


def plan_defects(dataset: str | None, data_dir: Path | None, side: int, n_seeds: int) -> Plan:
    """Cases of images with local defects; only the digits are read, the other images are made."""
    from vae_anomaly.benchmark import defect_cases
    from vae_anomaly.storage.rows import fingerprint

    if side < defect_cases.LEAST_SIDE:
        raise click.BadParameter(f"defects need at least {defect_cases.LEAST_SIDE} pixels", param_hint="--side")
    name, training, test = load_named_parts(dataset, data_dir)
    assert training.labels is not None
    assert test.labels is not None
    arrays = training.to_array(), training.labels, test.to_array(), test.labels
    absent = [digit for digit in DEFECT_DIGITS if digit not in training.labels or digit not in test.labels]
    if absent or arrays[0].ndim != 3:
        raise DataError(
            f"{name} has no grey images of the digits {comma_separated(DEFECT_DIGITS)}: give --dataset mnist"
        )
    digits = {
        f"digit-{digit}": partial(
            defect_cases.digit_case,
            name=f"digit-{digit}",
            X_train=arrays[0][arrays[1] == digit],
            X_test=arrays[2][arrays[3] == digit],
        )
        for digit in DEFECT_DIGITS
    }
    makers: dict[str, Callable[[int], Case]] = {
        **digits,
        "weave": partial(defect_cases.weave_case, side=side),
        "texture": defect_cases.texture_case,
        "still-camera": partial(defect_cases.camera_case, side=side, moving=False),
        "moving-camera": partial(defect_cases.camera_case, side=side, moving=True),
    }
    cases = {case: partial(map, make, range(n_seeds)) for case, make in makers.items()}
    return Plan({name: fingerprint(*arrays)}, cases, n_seeds)


@dataclass(frozen=True)
class TableOptions:
    """The options of the protocols on tables.

    Parameters
    ----------
    data
        A folder of .npz files, or a file of any format.
    label_column
        Where a table has its labels.
    only_numbers
        Whether all columns but those of numbers are left out.
    kinds, n_errors
        Which errors are planted (None: all that can be), and how many of each.
    """

    data: Path
    label_column: str | None = None
    only_numbers: bool = False
    kinds: tuple[str, ...] | None = None
    n_errors: int = 10


def table_files(data: Path) -> dict[str, Path]:
    """The files of tables by their names: those of a folder that end in .npz, or the file that is named."""
    return {path.stem: path for path in sorted(data.glob("*.npz"))} if data.is_dir() else {data.stem: data}


def plan_tables(protocol: str, given: TableOptions, n_seeds: int) -> Plan:
    """Cases of the protocols on tables."""
    check_kinds(given.kinds)
    files = table_files(given.data)
    if not files:
        raise DataError(f"{given.data} holds no .npz files")
    make = {"tabular": tabular_cases, "contaminated": contaminated_cases, "planted": planted_cases}[protocol]
    data = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    cases = {name: partial(make, name, path, given, range(n_seeds)) for name, path in files.items()}
    return Plan(data, cases, None if protocol == "planted" else n_seeds)


def check_kinds(kinds: tuple[str, ...] | None) -> None:
    """Refuse kinds of errors that do not exist."""
    from vae_anomaly.benchmark.planted import ERRORS

    if unknown := [kind for kind in kinds or () if kind not in ERRORS]:
        raise click.BadParameter(
            f"no kind {comma_separated(unknown)}: there are {comma_separated(list(ERRORS))}", param_hint="--kinds"
        )


def tabular_cases(name: str, path: Path, given: TableOptions, seeds: range) -> Iterator[Case]:
    """Cases of ``tabular``."""
    from vae_anomaly.benchmark import protocols as benchmark

    table, is_anomalous = labelled_table(path, given)
    return benchmark.tabular(name, table.to_array(), is_anomalous.astype(int), seeds)


def contaminated_cases(name: str, path: Path, given: TableOptions, seeds: range) -> Iterator[Case]:
    """Cases of ``contaminated``."""
    from vae_anomaly.benchmark import protocols as benchmark

    table, is_anomalous = labelled_table(path, given)
    return benchmark.contaminated(name, columns_of(table, given), is_anomalous.astype(int), seeds)


def planted_cases(name: str, path: Path, given: TableOptions, seeds: range) -> Iterator[Case]:
    """Cases of ``planted``; of a table with labels only the normal rows."""
    from vae_anomaly.benchmark import protocols as benchmark
    from vae_anomaly.datasets import load_file

    table = load_file(path, given.label_column)
    if table.labels is not None:
        table = table.take(is_normal(table.labels, None, table.source))
    return benchmark.planted(name, columns_of(table, given), given.kinds, given.n_errors, seeds)


def labelled_table(path: Path, given: TableOptions) -> tuple[Dataset, np.ndarray]:
    """A table, and which of its rows are anomalies, ``(N,)`` bool.

    Raises
    ------
    DataError
        If it has no labels.
    """
    from vae_anomaly.datasets import load_file

    table = load_file(path, given.label_column)
    if table.labels is None:
        raise DataError(f"{path} has no labels: needs y, 1 = anomaly (--label-column names the column of a table)")
    return table, ~is_normal(table.labels, None, table.source)


def columns_of(table: Dataset, given: TableOptions) -> np.ndarray | pd.DataFrame:
    """A table as it is learnt from: an array in float64, a table with its own types or with its numbers alone.

    Raises
    ------
    DataError
        If these are images, or no column is left.
    """
    import numpy as np

    if isinstance(table.X, np.ndarray):
        if table.X.ndim != 2:
            raise DataError(f"{table.source} holds images: needs rows (N, D), got an array of shape {table.X.shape}")
        return table.X.astype(np.float64)
    columns = table.X.select_dtypes("number") if given.only_numbers else table.X
    if not len(columns.columns):
        raise DataError(f"{table.source} has no column of numbers: leave out --only-numbers")
    return columns

"""What ``vae-anomaly benchmark`` runs: the cases of a protocol, made when their turn comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_anomaly.cli.data import is_normal, load_named_parts
from vae_anomaly.cli.text import comma_separated
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    from vae_anomaly.benchmark.protocols import Case

PROTOCOLS = ("one-class", "multi", "leave-one-out", "ood", "tabular")


@dataclass(frozen=True)
class Plan:
    """What to run.

    Parameters
    ----------
    data
        Fingerprints of the data, by name.
    cases
        Functions that make the cases, by name.
    """

    data: dict[str, str]
    cases: dict[str, Callable[[], Iterator[Case]]]

    def restricted(self, names: tuple[str, ...]) -> Plan:
        """The plan with only these cases."""
        unknown = [name for name in names if name not in self.cases]
        if unknown:
            raise click.BadParameter(
                f"no case {comma_separated(unknown)}: there are {comma_separated(list(self.cases))}",
                param_hint="--cases",
            )
        return Plan(self.data, {name: self.cases[name] for name in names})


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


def plan_tables(folder: Path, seeds: int) -> Plan:
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
        return benchmark.tabular(name, table.to_array(), anomalous.astype(int), range(seeds))

    data = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return Plan(data, {name: partial(case, name) for name in files})

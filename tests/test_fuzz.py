"""A few hundred broken inputs for every reader; ``tests/fuzz/run.py`` makes millions, guided by coverage."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parent / "fuzz"


def load_targets():
    spec = importlib.util.spec_from_file_location("fuzz_targets", FUZZ / "targets.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_targets"] = module
    spec.loader.exec_module(module)
    return module


targets = load_targets()


@st.composite
def broken(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with pieces overwritten, cut out, repeated, or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        n = draw(st.integers(0, 16))
        piece = draw(
            st.one_of(
                st.binary(max_size=16),
                st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\n", b'"', b"[" * 2000, b"-1", b"1e999", b"nan", b"9" * 40]),
                st.just(bytes(data[at : at + n]) * 2),
            )
        )
        data[at : at + n] = piece
    return bytes(data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_broken_input_gives_a_result_or_one_clear_error(name: str) -> None:
    target = targets.TARGETS[name]
    seeds = target.seeds()
    for seed in [*seeds, b""]:
        targets.run_one(name, seed)
    slow = name in (
        "csv",
        "csv-dialects",
        "csv-gz",
        "xlsx",
        "columns",
        "parquet",
        "image",
        "scores-csv",
        "model-config",
    )

    @given(broken(seeds))
    @settings(max_examples=40 if slow else 150, derandomize=True, database=None)
    def check(data: bytes) -> None:
        targets.run_one(name, data)

    check()


CRASHES = {
    "labels-npy": [
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }\n".rjust(118) + b"\0 's"
    ],
    "idx": [bytes([0, 0, 8, 3]) + b"\xff\0\0\xaf" * 2 + bytes(4)],
    "records": [b'{"settings": null}\n'],
}


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, found in CRASHES.items() for data in found])
def test_what_fuzzing_found_stays_fixed(name: str, data: bytes) -> None:
    targets.run_one(name, data)

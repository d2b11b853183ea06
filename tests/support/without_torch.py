"""Where torch is not installed, ``PYTHONPATH=tests/support pytest -p without_torch`` skips what needs it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from importlib.abc import MetaPathFinder

import pytest


class SkipInPlaceOfTorch(MetaPathFinder):
    """Skips the test, or the module of tests, that imports torch."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "torch":
            pytest.skip("needs torch", allow_module_level=True)


def skip_where_a_process_needs_torch() -> Generator[None, None, None]:
    try:
        yield
    except AssertionError as error:
        if "No module named 'torch'" in str(error):
            pytest.skip("needs torch")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Fixtures whose processes need torch skip the test."""
    yield from skip_where_a_process_needs_torch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Tests whose processes need torch are skipped."""
    yield from skip_where_a_process_needs_torch()


sys.meta_path.insert(0, SkipInPlaceOfTorch())

"""The package as a whole: its names, and what importing them costs."""

from __future__ import annotations

import pytest

from helpers import python
from vae_anomaly import reports


@pytest.mark.parametrize("name", reports.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(reports, name) is not None
    assert name in dir(reports)


def test_a_name_that_is_not_listed_is_refused() -> None:
    with pytest.raises(AttributeError, match="open_score_table"):
        reports.open_score_table  # noqa: B018


def test_importing_the_package_imports_nothing_heavy_and_using_it_no_torch() -> None:
    code = (
        "import sys; from vae_anomaly import reports\n"
        "heavy = [name for name in ('numpy', 'matplotlib', 'pandas', 'jinja2') if name in sys.modules]\n"
        "names = [getattr(reports, name) for name in reports.__all__]\n"
        "from vae_anomaly.registry import FIGURES; figures = list(FIGURES.values())\n"
        "models = [name for name in ('torch', 'sklearn', 'matplotlib.pyplot') if name in sys.modules]\n"
        "print(heavy, len(figures) > 8, models)"
    )
    assert python(code).strip() == "[] True []"

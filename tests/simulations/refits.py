"""False alarms of whole fits: each score's share of new normals above the threshold, over many fits of few rows.

``python tests/simulations/refits.py`` writes docs/refits.md; it takes half an hour on one core. Images are MNIST's,
where ``VAE_ANOMALY_DATA`` or the cache holds it.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_anomaly import VAEDetector
from vae_anomaly.datasets import load_named

ROOT = Path(__file__).resolve().parents[2]
N_NEW, N_IMAGES = 500, 300
RATE = 0.05
PAGE = """# False alarms over refits

Whole fits with default parameters, each on new rows: `fit`, then the share of {n_new} new normals above the threshold
of each score. Its mean over fits is what a threshold promises: at most `max(0.05, 1/(n + 1))`, for n rows that set it;
here over {n_fits} fits. Beside it stands the share of {n_new} anomalies found, and of those that the 95 % quantile of
these new normals would find, which nobody has: tables whose columns are shuffled, each by itself, and images of other
digits. With * the rate is kept nearly: of a table below 190 rows each is scored by one of five models that was fitted
without it, of more rows each is left out of its own score, but not of the networks. Worlds are those of
`tests/simulations/refits.py`.

```sh
python tests/simulations/refits.py
```

| rows | score | promised | mean over fits | standard error | nine tenths of the fits | found | by the own quantile |
|---|---|---|---|---|---|---|---|
"""

Draw = Callable[[int, np.random.Generator], np.ndarray]


class World(NamedTuple):
    """Normals to fit to and to test with, and anomalies.

    Attributes
    ----------
    name, n_rows
        What it is called, and how many rows are fitted.
    draw
        Makes normals.
    odd
        Makes so many anomalies, of as many normals.
    """

    name: str
    n_rows: int
    draw: Draw
    odd: Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Fit(NamedTuple):
    """What one fit's threshold does, for one score.

    Attributes
    ----------
    promised, flagged
        The promised share of normals, and that of new normals flagged.
    is_nearly
        Whether the promise is kept nearly.
    found, found_by_own
        Share of anomalies above the threshold, and above the 95 % quantile of the new normals.
    """

    promised: float
    flagged: float
    is_nearly: bool
    found: float
    found_by_own: float


def clusters(n: int, rng: np.random.Generator) -> np.ndarray:
    """Eight columns that go together in three ways."""
    kind = rng.integers(3, size=n)
    mixing = np.random.default_rng(0).normal(size=(3, 4, 8))
    latents = rng.normal(size=(n, 1, 4))
    return (latents @ mixing[kind])[:, 0] + 3 * mixing[kind, 0] + 0.2 * rng.normal(size=(n, 8))


def skewed(n: int, rng: np.random.Generator) -> np.ndarray:
    """Six columns with long tails, which share a size."""
    return np.exp(rng.normal(size=(n, 1)) + 0.5 * rng.standard_t(5, size=(n, 6)))


def images_of(digits: tuple[int, ...]) -> Draw:
    """MNIST's training images of some digits, drawn without a repeat in one call."""
    data = load_named("mnist")[0]
    own = np.flatnonzero(np.isin(data.labels, [str(digit) for digit in digits]))

    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(data.X[np.sort(rng.choice(own, n, replace=False))])

    return draw


def shuffled(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows whose columns do not go together: each column is shuffled by itself."""
    return rng.permuted(X, axis=0)


def other_digits(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many images of other digits."""
    return images_of((3, 4, 5, 6, 7, 8, 9))(len(X), rng)


def worlds() -> Iterator[World]:
    """Tables of few rows, and images."""
    for n in (30, 60, 100, 300, 500):
        yield World(f"{n}, three clusters of 8 columns", n, clusters, shuffled)
        yield World(f"{n}, 6 skewed columns", n, skewed, shuffled)
    yield World(f"{N_IMAGES} images of 0, 1, 2", N_IMAGES, images_of((0, 1, 2)), other_digits)


def fits_of(world: World, n_fits: int) -> dict[str, list[Fit]]:
    """By score, what each fit's threshold does."""
    found: dict[str, list[Fit]] = {}
    for seed in range(n_fits):
        rng = np.random.default_rng(seed)
        X = rng.permutation(world.draw(world.n_rows + N_NEW, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = VAEDetector(random_state=seed, precision="full").fit(X[: world.n_rows]).model_
        new = X[world.n_rows :]
        normal, odd = model.rows(new), model.rows(world.odd(new, rng))
        for name in model.scores:
            calibration = model.calibrations[name]
            of_normal, of_odd = -model.score_samples(normal, name), -model.score_samples(odd, name)
            result = Fit(
                promised=max(RATE, 1 / (calibration.n_normal + 1)),
                flagged=float((of_normal > calibration.threshold).mean()),
                is_nearly=calibration.basis is not None,
                found=float((of_odd > calibration.threshold).mean()),
                found_by_own=float((of_odd > np.quantile(of_normal, 1 - RATE)).mean()),
            )
            found.setdefault(name, []).append(result)
    return found


def line_of(world: World, score: str, fits: list[Fit]) -> str:
    """A score's line of the page."""
    shares = [fit.flagged for fit in fits]
    error, (low, high) = np.std(shares, ddof=1) / math.sqrt(len(shares)), np.quantile(shares, (0.05, 0.95))
    figures = " | ".join(f"{share:.1%}" for share in (fits[0].promised, np.mean(shares), error))
    detected = " | ".join(
        f"{np.mean(found):.0%}" for found in ([f.found for f in fits], [f.found_by_own for f in fits])
    )
    name = f"{score}{'*' * fits[0].is_nearly}"
    return f"| {world.name} | {name} | {figures} | {low:.1%} to {high:.1%} | {detected} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=20)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/refits.md")
    arguments = parser.parse_args()
    lines = []
    for world in worlds():
        for score, fits in fits_of(world, arguments.fits).items():
            lines.append(line_of(world, score, fits))
            print(lines[-1], end="", flush=True)
    arguments.output.write_text(PAGE.format(n_new=N_NEW, n_fits=arguments.fits) + "".join(lines))


if __name__ == "__main__":
    main()

"""Where a fit's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

import vae_anomaly.detector
import vae_anomaly.fitting.fit
import vae_anomaly.fitting.run
from vae_anomaly.fitting.batches import Permutation
from vae_anomaly.fitting.distributed import Ranks
from vae_anomaly.fitting.optimizer import AdamW
from vae_anomaly.fitting.run import Run
from vae_anomaly.model.build import Choices
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import PREPROCESSING

BETWEEN = "a step's other work"


@contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """Seconds spent in the parts of a fit while the context lasts; no part holds another.

    What of a training step is none of them is a part too: Python between its operations.
    """
    spent: dict[str, float] = {}

    def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if spent.get("") == 1.0:  # inside another part
                return function(*args, **kwargs)
            spent[""] = 1.0
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] = spent.get(part, 0.0) + time.perf_counter() - start
                spent[""] = 0.0

        return call

    def step(*args: Any, **kwargs: Any) -> Any:
        others, start = sum(spent.values()), time.perf_counter()
        try:
            return whole_step(*args, **kwargs)
        finally:
            passed = time.perf_counter() - start - (sum(spent.values()) - others)
            spent[BETWEEN] = spent.get(BETWEEN, 0.0) + passed

    parts: list[tuple[str, object, str]] = [
        ("indexing", Permutation, "order"),
        ("indexing", Permutation, "batch"),
        ("scaling", Scaling, "forward"),
        ("noise", torch, "randn"),
        ("noise", torch, "add"),
        ("forward", VAE, "encode"),
        ("forward", VAE, "rsample"),
        ("forward", VAE, "decode"),
        ("loss", Gaussian, "learn"),
        ("loss", vae_anomaly.fitting.run, "kl_divergence"),
        ("loss", Ranks, "batch_mean"),
        ("loss", Ranks, "sum_over_ranks"),
        ("backward", torch.Tensor, "backward"),
        ("optimiser", AdamW, "step"),
        ("validation", Run, "end_epoch"),
        ("prior, likelihood, statistics", vae_anomaly.fitting.fit, "fit_after_training"),
        ("prior, likelihood, statistics", vae_anomaly.fitting.fit, "fit_image_statistics"),
        ("calibration of all scores", vae_anomaly.fitting.fit, "score_held_out"),
        ("calibration of all scores", vae_anomaly.fitting.fit, "set_thresholds"),
        ("checks and split", vae_anomaly.detector, "samples_of"),
        ("checks and split", vae_anomaly.fitting.fit, "split"),
        ("before the first step", Choices, "build"),
        ("before the first step", vae_anomaly.fitting.fit, "reset_parameters"),
        ("before the first step", vae_anomaly.fitting.fit, "recipe_for"),
        ("before the first step", Run, "__init__"),
    ]
    whole_step = Run.step
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Run, "step", step))
        for part, owner, name in parts:
            stack.enter_context(mock.patch.object(owner, name, clocked(part, getattr(owner, name))))
        scalings = {name: clocked("before the first step", kind) for name, kind in PREPROCESSING.items()}
        stack.enter_context(mock.patch.dict(PREPROCESSING._objects, scalings))
        yield spent
    spent.pop("", None)

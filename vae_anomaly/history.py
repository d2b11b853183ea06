"""The history of a training: one record an epoch, and which epoch was the best. Needs neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class EpochRecord(TypedDict):
    """One epoch; all terms are means per sample, in nats, with the prior and the likelihood of training."""

    epoch: int
    learning_rate: float
    reconstruction: float
    kl: float
    validation_reconstruction: float
    validation_kl: float


def validation_elbo(record: Mapping[str, Any]) -> float:
    """The ELBO of the validation samples after an epoch, in nats a sample: what decides which epoch is the best."""
    elbo: float = record["validation_reconstruction"] - record["validation_kl"]
    return elbo


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """The epoch, counted from 1, of the highest validation ELBO, the first of several; 0 if there is none."""
    return 1 + max(range(len(history)), key=lambda i: validation_elbo(history[i]), default=-1)

"""Errors whose cause lies outside the program: each message says what is wrong, and what to do."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used: malformed, of the wrong shape, not finite."""


class ColumnsError(DataError):
    """Columns that do not fit. Its message has a line for each of them."""


class DataUnavailableError(DataError):
    """A named data set that is neither on disk nor reachable over the network."""


class ModelFileError(ValueError):
    """A file that is no model file, is damaged, or comes from a later version."""


class TrainingError(ValueError):
    """Training that cannot continue: the loss is no longer a number."""


class TrainingWarning(UserWarning):
    """What to know of a training that ended: the model may be poor by its history, or a GPU was not put to full use."""


class CheckpointError(ValueError):
    """Checkpoints that a fit cannot continue from, or would overwrite."""


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was skipped; the fit continues from an older one."""


class PartWarning(UserWarning):
    """Parts of an engine's folder are not as they were written; they are scored again."""


class UnlikeTrainingWarning(UserWarning):
    """Images in another form than those that a model was fitted on: of another range, inverted, or the like."""


class DeviceMemoryError(ValueError):
    """A device whose memory does not hold even one row."""


class ForkError(RuntimeError):
    """A forked process in which PyTorch would wait for threads that only its parent has."""


class EngineError(RuntimeError):
    """An engine that cannot run: it is missing or not reachable, or its workers do not start."""

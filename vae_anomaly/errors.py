"""What can go wrong through no fault of the program: each is one message that says what, and what to do."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used: malformed, of the wrong shape, not finite."""


class DataUnavailableError(DataError):
    """A named data set that is neither on disk nor reachable over the network."""


class ModelFileError(ValueError):
    """A model file that is not one, is damaged, or comes from a later version."""


class TrainingError(ValueError):
    """Training that cannot go on: the loss is no longer a number."""


class CheckpointError(ValueError):
    """Checkpoints that a fit cannot go on from, or would overwrite."""


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over; the fit goes on from an older one."""


class DeviceMemoryError(ValueError):
    """A device whose memory does not hold even one row."""


class EngineError(RuntimeError):
    """An engine that cannot run: missing, not reachable, or of workers that do not start."""

"""Whether a run may continue what another began: only if all that its results depend on is the same.

That is a run's *identity*: facts by name, such as the hash of the data, the hash of the model and the versions of the
libraries. It is written beside what the run has done so far. Hashes are of the bytes that were loaded, not of a path
that is read once more later: what lies there may have been replaced in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vae_anomaly.storage.strict_json import dumps, loads


class RunIdentity:
    """What the results of a run depend on.

    Parameters
    ----------
    facts
        By name, anything JSON can hold.

    Attributes
    ----------
    facts : dict
        As they come back from a file.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts: dict[str, Any] = loads(dumps(dict(facts)))

    def differences(self, written: Mapping[str, Any]) -> list[str]:
        """The facts in which another run differs, sorted by name, each with both values unless they are hashes."""
        return [
            name + described(written.get(name), self.facts.get(name))
            for name in sorted(self.facts.keys() | written.keys())
            if (name in written, written.get(name)) != (name in self.facts, self.facts.get(name))
        ]

    def check(self, written: Mapping[str, Any], holder: object, advice: str, error: type[Exception]) -> None:
        """Refuse to continue another run.

        Parameters
        ----------
        written
            The facts of the run that began.
        holder
            What it left, such as a file or a folder.
        advice
            What to do about it.
        error
            What to raise.

        Raises
        ------
        Exception
            ``error``, saying what differs, if anything does.
        """
        differences = self.differences(written)
        if differences:
            raise error(f"{holder} belongs to another run, which differs in {', '.join(differences)}: {advice}")


def described(there: Any, here: Any) -> str:
    """Two values of a fact; nothing for hashes, which nobody reads."""
    if any(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in (there, here)):
        return ""
    return f" ({there!r} there, {here!r} here)"

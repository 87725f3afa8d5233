"""Witnesses and verdicts: observe before the probe, check before each use of the answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Union

from modstamp import _library

#: The name of a profile, or the path of a profile's file, which has a "/" in it.
Profile = Union[str, os.PathLike[str]]


@dataclass(frozen=True)
class Verdict:
    """The result of a check: fresh, or stale with every reason. A stale verdict is false."""

    #: A sentence for each reason, ten at most. A fresh verdict has none.
    reasons: tuple[str, ...]

    @property
    def is_fresh(self) -> bool:
        """Whether the answer that was stored with the witness still holds."""
        return not self.reasons

    def __bool__(self) -> bool:
        return self.is_fresh


@dataclass(frozen=True)
class Witness:
    """All that an answer depends on, as it was before the probe. `str()` is the text to store."""

    text: str
    profile: Profile = "qemu"

    def __str__(self) -> str:
        return self.text

    def check(self) -> Verdict:
        """Judges the witness by the current inputs. A text that is no witness is stale.

        Raises `Error` if the profile is wrong, or if the system refused. Probe again then.
        """
        why = self._damage() or _library.check(os.fspath(self.profile), self.text)
        return Verdict(tuple((why or "").splitlines()))

    def disturbed(self) -> str | None:
        """Looks again after the probe. Returns a reason not to store the answer, or `None`.

        Such an answer may be used once. Raises `Error` like `check`.
        """
        return self._damage() or _library.disturbed(os.fspath(self.profile), self.text)

    def _damage(self) -> str | None:
        """A crash may leave zeros in a file. In C they would end the text."""
        if isinstance(self.text, str) and "\0" in self.text:
            return "the witness cannot be read: it has a zero byte"
        return None


def observe(profile: Profile = "qemu") -> Witness:
    """Takes a witness of the profile's inputs. Call it before the probe.

    It may wait if something changed just now: some milliseconds, and four seconds at most. Raises
    `Error` if the profile is wrong, or if the system refused.
    """
    return Witness(_library.observe(os.fspath(profile)), profile)


def check(witness: str, profile: Profile = "qemu") -> Verdict:
    """Judges the text of a stored witness, like `Witness.check`."""
    return Witness(witness, profile).check()


def touch(profile: Profile = "qemu", reason: str = "") -> None:
    """Touches the profile's stamp, so that every earlier witness is stale.

    The stamp is the system's for root, and the caller's own for other users. `reason` is for people
    who look at the stamp later. Raises `Error` if the profile is wrong, or if the system refused.
    """
    _library.touch(os.fspath(profile), reason)

"""A decorator that keeps a function's values in files until a profile's inputs change.

The order makes it safe. Look for a fresh value. Take the turn, and look again, because another
caller may just have asked. Observe, then call the function, then look at the inputs once more.
Store the value only if nothing moved.

Trouble with the directory or the inputs never costs the caller a value. The function is called,
and its value is returned without being kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterator
from typing import Any, Callable, TypeVar, Union, cast

from modstamp._library import Error
from modstamp._witness import Profile, Witness, observe

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Path = Union[str, os.PathLike[str]]

_log = logging.getLogger("modstamp")


def cached(directory: _Path, profile: Profile = "qemu") -> Callable[[_Function], _Function]:
    """Keeps a function's values in files of `directory`, one file for each list of arguments.

    - A value is kept only if nothing changed while the function ran.
    - Callers with the same arguments, threads as well as processes, share one call. The others
      wait. So the function must not call itself with the same arguments.
    - A value is believed only if nobody but the caller and root could have written its file. Others
      must not be able to write the directory either. If it is missing, it is made for the caller
      alone. A leading "~" is the caller's home.
    - Arguments and values must fit into JSON: text, numbers, booleans, `None`, lists, and dicts
      with text as keys. Anything else is a `TypeError`, and so is a tuple.
    - A directory belongs to one version of one program, because a change of the function's own code
      goes unnoticed.

    The logger "modstamp" tells why the function was called again (info), and why its value was not
    kept (warning). An exception of the function reaches the caller, and the stored value stays.
    """

    def decorate(function: _Function) -> _Function:
        name = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def ask(*args: Any, **kwargs: Any) -> Any:
            call = [name, os.fspath(profile), list(args), dict(sorted(kwargs.items()))]
            question = _json(call, f"the arguments of {name}")

            def probe() -> str:
                return _json(function(*args, **kwargs), f"the value of {name}")

            return json.loads(_answer(directory, profile, question, probe))

        return cast(_Function, ask)

    return decorate


class _NotKept(Exception):
    """Why a value cannot be kept. Its text is a sentence."""


def _answer(directory: _Path, profile: Profile, question: str, probe: Callable[[], str]) -> str:
    """Returns the stored answer if it is fresh, and the probe's otherwise."""
    witness = None
    with contextlib.ExitStack() as held:
        try:
            shelf = held.enter_context(_open_shelf(directory, question))
            stored, _ = shelf.look(profile)
            if stored is not None:
                return stored
            held.enter_context(shelf.turn())
            stored, why = shelf.look(profile)
            if stored is not None:
                return stored
            if why is not None:
                _log.info("asked again: %s", why)
            witness = observe(profile)
        except (Error, _NotKept) as error:
            _log.warning("not kept: %s", error)
        answer = probe()
        if witness is not None:
            try:
                shelf.keep(witness, answer)
            except (Error, _NotKept) as error:
                _log.warning("not kept: %s", error)
    return answer


class _Shelf:
    """An open directory, and the place of one answer in it."""

    def __init__(self, directory: int, path: str, question: str) -> None:
        self._directory = directory
        self._question = question
        self._name = hashlib.sha256(question.encode()).hexdigest()[:32]
        self._path = os.path.join(path, self._name)

    def look(self, profile: Profile) -> tuple[str | None, str | None]:
        """Returns the stored answer if it is fresh, or else the reason why it is not served."""
        with _attempt("read", self._path):
            try:
                stored = open(self._name, "rb", opener=self._open)
            except FileNotFoundError:
                return None, None
            with stored:
                status = os.fstat(stored.fileno())
                problem = _why_not_believed(status)
                if problem is None and not stat.S_ISREG(status.st_mode):
                    problem = "is not a regular file"
                if problem is not None:
                    return None, f"{self._path!r} {problem}, so its answer is not believed"
                checksum, _, body = stored.read().partition(b"\n")
        if checksum != _checksum(body):
            return None, f"the answer in {self._path!r} is torn, or of another version"
        question, text, answer = json.loads(body)
        if question != self._question:
            return None, f"the answer in {self._path!r} is to another question"
        verdict = Witness(text, profile).check()
        return (answer, None) if verdict.is_fresh else (None, "; ".join(verdict.reasons))

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Waits while another caller asks the same. The kernel ends a turn with its holder."""
        with contextlib.ExitStack() as held:
            with _attempt("take turns for", self._path):
                lock = held.enter_context(open(f".{self._name}.lock", "ab", opener=self._open))
                fcntl.flock(lock, fcntl.LOCK_EX)
                # A forked child may still have the descriptor.
                held.callback(fcntl.flock, lock, fcntl.LOCK_UN)
            yield

    def keep(self, witness: Witness, answer: str) -> None:
        """Stores an answer, if nothing moved while the probe ran. The caller has the turn.

        A reader finds the old file or the new one.
        """
        why = witness.disturbed()
        if why is not None:
            raise _NotKept(why)
        body = json.dumps([self._question, str(witness), answer]).encode()
        new = f".{self._name}.new"
        with _attempt("keep the answer in", self._path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=self._directory)  # A killed process left it.
            with open(new, "xb", opener=self._open) as file:
                try:
                    file.write(_checksum(body) + b"\n" + body)
                    file.flush()
                    os.fsync(file)
                    os.replace(
                        new, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory
                    )
                except BaseException:
                    os.unlink(new, dir_fd=self._directory)
                    raise

    def _open(self, name: str, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(name, flags, 0o600, dir_fd=self._directory)


@contextlib.contextmanager
def _open_shelf(path: _Path, question: str) -> Iterator[_Shelf]:
    """Opens the directory, and makes it if it is missing."""
    path = os.path.abspath(os.path.expanduser(path))
    with contextlib.ExitStack() as held:
        with _attempt("use the directory", path):
            os.makedirs(path, 0o700, exist_ok=True)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            directory = os.open(path, flags)
            held.callback(os.close, directory)
            problem = _why_not_believed(os.fstat(directory))
        if problem is not None:
            raise _NotKept(f"{path!r} {problem}; name a directory of your own")
        yield _Shelf(directory, path, question)


@contextlib.contextmanager
def _attempt(attempt: str, path: str) -> Iterator[None]:
    """Turns the system's refusals into sentences."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or error
        raise _NotKept(
            f"cannot {attempt} {path!r}: {cause}; name a directory of your own"
        ) from error


def _why_not_believed(status: os.stat_result) -> str | None:
    """Tells why somebody else could have written a file or directory. Root is believed."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & stat.S_IWOTH:
        return "can be written by every user"
    if status.st_mode & stat.S_IWGRP:  # With an ACL these bits are its mask (acl(5)).
        return f"can be written by group {status.st_gid} or by others that its ACL names"
    return None


def _json(value: Any, what: str) -> str:
    """Refuses a value that would come back from JSON as a different one."""
    try:
        text = json.dumps(value, allow_nan=False)
        same = bool(json.loads(text) == value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"cannot keep {what} as JSON: {error}") from error
    if not same:
        raise TypeError(
            f"cannot keep {what} as JSON: a tuple comes back as a list, and each key as text; "
            "use lists, and text as keys"
        )
    return text


def _checksum(body: bytes) -> bytes:
    """Detects damage, and files of another version. It is no protection against forgery."""
    return hashlib.sha256(b"modstamp-python 1\n" + body).hexdigest().encode()

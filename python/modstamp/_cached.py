"""A decorator that keeps a function's values in files until a profile's inputs change.

The order makes it safe. Look for a fresh value. Take the turn, and look again, because another
caller may just have asked. Observe, then call the function, then look at the inputs once more.
Store the value only if nothing moved.

Trouble with the directory or the inputs never costs the caller a value. The function is called,
and its value is returned without being kept.
"""

from __future__ import annotations

import contextlib
import errno
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

_REMEDY = "name a directory of your own"

_MOST_LINKS = 40
"""The kernel follows as many (path_resolution(7))."""


def cached(directory: _Path, profile: Profile = "qemu") -> Callable[[_Function], _Function]:
    """Keeps a function's values in files of `directory`, one file for each list of arguments.

    - A value is kept only if nothing changed while the function ran.
    - Callers with the same arguments, threads as well as processes, share one call. The others
      wait. So the function must not call itself with the same arguments.
    - A value is believed only if nobody but the caller and root could have written its file. Others
      must not be able to write the directory either, or to replace one above it. Only links of
      root's may lead to it. If it is missing, it is made for the caller alone. A leading "~" is the
      caller's home.
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
                problem = _why_no_own_file(os.fstat(stored.fileno()))
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
        """Waits while another caller asks the same. The kernel ends a turn with its holder.

        Whoever could have made the lock could hold it for ever, so such a lock is not waited for.
        """
        with contextlib.ExitStack() as held:
            with _attempt("take turns for", self._path):
                name = f".{self._name}.lock"
                lock = held.enter_context(open(name, "ab", opener=self._open))
                problem = _why_no_own_file(os.fstat(lock.fileno()))
                if problem is not None:
                    path = os.path.join(os.path.dirname(self._path), name)
                    raise _NotKept(f"the lock {path!r} {problem}; remove it")
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
            directory = _open_directory(path)
            held.callback(os.close, directory)
            problem = _why_not_believed(os.fstat(directory))
        if problem is not None:
            raise _NotKept(f"{path!r} {problem}; {_REMEDY}")
        yield _Shelf(directory, path, question)


@contextlib.contextmanager
def _attempt(attempt: str, path: str) -> Iterator[None]:
    """Turns the system's refusals into sentences."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or error
        raise _NotKept(f"cannot {attempt} {path!r}: {cause}; {_REMEDY}") from error


def _open_directory(path: str) -> int:
    """Opens the directory at an absolute path. Makes missing levels for the caller alone.

    Refuses a way that somebody else could bend. A link above the directory is followed if it is
    root's, such as /home on some systems.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    steps = _steps(path)
    level, links = "/", 0
    directory = os.open(level, flags)
    try:
        while steps:
            problem = _why_bendable(directory)
            if problem is not None:
                raise _NotKept(f"cannot use the directory {path!r}: {level!r} {problem}; {_REMEDY}")
            name = steps.pop()
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=directory)
            else:
                if stat.S_ISLNK(status.st_mode):
                    links += 1
                    is_roots = status.st_uid == 0 and status.st_nlink == 1
                    if not is_roots or not steps or links > _MOST_LINKS:
                        link = os.path.join(level, name)
                        raise _NotKept(
                            f"cannot use the directory {path!r}: {link!r} is a symbolic link; "
                            f"{_REMEDY}"
                        )
                    steps += _steps(os.readlink(name, dir_fd=directory))
                    continue
            below = os.open(name, flags, dir_fd=directory)
            os.close(directory)
            level, directory = os.path.join(level, name), below
    except BaseException:
        os.close(directory)
        raise
    return directory


def _steps(path: str) -> list[str]:
    """The names in a path, the last one first. An absolute path begins at "/"."""
    names = [name for name in path.split("/") if name]
    return names[::-1] + (["/"] if path.startswith("/") else [])


def _why_bendable(directory: int) -> str | None:
    """Tells why somebody else could replace what is in a directory (src/files/trust.rs)."""
    status = os.fstat(directory)
    problem = _why_not_believed(status)
    if problem is None or status.st_uid not in (0, os.geteuid()):
        return problem
    if status.st_mode & stat.S_ISVTX:
        return None  # Like /tmp: others may add files, but only replace their own.
    is_own_group = status.st_gid in (0, os.getegid())
    if status.st_mode & stat.S_IWOTH or not is_own_group or _has_acl(directory):
        return problem
    return None  # Distributions give each user a group (USERGROUPS_ENAB, login.defs(5)).


def _has_acl(directory: int) -> bool:
    # An `O_PATH` descriptor cannot read it (open(2)).
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return "system.posix_acl_access" in os.listxattr(readable)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise
    finally:
        os.close(readable)


def _why_no_own_file(status: os.stat_result) -> str | None:
    """Tells why an opened file may be somebody else's, or another program's."""
    problem = _why_not_believed(status)
    if problem is None and not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file"
    if problem is None and status.st_nlink > 1:
        problem = f"has {status.st_nlink} names"
    return problem


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

"""The C library, `libmodstamp.so.0`. `modstamp.h` documents each function."""

from __future__ import annotations

import ctypes
from typing import Any

_OK = 0
_STALE = 1

_NAME = "libmodstamp.so.0"

try:
    _library = ctypes.CDLL(_NAME)
except OSError as _cause:
    raise ImportError(
        f"cannot load modstamp's C library: {_cause}; install the package that has {_NAME}"
    ) from _cause


def _function(name: str, arguments: list[Any], result: Any) -> Any:
    function = getattr(_library, name)
    function.argtypes = arguments
    function.restype = result
    return function


_TEXT = ctypes.c_char_p
_OUT = ctypes.POINTER(_TEXT)
_observe = _function("modstamp_observe", [_TEXT, _OUT, _OUT], ctypes.c_int)
_disturbed = _function("modstamp_disturbed", [_TEXT, _TEXT, _OUT], ctypes.c_int)
_check = _function("modstamp_check", [_TEXT, _TEXT, _OUT], ctypes.c_int)
_touch = _function("modstamp_touch", [_TEXT, _TEXT, _OUT], ctypes.c_int)
_free = _function("modstamp_free", [_TEXT], None)
_version = _function("modstamp_version", [], _TEXT)


class Error(Exception):
    """The library failed. The text is a sentence with the cause, the path and the remedy."""


def version() -> str:
    """Returns the version of the C library, for example "0.1.0"."""
    text: bytes = _version()
    return text.decode()


def observe(profile: str) -> str:
    """Returns a witness."""
    witness = _TEXT()
    try:
        _call(_observe, _encoded("profile", profile), ctypes.byref(witness))
        return _decoded(witness)
    finally:
        _free(witness)


def disturbed(profile: str, witness: str) -> str | None:
    """Returns the reason if something was touched since the witness was observed."""
    return _call(_disturbed, _encoded("profile", profile), _encoded("witness", witness))


def check(profile: str, witness: str) -> str | None:
    """Returns the reasons, one a line, if the witness is stale."""
    return _call(_check, _encoded("profile", profile), _encoded("witness", witness))


def touch(profile: str, reason: str) -> None:
    """Touches the profile's stamp."""
    _call(_touch, _encoded("profile", profile), _encoded("reason", reason))


def _call(function: Any, *arguments: Any) -> str | None:
    """Returns `None` after MODSTAMP_OK, and the reasons after MODSTAMP_STALE. Others raise."""
    why = _TEXT()
    try:
        code: int = function(*arguments, ctypes.byref(why))
        if code == _OK:
            return None
        text = _decoded(why)
    finally:
        _free(why)
    if code == _STALE:
        return text
    raise Error(text)


def _decoded(text: ctypes.c_char_p) -> str:
    return (text.value or b"").decode()


def _encoded(argument: str, text: str) -> bytes:
    """Refuses a zero byte, because the text ends there in C.

    A lone surrogate becomes bytes that are no UTF-8, which the library refuses.
    """
    if not isinstance(text, str):
        kind = type(text).__name__
        problem = f"it is of the type {kind}; give a str"
        raise TypeError(f"cannot use the argument “{argument}”: {problem}")
    if "\0" in text:
        raise Error(f"cannot use the argument “{argument}”: it has a zero byte; remove that")
    return text.encode("utf-8", "surrogatepass")

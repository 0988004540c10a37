"""Exceptions as the text and the places that cross to the ``pivot`` program.

A user's exception is shown as Python shows it, with chained ones and notes, but only with frames
of theirs and of libraries: ours and the import machinery's would say nothing to them.
"""

from __future__ import annotations

import functools
import os
from traceback import FrameSummary, TracebackException
from typing import Any

from pivot._errors import InternalError, LoadError, PivotError

MAX_TEXT = 64 * 1024

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STARTER = os.path.join(os.path.dirname(os.path.dirname(_OURS)), "__main__.py")
_IMPORTLIB = os.path.join(os.path.dirname(os.__file__), "importlib", "__init__.py")
_ASYNCIO = os.path.join(os.path.dirname(os.__file__), "asyncio") + os.sep
_MAX_CHAINED = 100


def relative(path: str, root: str) -> str:
    """``path`` as seen from the project, with ``/``; unchanged where it lies outside."""
    if not os.path.isabs(path):
        return path
    for base in bases(root):
        try:
            inside = os.path.commonpath([base, path]) == base
        except ValueError:
            continue  # another drive
        if inside:
            return os.path.relpath(path, base).replace(os.sep, "/")
    return path


@functools.lru_cache(maxsize=4)
def bases(root: str) -> tuple[str, ...]:
    """The project's root as it was given and without symbolic links."""
    return tuple(dict.fromkeys((root, os.path.realpath(root))))


def user_error(error: BaseException, root: str) -> dict[str, Any]:
    """A user's exception: its type, message, traceback, and the last place in the project."""
    told = {"type": type_name(error), "message": message_of(error)}
    try:
        # Built before anything else: the traceback holds the frames that name the place.
        shown = TracebackException.from_exception(error)
        file, line = _place(error, shown, root)
        _strip(shown)
        text: str | None = cut("".join(shown.format()))
    except Exception:
        # An exception may have attributes that fail; the memory may be full.
        file, line, text = None, None, None
    return {**told, "traceback": text, "file": file, "line": line}


def failed(error: PivotError, root: str) -> dict[str, Any]:
    """The ``error`` object of a ``failed`` frame."""
    return {
        "kind": error.kind,
        "stage": error.stage,
        "argument": error.argument,
        "message": cut(error.message),
        "hint": error.hint,
        "file": None if error.file is None else relative(error.file, root),
        "line": error.line,
        "traceback": error.traceback if isinstance(error, (InternalError, LoadError)) else None,
        "details": [{"loc": list(d.loc), "message": cut(d.message)} for d in error.details],
    }


def internal(error: BaseException, what: str = "Pivot's helper failed") -> InternalError:
    """An exception of our own, to be reported; its traceback shows all frames."""
    told = InternalError(f"{what}: {type_name(error)}: {message_of(error)}")
    told.traceback = cut("".join(TracebackException.from_exception(error).format()))
    return told


def type_name(error: BaseException) -> str:
    """The exception's name as tracebacks show it."""
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """What the exception says of itself."""
    try:
        return cut(str(error))
    except Exception:
        return "<its message cannot be shown>"


def cut(text: str) -> str:
    """``text`` without its middle if it is very long."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _strip(shown: TracebackException) -> None:
    todo: list[TracebackException | None] = [shown]
    seen: set[int] = set()
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen or len(seen) > _MAX_CHAINED:
            continue
        seen.add(id(current))
        todo += [current.__cause__, current.__context__]
        todo += list(getattr(current, "exceptions", None) or ())
        if current.stack is None:  # pyright: ignore[reportUnnecessaryComparison]
            continue
        kept = [frame for frame in current.stack if not _is_machinery(frame)]
        # An event loop that we started is ours as well.
        while kept and kept[0].filename.startswith(_ASYNCIO) and len(kept) < len(current.stack):
            del kept[0]
        current.stack[:] = kept
        if not kept:
            current.stack = None  # pyright: ignore[reportAttributeAccessIssue]  # no header then


def _is_machinery(frame: FrameSummary) -> bool:
    file = frame.filename
    return (
        file.startswith((_OURS, "<frozen importlib", "<frozen runpy"))
        or file in (_STARTER, _IMPORTLIB)
    )  # fmt: skip


def _place(
    error: BaseException, shown: TracebackException, root: str
) -> tuple[str | None, int | None]:
    """Where in the project the exception came from: the innermost frame there."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        file = relative(os.path.abspath(error.filename), root)
        if not os.path.isabs(file):
            return file, error.lineno
    for frame in reversed(shown.stack or []):
        if _is_machinery(frame) or not os.path.isabs(frame.filename):
            continue
        file = relative(frame.filename, root)
        if not os.path.isabs(file) and "site-packages" not in file:
            return file, frame.lineno
    return None, None

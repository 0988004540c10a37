"""Which code has started in this process since the import began, where Python can tell.

From 3.12 on ``sys.monitoring`` reports each code object once. CPython 3.11 specializes code that
has started or looped eight times, and counts that in the code object itself (``co_warmup``, beside
``co_flags`` in ``Include/cpython/code.h``): where nothing has been counted, it never started. The
counter has no name in Python, so where it lies is checked before it is believed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there

__all__ = ["Starts", "report_starts"]

_TOOLS = (4, 3)
_FLAGS, _COUNTER, _ARGUMENTS = 48, 52, 56  # bytes into a code object: int, short, int

if sys.version_info[:2] == (3, 11) and sys.implementation.name == "cpython":
    try:
        import ctypes
    except ImportError:  # Python can be built without
        ctypes = None
else:
    ctypes = None


class Starts:
    """Tells code that never started from code that did."""

    def __init__(self) -> None:
        self._codes: list[CodeType] = []
        self._places: set[tuple[str, int, str]] = set()
        self._tool: int | None = None
        self._fresh: int | None = None

    def begin(self) -> None:
        """Start to watch."""
        self._tool = report_starts(self._codes.append)
        if self._tool is None:
            self._fresh = _fresh_counter()

    def is_complete(self) -> bool:
        """Whether everything was seen: nobody has switched it off."""
        if self._tool is None:
            return self._fresh is not None
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        is_ours = monitoring.get_tool(self._tool) == "pivot"
        return is_ours and monitoring.get_events(self._tool) == monitoring.events.PY_START

    def includes(self, code: CodeType) -> bool:
        """Whether this code has started; from 3.12 on also, whether other code of its place has.

        For 3.11 only this object counts, so ask about files of which one copy was loaded.
        """
        if self._tool is None:
            return _counter(code) != self._fresh
        while self._codes:
            self._places.add(_place(self._codes.pop()))
        return _place(code) in self._places


def report_starts(note: Callable[[CodeType], object]) -> int | None:
    """Has each code object reported when it starts for the first time; the tool that does it.

    None before Python 3.12, and where others have taken the tools that are free.
    """
    monitoring: Any = getattr(sys, "monitoring", None)
    if monitoring is None:
        return None
    disable, event = monitoring.DISABLE, monitoring.events.PY_START

    def started(code: CodeType, offset: int) -> object:
        del offset
        note(code)
        return disable

    for tool in _TOOLS:
        try:
            monitoring.use_tool_id(tool, "pivot")
        except ValueError:
            continue
        monitoring.register_callback(tool, event, started)
        monitoring.set_events(tool, event)
        return tool
    return None


def _place(code: CodeType) -> tuple[str, int, str]:
    return code.co_filename, code.co_firstlineno, code.co_name


def _counter(code: CodeType) -> int:
    assert ctypes is not None
    return ctypes.c_short.from_address(id(code) + _COUNTER).value


def _fresh_counter() -> int | None:
    """The counter of code that never started; None where it does not lie where it should."""
    if ctypes is None:
        return None
    found: set[int] = set()
    for text in ("def f(): pass", "async def f(a, b, *c, d=1): yield"):
        code = next(c for c in compile(text, "", "exec").co_consts if isinstance(c, CodeType))
        flags = ctypes.c_int.from_address(id(code) + _FLAGS).value
        arguments = ctypes.c_int.from_address(id(code) + _ARGUMENTS).value
        if (flags, arguments) != (code.co_flags, code.co_argcount):
            return None
        found.add(_counter(code))
    function = FunctionType(compile("0", "", "eval"), {})
    before = _counter(function.__code__)
    function()
    is_counted = _counter(function.__code__) == before + 1
    return before if is_counted and found == {before} else None

"""What processes that run stages do around them: end children, write out what is buffered."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import time
from _io import _IOBase
from collections.abc import Callable
from typing import Any

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in <linux/prctl.h>
_mro = type.__dict__["__mro__"].__get__
_SECONDS = 2.0  # how long what a stage left behind may take to end once it is killed


def end_children(known: frozenset[int]) -> frozenset[int]:
    """Kills the children of this process but for the known ones; returns those that do not end."""
    deadline = None
    while strays := children() - known:
        for process in strays:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(process, os.WNOHANG)
        now = time.monotonic()
        deadline = deadline or now + _SECONDS
        if now > deadline:
            return strays  # such as one that waits for a file server
        time.sleep(0.001)
    return frozenset()


def children() -> frozenset[int]:
    """The processes whose parent this one is; none where the system does not list them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return frozenset(map(int, file.read().split()))
    except OSError:
        return frozenset()


def flush_c() -> None:
    """Writes out what C code has printed and written."""
    with contextlib.suppress(BaseException):
        _libc().fflush(None)


def flush_files() -> None:
    """Writes out every open file's buffer; frozen objects are not looked at."""
    objects = gc.get_objects()
    # Few types, many objects: to ask for each object whether it is a file takes ten times as long.
    # `issubclass` would ask all subclasses of the abstract class.
    kinds = dict(zip(map(id, map(type, objects)), map(type, objects), strict=True))
    files = {number for number, kind in kinds.items() if _IOBase in _mro(kind)}
    for file in [item for item in objects if id(type(item)) in files] if files else ():
        with contextlib.suppress(BaseException):  # one broken file keeps none of the others back
            if not file.closed and file.writable():
                file.flush()


def prctl() -> Callable[[int, int], object]:
    """The system call of that name, where there is one."""
    try:
        call = _libc().prctl
    except (ImportError, OSError, AttributeError):
        return lambda option, value: None
    return lambda option, value: call(option, value, 0, 0, 0)


@functools.cache
def _libc() -> Any:
    """The C library of this process."""
    import ctypes

    return ctypes.CDLL(None)

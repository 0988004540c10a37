"""What processes that run stages do around them: end children, write out what is buffered."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
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
    # Few types, many objects: each type is asked once. By its id, as a metaclass may say anything
    # about equality.
    kinds = {id(kind): kind for kind in map(type, objects)}
    of_files = {number for number, kind in kinds.items() if _is_file(kind)}
    for file in [item for item in objects if id(type(item)) in of_files] if of_files else ():
        with contextlib.suppress(BaseException):  # one broken file keeps none of the others back
            if not file.closed and file.writable():
                file.flush()


def _is_file(kind: type) -> bool:
    """Whether objects of this type are files; a look at what it inherits answers nearly always.

    The abstract class would ask all its subclasses, which copies a page for each in a fork.
    """
    bases = _mro(kind)
    if any(base is _IOBase for base in bases):
        return True
    return any("flush" in vars(base) for base in bases) and issubclass(kind, io.IOBase)


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

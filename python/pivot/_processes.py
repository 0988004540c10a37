"""What processes that run stages do around them: end children, write out what is buffered."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import time
from collections.abc import Callable

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in <linux/prctl.h>
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
        import ctypes

        ctypes.CDLL(None).fflush(None)


def flush_files() -> None:
    """Writes out every open file's buffer; frozen objects are not looked at."""
    files = [item for item in gc.get_objects() if issubclass(type(item), io.IOBase)]
    for file in files:
        with contextlib.suppress(BaseException):  # one broken file keeps none of the others back
            if not file.closed and file.writable():
                file.flush()


def prctl() -> Callable[[int, int], object]:
    """The system call of that name, where there is one."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        return lambda option, value: library.prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return lambda option, value: None

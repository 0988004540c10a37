"""Large pages for a process that forks often.

A fork copies the page table, and the end of the child takes the copy down: an entry for each 4 KiB
that the process has written to, tens of thousands beside a library such as pandas. Linux puts 2 MiB
behind one entry where it is asked to (``MADV_COLLAPSE``, since 6.1). A child that writes still gets
a copy of 4 KiB. To collapse a page takes about 3 ms, so it pays after some dozens of forks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

_COLLAPSE = 25  # MADV_COLLAPSE in <asm-generic/mman-common.h>
_LARGE = 2 << 20
_FILLED = 0.75  # a mapping with less in it would grow


def collapse() -> None:
    """Puts large pages behind what this process has written to, where the system can."""
    try:
        madvise = ctypes.CDLL(None).madvise
        ranges = list(_filled())
    except (OSError, AttributeError, ValueError):
        return
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, end in ranges:
        # It is a hint: where the system has no large page to give, nothing changes.
        madvise(start, end - start, _COLLAPSE)


def _filled() -> Iterator[tuple[int, int]]:
    """The private memory without a file behind it, as far as it consists of whole large pages."""
    start = end = 0
    with open("/proc/self/smaps") as file:
        for line in file:
            name, *words = line.split()
            if not name.endswith(":"):
                start, end = (int(part, 16) for part in name.split("-"))
                if words[0] != "rw-p" or words[3] != "0":
                    end = start
            elif name == "Anonymous:" and int(words[0]) << 10 >= (end - start) * _FILLED:
                first, last = -(-start // _LARGE) * _LARGE, end // _LARGE * _LARGE
                if first < last:
                    yield first, last

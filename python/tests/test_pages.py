"""Large pages: which memory is meant, and that nothing in it changes."""

from __future__ import annotations

import ctypes
import mmap
import random
import sys
import unittest

import support  # noqa: F401 - puts the package on the path

from pivot import _pages

SIZE = 32 << 20  # far more than what may lie beside it in one mapping


@unittest.skipUnless(sys.platform == "linux", "the memory of a process is listed by Linux")
class PagesTest(unittest.TestCase):
    def test_memory_that_was_written_to_is_meant_and_stays_as_it_is(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        with mmap.mmap(-1, SIZE, flags=flags) as memory:
            content = random.Random(1).randbytes(SIZE)
            memory[:] = content
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            found = list(_pages._filled())
            for start, end in found:
                self.assertTrue(start % _pages._LARGE == end % _pages._LARGE == 0)
            middle = address + SIZE // 2
            self.assertTrue(any(start <= middle < end for start, end in found))
            _pages.collapse()
            self.assertEqual(memory[:], content)


if __name__ == "__main__":
    unittest.main()

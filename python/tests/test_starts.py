"""Code that has started, and code that has not."""

from __future__ import annotations

import sys
import threading
import unittest
from types import CodeType, FunctionType
from unittest import mock

import support  # noqa: F401 - puts the package on the path

from pivot._fingerprint import _starts
from pivot._fingerprint._starts import Starts

TEXT = """
def called(): return 1
def often(): return 1
def traced(): return 1
def in_a_thread(): return 1
def with_inner():
    def inner(): return 1
    return inner
def generator(): yield 1
async def coroutine(): return 1
def never(): return [each for each in ()]
"""


@unittest.skipIf(sys.version_info < (3, 11), "Python 3.10 does not tell")
class StartsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.starts = Starts()
        self.starts.begin()
        if hasattr(sys, "monitoring"):
            self.addCleanup(sys.monitoring.free_tool_id, self.starts._tool)
            self.addCleanup(sys.monitoring.set_events, self.starts._tool, 0)
        self.names: dict[str, FunctionType] = {}
        exec(compile(TEXT, "starts", "exec"), self.names)

    def has_started(self, name: str) -> bool:
        return self.starts.includes(self.names[name].__code__)

    def test_it_is_known(self) -> None:
        self.assertTrue(self.starts.is_complete())

    @unittest.skipIf(hasattr(sys, "monitoring"), "it is told without a look at memory")
    def test_memory_that_is_not_as_expected_is_not_believed(self) -> None:
        for field in ("_FLAGS", "_COUNTER", "_ARGUMENTS"):
            with mock.patch.object(_starts, field, getattr(_starts, field) + 4):
                starts = Starts()
                starts.begin()
                self.assertFalse(starts.is_complete(), field)

    def test_only_what_started(self) -> None:
        self.names["called"]()
        for _ in range(1000):
            self.names["often"]()
        sys.settrace(lambda *_: None)
        self.names["traced"]()
        sys.settrace(None)
        thread = threading.Thread(target=self.names["in_a_thread"])
        thread.start()
        thread.join()
        for name in ("called", "often", "traced", "in_a_thread"):
            self.assertTrue(self.has_started(name), name)
        for name in ("with_inner", "generator", "coroutine", "never"):
            self.assertFalse(self.has_started(name), name)

    def test_inner_code_starts_by_itself(self) -> None:
        constants = self.names["with_inner"].__code__.co_consts
        (inner,) = (item for item in constants if isinstance(item, CodeType))
        made = self.names["with_inner"]()
        self.assertFalse(self.starts.includes(inner))
        made()
        self.assertTrue(self.starts.includes(inner))

    def test_generators_start_with_their_first_value(self) -> None:
        made = self.names["generator"]()
        self.assertFalse(self.has_started("generator"))
        next(made)
        self.assertTrue(self.has_started("generator"))


if __name__ == "__main__":
    unittest.main()

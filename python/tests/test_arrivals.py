"""Modules that have come since a moment, whatever has happened to the others."""

from __future__ import annotations

import collections
import sys
import types
import unittest
from unittest import mock

import support  # noqa: F401 - puts the package on the path

from pivot._fingerprint._arrivals import Arrivals


class ArrivalsTest(unittest.TestCase):
    def setUp(self) -> None:
        before = dict(sys.modules)

        def put_back() -> None:
            sys.modules.clear()
            sys.modules.update(before)

        self.addCleanup(put_back)
        for name in ("old_a", "old_b", "old_c", "old_d"):
            self.come(name)
        self.arrivals = Arrivals()

    def come(self, name: str) -> None:
        sys.modules[name] = types.ModuleType(name)

    def test_new_ones_in_their_order(self) -> None:
        self.assertEqual(self.arrivals.names(), [])
        self.come("new_b")
        self.come("new_a")
        self.assertEqual(self.arrivals.names(), ["new_b", "new_a"])
        self.assertEqual(
            self.arrivals._behind_the_marks(), ["new_b", "new_a"], "without the others"
        )
        later = self.arrivals.since()
        self.come("newest")
        self.assertEqual(later.names(), ["newest"])
        self.assertEqual(self.arrivals.names(), ["new_b", "new_a", "newest"])

    def test_whatever_happens_to_the_old_ones(self) -> None:
        for moved in (["old_d"], ["old_a"], ["old_d", "old_c", "old_b"], ["old_c", "old_d"]):
            with self.subTest(moved=moved):
                arrivals = Arrivals()
                self.come("first")
                for name in moved:
                    self.come(name) if sys.modules.pop(name, None) else None
                self.come("second")
                self.assertEqual(arrivals.names(), ["first", "second"])
                del sys.modules["first"], sys.modules["second"]

    def test_old_ones_that_are_gone(self) -> None:
        for name in ("old_d", "old_b"):
            del sys.modules[name]
            self.come(f"new_{name}")
        self.assertEqual(self.arrivals.names(), ["new_old_d", "new_old_b"])
        # As many gone as have come behind the last one that was put back.
        arrivals = Arrivals()
        self.come("hidden")
        moved = [sys.modules.pop(name) for name in ("new_old_d", "new_old_b")]
        sys.modules["new_old_b"] = moved[1]
        self.assertEqual(arrivals.names(), ["hidden"])

    def test_another_mapping(self) -> None:
        modules = collections.UserDict(sys.modules)
        with mock.patch.object(sys, "modules", modules):
            arrivals = Arrivals()
            modules["new"] = types.ModuleType("new")
            self.assertEqual(arrivals.names(), ["new"])


if __name__ == "__main__":
    unittest.main()

"""Digests of values: equal where behavior is equal, different where it is not."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import itertools
import operator
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap
import types
import unittest
import uuid
from typing import Any, NamedTuple

from support import PACKAGE

from pivot._fingerprint._component import Component, Key, Mode
from pivot._fingerprint._encoder import Encoder, Steps
from pivot._fingerprint._graph import Graph
from pivot._fingerprint._loader import Sources
from pivot._fingerprint._packages import Packages
from pivot._fingerprint._roots import Roots


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Other(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    first: int
    second: int


class Box:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Conf(dict):  # type: ignore[type-arg]
    pass


def new_graph(root: str) -> Graph:
    roots = Roots(root)
    return Graph(roots, Sources(roots), Packages(roots))


class ValuesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.graph = new_graph(self.folder.name)

    def digest(self, value: Any, graph: Graph | None = None) -> str:
        component = Component(Key("const", "", "x"))

        def steps() -> Steps:
            yield value

        return Encoder(graph or self.graph, component, Mode()).run(steps()).hex()

    def test_values_that_behave_differently_differ(self) -> None:
        loop: list[Any] = [1]
        loop.append(loop)
        other_loop: list[Any] = [2]
        other_loop.append(other_loop)
        shared = [1]
        groups: list[list[Any]] = [
            [1, 1.0, True, "1", b"1", decimal.Decimal(1), fractions.Fraction(1), 1 + 0j],
            [0.0, -0.0, float("nan"), float("inf"), None, False, ..., NotImplemented],
            [[1, 2], (1, 2), {1, 2}, frozenset({1, 2}), [2, 1], [1, [2]], [[1], 2], [1, 2, 2]],
            [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 1}, {"a": {"b": 2}}],
            [[shared, shared], [[1], [1]]],
            [loop, other_loop],
            [range(3), range(0, 3, 2), slice(3), slice(0, 3)],
            ["ab", "a", "", "\udc80", "\x00", ["a", "b"], ["ab", ""]],
            [2**70, 2**70 + 1, -(2**70)],
            [re.compile("a"), re.compile("a", re.I), re.compile(b"a")],
            [pathlib.PurePath("a"), pathlib.PurePath("b"), "a"],
            [uuid.UUID(int=1), uuid.UUID(int=2)],
            [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1), dt.timedelta(1)],
            [
                dt.datetime(2020, 1, 1),
                dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc),
                dt.datetime(2020, 1, 1, fold=1),
            ],
            [decimal.Decimal("1.0"), decimal.Decimal("1.00"), decimal.Decimal("NaN")],
            [Color.RED, Color.BLUE, Other.RED, 1],
            [Pair(1, 2), (1, 2), Pair(2, 1)],
            [Box(1), Box(2), Box(1.0), Slotted(1), Slotted(2)],
            [Conf(a=1), Conf(a=2), {"a": 1}],
            [collections.OrderedDict(a=1), {"a": 1}, collections.Counter(a=1)],
            [collections.defaultdict(int), collections.defaultdict(list), {}],
            [collections.deque([1]), collections.deque([1], maxlen=2), [1]],
            [types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), types.SimpleNamespace(b=1)],
            [types.MappingProxyType({"a": 1}), {"a": 1}],
            [array.array("i", [1]), array.array("l", [1]), array.array("i", [2])],
            [operator.itemgetter(0), operator.itemgetter(1), operator.attrgetter("a")],
            [functools.partial(print, 1), functools.partial(print, 2), functools.partial(repr, 1)],
            [functools.partial(print, 1), functools.partial(print, end="1")],
            [bytearray(b"a"), b"a", memoryview(b"a")],
            [len, max, min, str, int, "".join, "a".join],
            [list(range(100)), [*range(99), 100], tuple(range(100))],
            [list("abcdefghij"), list("abcdefghik")],
            [ValueError("a"), ValueError("b"), TypeError("a")],
        ]
        for group in groups:
            digests = [self.digest(value) for value in group]
            for (one, first), (two, second) in itertools.combinations(
                zip(group, digests, strict=True), 2
            ):
                self.assertNotEqual(first, second, f"{one!r} and {two!r}")

    def test_equal_values_agree(self) -> None:
        pairs: list[tuple[Any, Any]] = [
            ([1, (2, 3)], [1, (2, 3)]),
            ({"a", "b", "c"}, {"c", "b", "a"}),
            ([(1, 2), (1, 2)], [tuple(iter((1, 2))), tuple(iter((1, 2)))]),
            (Box([1]), Box([1])),
            (frozenset({frozenset({"x", "y"})}), frozenset({frozenset({"y", "x"})})),
            ("ab", "a" + chr(98)),
            (re.compile("a"), re.compile("a", 0)),
            (float("nan"), float("nan")),
        ]
        for one, two in pairs:
            self.assertEqual(self.digest(one), self.digest(two), f"{one!r}")

    def test_attributes_have_no_order(self) -> None:
        one, two = Box(1), Box(1)
        one.a, one.b = 1, 2  # type: ignore[attr-defined]
        two.b, two.a = 2, 1  # type: ignore[attr-defined]
        self.assertEqual(self.digest(one), self.digest(two))

    def test_depth_and_sharing_do_not_matter(self) -> None:
        deep: Any = [1]
        other: Any = [2]
        for _ in range(5000):
            deep, other = [deep], [other]
        self.assertNotEqual(self.digest(deep), self.digest(other))
        twice: Any = (1, 2)
        for _ in range(200):
            twice = (twice, twice)
        self.assertTrue(self.digest(twice))
        sets: Any = frozenset({1})
        for _ in range(2000):
            sets = frozenset({sets, 0})
        self.assertTrue(self.digest(sets))

    def test_places_of_the_machine_do_not_count(self) -> None:
        with tempfile.TemporaryDirectory() as elsewhere:
            graph = new_graph(elsewhere)
            for form in ("{}/data.csv", "sqlite:///{}/x.db", "{}"):
                here, there = form.format(self.folder.name), form.format(elsewhere)
                self.assertEqual(self.digest(here), self.digest(there, graph))
                self.assertEqual(
                    self.digest([here] * 20), self.digest([there] * 20, graph), "many at once"
                )
                self.assertEqual(
                    self.digest(here.encode()), self.digest(there.encode(), graph), "bytes"
                )
            self.assertNotEqual(
                self.digest(self.folder.name + "2"), self.digest(elsewhere + "2", graph)
            )

    def test_one_of_many_numbers_counts(self) -> None:
        values = list(range(100_000))
        before = self.digest(values)
        values[77_777] = 0
        self.assertNotEqual(before, self.digest(values))

    def test_a_hostile_object_is_no_failure(self) -> None:
        class Proxy:
            @property
            def __class__(self) -> Any:  # type: ignore[override]
                raise RuntimeError("unbound")

        class Meta(type):
            def __eq__(cls, other: object) -> bool:
                raise ValueError("ambiguous")

            __hash__ = None  # type: ignore[assignment]

        class Odd(metaclass=Meta):
            pass

        for value in (Proxy(), Odd, [Odd()], {"a": Proxy()}):
            self.assertTrue(self.digest(value))

    def test_hash_randomization_does_not_matter(self) -> None:
        script = textwrap.dedent(
            f"""
            import sys
            sys.path[:0] = [{str(PACKAGE.parent)!r}, {str(PACKAGE.parent / "tests")!r}]
            from test_fingerprint_values import ValuesTest, Box
            case = ValuesTest()
            case.setUp()
            value = {{"a": {{"x", "y", "z"}}, "b": frozenset({{("p", 1), ("q", 2)}})}}
            print(case.digest([value, Box({{"k", "l"}})]))
            case.doCleanups()
            """
        )
        digests = {
            subprocess.run(
                [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, check=True,
                capture_output=True, text=True,
            ).stdout
            for seed in ("0", "1", "2", "random")
        }  # fmt: skip
        self.assertEqual(len(digests), 1)


if __name__ == "__main__":
    unittest.main()

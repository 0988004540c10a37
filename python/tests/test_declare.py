"""What the public API records, and what it says of wrong arguments."""

from __future__ import annotations

import copy
import os
import pathlib
import pickle
import subprocess
import sys
import unittest

from support import PACKAGE

from pivot import IncrementalOut, Metric, Out, Pipeline, PivotError, Plot, Variant, stage
from pivot._declare import DECLARED


class DeclareTestCase(unittest.TestCase):
    def setUp(self) -> None:
        DECLARED.clear()

    def declared(self):
        (declaration,) = DECLARED
        return declaration


class Declaring(DeclareTestCase):
    def test_a_function_stays_as_it_is(self):
        def train(x):
            return x + 1

        self.assertIs(stage(train), train)
        self.assertIs(stage(deps=["a"])(train), train)
        self.assertEqual(train(1), 2)
        self.assertEqual([d.name for d in DECLARED], ["train", "train"])

    def test_all_arguments_are_recorded(self):
        @stage(
            deps=["a.csv", pathlib.Path("b") / "c"],
            outs=["model.pkl", IncrementalOut("log.db"), Out("big", cache=False)],
            metrics=["m.json"],
            plots=[Plot("p.csv", x="step", y="loss", template="linear"), "q.png"],
            params={"lr": 0.1},
            mutex="gpu",
            cwd="sub",
            name="fit",
            resources={"cpus": 2},
            code_deps=["extra.py"],
        )
        def train(): ...

        found = self.declared()
        self.assertEqual((found.name, found.base, found.variant), ("fit", "fit", None))
        self.assertEqual(found.deps, ("a.csv", os.path.join("b", "c")))
        kinds = [(out.path, out.kind, out.cache) for out in found.outs]
        self.assertEqual(
            kinds,
            [
                ("model.pkl", "out", True),
                ("log.db", "incremental", True),
                ("big", "out", False),
                ("m.json", "metric", False),
                ("p.csv", "plot", True),
                ("q.png", "plot", True),
            ],
        )
        self.assertEqual(found.outs[4], Plot("p.csv", "step", "loss", "linear"))
        self.assertEqual((found.params, found.mutex, found.cwd), ({"lr": 0.1}, ("gpu",), "sub"))
        self.assertEqual((found.resources, found.code_deps), ({"cpus": 2}, ("extra.py",)))

    def test_place_is_the_line_of_the_declaration(self):
        here = _line()

        @stage
        def bare(): ...

        @stage(
            deps=["x"],
        )
        def with_arguments(): ...

        Pipeline().add_stage(bare, name="other")
        lines = [d.line - here for d in DECLARED]
        self.assertEqual(lines, [2, 5, 10])
        self.assertEqual({d.file for d in DECLARED}, {__file__})

    def test_matrix_declares_a_stage_for_each_variant(self):
        @stage.matrix(
            [
                Variant("current", deps=["a"], outs=["x"], params={"depth": 2}),
                Variant(name="next", outs=["y"], mutex=["gpu"]),
            ],
            deps=(name for name in ["common"]),
            params={"seed": 1},
        )
        def train(variant): ...

        first, second = DECLARED
        self.assertEqual(
            (first.name, first.base, first.variant), ("train@current", "train", "current")
        )
        self.assertEqual((first.deps, first.params), (("a",), {"seed": 1, "depth": 2}))
        self.assertEqual((second.deps, second.params), (("common",), {"seed": 1}))
        self.assertEqual((second.name, second.mutex), ("train@next", ("gpu",)))

    def test_pipeline_adds_functions(self):
        pipeline = Pipeline()
        pipeline.add_stage(_line, deps=["data.csv"], outs=["x"])
        pipeline.add_stage(_line, name="again@b")
        self.assertEqual(
            [(d.name, d.variant) for d in DECLARED], [("_line", None), ("again@b", "b")]
        )


class Outputs(DeclareTestCase):
    def test_they_are_values(self):
        plot = Plot("p", x="a")
        for same in (Plot("p", x="a"), pickle.loads(pickle.dumps(plot)), copy.deepcopy(plot)):
            self.assertEqual(plot, same)
            self.assertEqual(hash(plot), hash(same))
        self.assertNotEqual(Out("p"), Metric("p", cache=True))
        self.assertNotEqual(Plot("p", x="a"), Plot("p", x="b"))
        with self.assertRaises(AttributeError):
            plot.path = "q"  # type: ignore[misc]

    def test_they_stand_for_their_path(self):
        self.assertEqual(os.fspath(Out("a/b")), "a/b")

        @stage(deps=[Out("a/b")])
        def use(): ...

        self.assertEqual(self.declared().deps, ("a/b",))


class WrongArguments(DeclareTestCase):
    def test_each_names_stage_argument_and_place(self):
        table = [
            (dict(deps="a.csv"), "deps", "must be a list of paths, not 'a.csv'", "deps=['a.csv']"),
            (dict(outs="a"), "outs", "must be a list of paths", "outs=['a']"),
            (dict(outs=Out("a")), "outs", "must be a list of paths", "outs=['a']"),
            (dict(deps=pathlib.Path("a")), "deps", "must be a list of paths", "deps=['a']"),
            (dict(deps=[3]), "deps", "needs paths, not 3", "pathlib.Path"),
            (dict(deps=[b"a"]), "deps", "needs paths, not b'a'", ""),
            (dict(deps={"a"}), "deps", "not an object of type `set`", "order"),
            (dict(deps={"a": 1}), "deps", "not an object of type `dict`", ""),
            (dict(deps=7), "deps", "must be a list of paths, not 7", ""),
            (dict(deps=[""]), "deps", "empty path", ""),
            (dict(outs=["a\nb"]), "outs", "line break", ""),
            (
                dict(metrics=[Out("a")]),
                "metrics",
                "objects of `Metric`, not Out('a')",
                "Metric('a')",
            ),
            (dict(params=3), "params", "must be a model or a mapping, not 3", "params={"),
            (dict(params=[1]), "params", "must be a model or a mapping", ""),
            (dict(mutex=3), "mutex", "must be a list of names, not 3", ""),
            (dict(mutex=[3]), "mutex", "takes names, not 3", ""),
            (dict(cwd=3), "cwd", "needs paths, not 3", ""),
            (dict(resources=3), "resources", "must be a mapping", "cpus"),
            (dict(resources={"a": []}), "resources", "maps names to amounts", ""),
            (dict(timeout=[]), "timeout", "must be seconds or a text", "15m"),
            (dict(timeout=True), "timeout", "must be seconds or a text", "15m"),
        ]
        for arguments, argument, message, hint in table:
            with self.subTest(arguments), self.assertRaises(PivotError) as raised:
                stage(**arguments)(_line)
            error = raised.exception
            self.assertIsInstance(error, TypeError)
            self.assertEqual((error.stage, error.argument), ("_line", argument))
            self.assertIn("stage `_line`", error.message)
            self.assertIn(message, error.message)
            self.assertIn(hint, error.hint or "")
            self.assertEqual(error.file, __file__)
            self.assertIn(error.message, str(error))
        self.assertEqual(DECLARED, [])

    def test_names(self):
        for name in ("", "a b", "ü", ".a", "-a", "a@", "@a", "a@b@c", "a/b", "x" * 201, 3):
            with self.subTest(name), self.assertRaises(PivotError) as raised:
                stage(name=name)(_line)
            self.assertEqual(raised.exception.argument, "name")
        with self.assertRaisesRegex(PivotError, "needs `name=...`"):
            stage(lambda: None)
        with self.assertRaisesRegex(PivotError, "`_line@a b` cannot be"):
            stage.matrix([Variant("a b")])(_line)
        with self.assertRaisesRegex(PivotError, "has an `@`"):
            Variant("a@b")

    def test_misuse_of_the_decorators(self):
        with self.assertRaisesRegex(PivotError, "no argument `dep`; did you mean `deps`"):
            stage(dep=["a"])
        with self.assertRaisesRegex(PivotError, "by name"):
            stage(["a.csv"])
        with self.assertRaisesRegex(PivotError, "is a class"):
            stage(WrongArguments)
        with self.assertRaisesRegex(PivotError, "a list of variants"):
            stage.matrix(Variant("a"))
        with self.assertRaisesRegex(PivotError, "takes objects of `Variant`, not 'a'"):
            stage.matrix(["a"])(_line)
        with self.assertRaisesRegex(PivotError, "has no variants"):
            stage.matrix([])(_line)
        with self.assertRaisesRegex(PivotError, "must be a function, not 3"):
            Pipeline().add_stage(3, name="x")
        with self.assertRaisesRegex(PivotError, "`x` of plot `p` must be a string"):
            Plot("p", x=1)


class Cost(unittest.TestCase):
    def test_importing_loads_nothing_but_ourselves(self):
        program = (
            "import sys; before = set(sys.modules); from pivot import stage\n"
            "print(sorted(n for n in set(sys.modules) - before if n.partition('.')[0] != 'pivot'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONPATH": str(PACKAGE.parent)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.assertEqual(done.stdout.strip(), "['__future__']")


def _line() -> int:
    return sys._getframe(1).f_lineno


if __name__ == "__main__":
    unittest.main()

"""The ``inspect`` request: stages, params and errors of whole pipelines, through the helper."""

from __future__ import annotations

import sys
import unittest

from support import ProjectTestCase, pydantic_version

QUICK_START = """
    from pivot import stage

    @stage(deps=['data.csv'], outs=['processed.parquet'])
    def preprocess(input_file: str = 'data.csv'):
        import pandas as pd
        df = pd.read_csv(input_file)
        df = df.dropna()
        df.to_parquet('processed.parquet')

    @stage(deps=['processed.parquet'], outs=['model.pkl'])
    def train(data_file: str = 'processed.parquet', lr: float = 0.01):
        import pandas as pd
        import pickle
        df = pd.read_parquet(data_file)
        model = {'lr': lr, 'data': df.shape}
        with open('model.pkl', 'wb') as f:
            pickle.dump(model, f)
"""


class Stages(ProjectTestCase):
    def test_hello(self):
        self.write("pipeline.py", "")
        hello = self.inspect().hello
        version = list(sys.version_info[:3])
        self.assertEqual(hello, {"type": "hello", "proto": 1, "py": version})

    def test_digest(self):
        def ask(names):
            return self.request({"type": "digest", "root": str(self.root), "names": names}).answer

        self.write("data.json", "{}")
        answer = ask(["read:data.json", "read:nothing.json"])
        self.assertEqual((answer["type"], answer["hashes"][1]), ("digests", None))
        self.assertRegex(answer["hashes"][0], r"^[0-9a-f]{16}$")
        answer = ask([5])
        self.assertEqual((answer["type"], answer["error"]["kind"]), ("failed", "internal"))

    def test_functions_of_a_project_without_stages(self):
        self.write("stats.py", "RATE = 2\n\ndef scaled(values, by):\n    return RATE * by\n")
        entry = {"functions": ["stats.scaled"]}
        answer = self.request({"type": "inspect", "root": str(self.root), "entry": entry}).answer
        (stage,) = answer["stages"]
        names = {component["name"] for component in stage["code"]}
        self.assertEqual(stage["name"], "stats.scaled")
        self.assertLessEqual({"self:scaled", "const:RATE"}, names)

    def test_quick_start(self):
        self.write("pipeline.py", QUICK_START)
        ended = self.inspect()
        self.assertEqual((ended.status, ended.stdout, ended.stderr), (0, "", ""))
        preprocess, train = ended.answer["stages"]
        self.assertIsInstance(ended.answer["witness"], dict)
        code = train.pop("code")
        self.assertTrue(any(c["name"] == "self:train" for c in code), code)
        self.assertTrue(all(len(c["hash"]) == 16 for c in code), code)
        train.pop("notes")
        self.assertEqual(train.pop("mentions"), ["model.pkl", "processed.parquet"])
        covered = train.pop("covered")
        self.assertTrue(covered)
        self.assertEqual(
            train,
            {
                "name": "train", "base": "train", "variant": None,
                "function": {"module": "pipeline", "qualname": "train"},
                "place": {"file": "pipeline.py", "line": 11},
                "deps": ["processed.parquet"],
                "outs": [{"path": "model.pkl", "kind": "out", "cache": True,
                          "x": None, "y": None, "template": None}],
                "params": {}, "params_model": False, "mutex": [], "cwd": None, "resources": {},
                "timeout": None,
            },
        )  # fmt: skip
        self.assertEqual((preprocess["name"], preprocess["place"]["line"]), ("preprocess", 4))

    def test_programmatic_pipeline(self):
        self.write("stages.py", "def preprocess(): ...\ndef train(): ...\n")
        self.write(
            "pipeline.py",
            """\
            from pivot import Pipeline

            from stages import preprocess, train

            pipeline = Pipeline()
            pipeline.add_stage(preprocess, deps=['data.csv'], outs=['processed.parquet'])
            pipeline.add_stage(train, deps=['processed.parquet'], outs=['model.pkl'])
            """,
        )
        stages = self.stages()
        self.assertEqual(list(stages), ["preprocess", "train"])
        self.assertEqual(stages["train"]["function"], {"module": "stages", "qualname": "train"})
        self.assertEqual(stages["train"]["place"], {"file": "pipeline.py", "line": 7})

    def test_overrides_reach_base_then_variant(self):
        self.write(
            "pipeline.py",
            """
            from pivot import stage, Variant

            @stage.matrix([Variant('a'), Variant('b')], params={'lr': 1, 'opt': {'x': 1, 'y': 1}})
            def train(lr, opt, variant): ...

            @stage
            def plain(lr=0.5): ...
            """,
        )
        overrides = {"train": {"opt": {"x": 2}}, "train@b": {"lr": 9}, "plain": {"lr": 0.7}}
        stages = self.stages(overrides=overrides)
        params = {name: stage["params"] for name, stage in stages.items()}
        self.assertEqual(
            params,
            {
                "train@a": {"lr": 1, "opt": {"x": 2, "y": 1}},
                "train@b": {"lr": 9, "opt": {"x": 2, "y": 1}},
                "plain": {"lr": 0.7},
            },
        )

    def test_numbers_that_json_lacks(self):
        self.write(
            "pipeline.py",
            """
            from pivot import stage

            @stage(params={'limit': float('inf'), 'seed': 2 ** 70, 'n': 1})
            def work(limit, seed, n):
                assert (limit, seed, n) == (float('inf'), 2 ** 70, float('-inf')), (limit, seed, n)
            """,
        )
        self.assertEqual(
            self.stages()["work"]["params"],
            {"limit": {"$float": "inf"}, "seed": {"$int": str(2**70)}, "n": 1},
        )
        ended = self.run_stage("work", overrides={"work": {"n": {"$float": "-inf"}}})
        self.assertTrue(ended.answer["ok"], ended)

    def test_absolute_paths_inside_the_project_become_relative(self):
        self.write(
            "pipeline.py",
            """
            from pathlib import Path
            from pivot import stage

            HERE = Path(__file__).parent

            @stage(deps=[HERE / 'data' / 'a.csv'], outs=[HERE / 'b'], cwd=HERE / 'sub')
            def work(): ...
            """,
        )
        work = self.stages()["work"]
        self.assertEqual(
            (work["deps"], work["outs"][0]["path"], work["cwd"]), (["data/a.csv"], "b", "sub")
        )

    def test_code_deps(self):
        self.write("queries/a.sql", "select 1")
        self.write(
            "pipeline.py",
            """
            from pivot import stage

            def helper():
                return 1

            @stage(code_deps=['queries', 'queries/a.sql', helper])
            def work(): ...
            """,
        )
        before = {c["name"]: c["hash"] for c in self.stages()["work"]["code"]}
        self.write("queries/a.sql", "select 2")
        after = {c["name"]: c["hash"] for c in self.stages()["work"]["code"]}
        self.assertLess(
            {"file:queries", "file:queries/a.sql", "func:helper", "self:work"}, {*after, "x"}
        )
        changed = {name for name in after if after[name] != before[name]}
        self.assertEqual(changed, {"file:queries", "file:queries/a.sql"})

    def test_code_deps_that_are_objects(self):
        self.write("features.py", "RATE = 1\nclass Model:\n    def fit(self):\n        return 1\n")
        self.write(
            "pipeline.py",
            """
            import features
            from pivot import stage

            @stage(code_deps=[features, features.Model])
            def work(): ...

            @stage
            def other(): ...
            """,
        )
        before = {name: stage["code"] for name, stage in self.stages().items()}
        self.write("features.py", "RATE = 2\nclass Model:\n    def fit(self):\n        return 2\n")
        after = {name: stage["code"] for name, stage in self.stages().items()}
        self.assertEqual(before["other"], after["other"])
        names = [component["name"] for component in after["work"]]
        self.assertEqual(len(names), len(set(names)), names)
        self.assertEqual([name for name in names if name.startswith("self:")], ["self:work"])
        changed = [b["name"] for a, b in zip(before["work"], after["work"], strict=True) if a != b]
        self.assertEqual(len(changed), 2, (before, after))

    def test_a_project_behind_a_symbolic_link(self):
        self.write("pipeline.py", QUICK_START)
        link = self.root.parent / "link"
        link.symlink_to(self.root)
        for root in (self.root, link):
            ended = self.inspect(root=str(root))
            self.assertEqual(ended.answer["stages"][0]["place"]["file"], "pipeline.py", ended)

    def test_prints_do_not_reach_the_protocol(self):
        self.write(
            "pipeline.py",
            """
            import os, sys, json
            print('to stdout')
            print('to stderr', file=sys.stderr)
            os.write(1, b'\\xff\\x00')
            json.dumps = json.JSONEncoder.encode = None
            for fd in range(3, 256):
                try:
                    os.write(fd, b'intruder')
                except OSError:
                    pass
            """,
        )
        ended = self.inspect()
        self.assertEqual(ended.answer.get("type"), "inspected", ended)
        self.assertEqual((ended.stdout, ended.stderr), ("to stdout\n\udcff\0", "to stderr\n"))

    def test_project_modules_win_over_the_standard_library_but_not_over_ours(self):
        self.write("statistics.py", "mean = 'mine'")
        self.write("traceback.py", "raise SystemError('not for you')")
        self.write("pivot.py", "raise SystemError('not for you')")
        self.write(
            "pipeline.py",
            "import statistics\nfrom pivot import stage\nassert statistics.mean == 'mine'\n",
        )
        self.assertEqual(self.stages(), {})

    def test_the_process_looks_like_a_script(self):
        self.write("helper.py", "")
        self.write(
            "sub/pipeline.py",
            """
            import os, sys
            import helper, neighbor
            assert __name__ == 'pipeline' and sys.modules['pipeline'].__file__ == __file__
            assert sys.argv == ['sub/pipeline.py'], sys.argv
            assert sys.stdin.read() == ''
            here = os.path.realpath('.')
            assert here == os.path.dirname(os.path.dirname(os.path.realpath(__file__))), here
            if __name__ == '__main__':
                raise SystemError
            """,
        )
        self.write("sub/neighbor.py", "")
        self.assertEqual(self.stages(file="sub/pipeline.py"), {})


class Targets(ProjectTestCase):
    def setUp(self):
        super().setUp()
        self.write("stages/__init__.py", "from stages.fit import fit\n")
        self.write(
            "stages/fit.py",
            """
            import functools
            def fit(data, lr=0.1): ...
            def _number(): ...
            class Klass:
                @staticmethod
                def method(data): ...
                @classmethod
                def make(cls, data): ...
                def bound(self): ...
            VALUE = 3
            def lines():
                yield 1
            """,
        )

    def target(self, python: str, **more):
        return {"stage": "s", "python": python, "params": {}, "deps": ["a"], "outs": [], **more}

    def test_names_that_resolve(self):
        for name in (
            "stages.fit.fit",
            "stages.fit",
            "stages.fit.Klass.method",
            "stages.fit.Klass.make",
        ):
            if name == "stages.fit":
                continue  # the module, see below
            with self.subTest(name):
                ended = self.inspect_targets(self.target(name))
                (stage,) = ended.answer["stages"]
                self.assertEqual(stage["function"]["module"], "stages.fit")
                self.assertEqual(stage["place"], {"file": "pivot.yaml", "line": 3})

    def test_declaration_is_echoed_and_params_are_merged(self):
        outs = [{"path": "m", "kind": "metric", "cache": False}]
        target = self.target(
            "stages.fit.fit", stage="s@v", variant="v", outs=outs, params={"lr": 1}
        )
        ended = self.inspect_targets(target, overrides={"s": {"lr": 2}})
        (stage,) = ended.answer["stages"]
        self.assertEqual((stage["base"], stage["variant"]), ("s", "v"))
        self.assertEqual((stage["params"], stage["outs"], stage["deps"]), ({"lr": 2}, outs, ["a"]))

    def test_errors(self):
        table = [
            (
                "stages.fit.Fit",
                "import",
                "`stages.fit` has no `Fit`; did you mean `fit`?",
                "stages/fit.py",
            ),
            ("stages.nothing.at_all", "import", "`stages` has no `nothing`", "stages/__init__.py"),
            ("stages.fit", "bind", "", ""),
            ("stage.fit", "import", "there is no module `stage`; did you mean `stages`?", ""),
            ("train", "import", "`train` names no function", "module.function"),
            ("stages.fit.VALUE", "import", "is no function, but 3", ""),
            ("stages.fit.Klass", "import", "is a class", "static method"),
            ("stages.fit.Klass.bound", "import", "needs an object", "static method"),
            ("stages.fit.lines", "declare", "is a generator function", "yield"),
        ]
        for name, kind, message, hint in table:
            if name == "stages.fit":
                continue
            with self.subTest(name):
                error = self.inspect_targets(self.target(name)).answer["error"]
                self.assertEqual((error["kind"], error["stage"]), (kind, "s"), error)
                self.assertIn(message, error["message"])
                self.assertIn(hint, error["hint"] or "")
                self.assertEqual((error["file"], error["line"]), ("pivot.yaml", 3))

    def test_errors_inside_the_module_keep_their_place(self):
        self.write("broken.py", "import stages\nimport not_there\n")
        error = self.inspect_targets(self.target("broken.work")).answer["error"]
        self.assertEqual((error["kind"], error["file"], error["line"]), ("import", "broken.py", 2))
        self.assertIn("No module named 'not_there'", error["message"])
        self.assertIn("no package `not_there`", error["hint"])


class ImportErrors(ProjectTestCase):
    def test_user_exception_shows_their_frames_only(self):
        self.write("features.py", "def build():\n    raise ValueError('no data')\n")
        self.write("pipeline.py", "import features\n\nfeatures.build()\n")
        error = self.failure()
        self.assertEqual((error["kind"], error["stage"]), ("import", None))
        self.assertEqual((error["file"], error["line"]), ("features.py", 2))
        self.assertIn("cannot import `pipeline.py`: ValueError: no data", error["message"])
        lines = [line for line in error["traceback"].splitlines() if line.startswith("  File")]
        self.assertEqual(len(lines), 2, error["traceback"])
        self.assertIn('pipeline.py", line 3, in <module>', lines[0])
        self.assertIn('features.py", line 2, in build', lines[1])

    def test_syntax_error_shows_its_line(self):
        self.write("pipeline.py", "x = 1\ny = = 2\n")
        error = self.failure()
        self.assertEqual(
            (error["kind"], error["file"], error["line"]), ("import", "pipeline.py", 2)
        )
        self.assertIn("SyntaxError: invalid syntax", error["message"])
        self.assertIn("y = = 2", error["traceback"])

    def test_files_that_are_no_python(self):
        (self.root / "pipeline.py").write_bytes(b"x = '\xff'\n")
        self.assertEqual(self.failure()["kind"], "import")
        (self.root / "pipeline.py").write_bytes(b"x = 1\0\n")
        self.assertEqual(self.failure()["kind"], "import")
        (self.root / "pipeline.py").unlink()
        self.assertIn("there is no such file", self.failure()["message"])

    def test_missing_modules_come_with_a_hint(self):
        self.write("src/features/__init__.py", "")
        for module, hint in (
            ("not_there", "no package `not_there`"),
            ("yaml2.x", "no package `yaml2`"),
            ("features", "PYTHONPATH=src"),
        ):
            with self.subTest(module):
                self.write("pipeline.py", f"import {module}\n")
                error = self.failure()
                self.assertIn("No module named", error["message"])
                self.assertIn(hint, error["hint"])
                self.assertEqual((error["file"], error["line"]), ("pipeline.py", 1))
        self.write("pipeline.py", "from .features import x\n")
        self.assertIn("plain names", self.failure()["hint"])

    def test_sys_exit_and_interrupts(self):
        self.write("pipeline.py", "import sys\nsys.exit(3)\n")
        error = self.failure()
        self.assertIn("`pipeline.py` called `sys.exit(3)` while it was imported", error["message"])
        self.assertIn("__main__", error["hint"])
        self.write("pipeline.py", "raise KeyboardInterrupt\n")
        self.assertIn("interrupted", self.failure()["message"])

    def test_hostile_exceptions(self):
        self.write(
            "pipeline.py",
            """
            class Bad(Exception):
                def __str__(self):
                    raise RuntimeError
            raise Bad
            """,
        )
        self.assertIn("pipeline.Bad", self.failure()["message"])
        self.write("pipeline.py", "def f():\n    f()\nf()\n")
        error = self.failure()
        self.assertIn("RecursionError", error["message"])
        self.assertLess(len(error["traceback"]), 10_000)
        self.write("pipeline.py", "raise ValueError('x' * 10_000_000 + 'end')\n")
        error = self.failure()
        self.assertLess(len(error["message"]), 70_000)
        self.assertIn("characters left out", error["traceback"])
        self.assertTrue(error["traceback"].endswith("end\n"))


class DeclarationErrors(ProjectTestCase):
    def test_place_and_stage(self):
        self.write(
            "pipeline.py",
            """
            from pivot import stage

            @stage(deps='data.csv')
            def train(): ...
            """,
        )
        error = self.failure()
        self.assertEqual(
            (error["kind"], error["stage"], error["argument"]), ("declare", "train", "deps")
        )
        self.assertEqual((error["file"], error["line"]), ("pipeline.py", 4))
        self.assertEqual(error["hint"], "write `deps=['data.csv']`")
        self.assertIsNone(error["traceback"])

    def test_two_of_one_name(self):
        self.write("a.py", "from pivot import stage\n@stage\ndef work(): ...\n")
        self.write("pipeline.py", "import a\nfrom pivot import stage\n@stage\ndef work(): ...\n")
        error = self.failure()
        self.assertEqual(
            (error["kind"], error["file"], error["line"]), ("declare", "pipeline.py", 3)
        )
        self.assertIn(
            "two stages are called `work`; the first is declared at `a.py:2`", error["message"]
        )

    def test_paths_outside_and_missing_code_deps(self):
        for arguments, message in (
            ("deps=['/etc/passwd']", "`/etc/passwd` in `deps` lies outside the project"),
            ("code_deps=['gone.py']", "cannot read `gone.py` of `code_deps`: No such file"),
        ):
            text = f"from pivot import stage\n@stage({arguments})\ndef work(): ...\n"
            self.write("pipeline.py", text)
            error = self.failure()
            self.assertEqual((error["kind"], error["line"]), ("declare", 2))
            self.assertIn(message, error["message"])

    def test_binding_at_load(self):
        self.write(
            "pipeline.py", "from pivot import stage\n@stage(deps=['a'])\ndef work(a, b): ...\n"
        )
        error = self.failure()
        self.assertEqual((error["kind"], error["stage"], error["argument"]), ("bind", "work", "b"))
        self.assertEqual((error["file"], error["line"]), ("pipeline.py", 2))


@unittest.skipUnless(pydantic_version() >= 2, "needs Pydantic 2")
class Pydantic(ProjectTestCase):
    PIPELINE = """
        from typing import Literal
        from pydantic import BaseModel, Field
        from pivot import stage

        class Inner(BaseModel):
            depth: int = 1
            width: int = 2

        class TrainParams(BaseModel):
            learning_rate: float = 0.01
            epochs: int = 100
            batch_size: int = 32
            kind: Literal['a', 'b'] = 'a'
            inner: Inner = Inner(width=5)
            aliased: int = Field(default=1, alias='Aliased')

        @stage(deps=['data.csv'], outs=['model.pkl'], params=TrainParams)
        def train(params: TrainParams):
            print(f"Training with lr={params.learning_rate} {params.inner} {params.aliased}")
    """

    def test_defaults_and_overrides(self):
        self.write("pipeline.py", self.PIPELINE)
        train = self.stages()["train"]
        self.assertTrue(train["params_model"])
        self.assertEqual(
            train["params"],
            {"learning_rate": 0.01, "epochs": 100, "batch_size": 32, "kind": "a",
             "inner": {"depth": 1, "width": 5}, "aliased": 1},
        )  # fmt: skip
        overrides = {"train": {"learning_rate": 0.001, "inner": {"depth": 3}, "aliased": 7}}
        params = self.stages(overrides=overrides)["train"]["params"]
        self.assertEqual((params["learning_rate"], params["epochs"]), (0.001, 100))
        self.assertEqual((params["inner"], params["aliased"]), ({"depth": 3, "width": 5}, 7))
        ended = self.run_stage("train", overrides=overrides)
        self.assertEqual(ended.stdout, "Training with lr=0.001 depth=3 width=5 7\n", ended)

    def test_validation_errors_have_their_keys(self):
        self.write("pipeline.py", self.PIPELINE)
        overrides = {"train": {"learning_rate": "fast", "epochs": 1.5, "kind": "c"}}
        error = self.failure(overrides=overrides)
        self.assertEqual((error["kind"], error["stage"], error["line"]), ("params", "train", 18))
        self.assertEqual(
            [detail["loc"] for detail in error["details"]],
            [["learning_rate"], ["epochs"], ["kind"]],
        )
        self.assertIn("param `learning_rate`: Input should be a valid number", error["message"])

    def test_unknown_keys_are_errors_unless_the_model_takes_them(self):
        self.write("pipeline.py", self.PIPELINE)
        error = self.failure(overrides={"train": {"learning_rat": 1, "inner": {"deph": 1}}})
        self.assertEqual(
            [(d["loc"], d["message"]) for d in error["details"]],
            [
                (
                    ["learning_rat"],
                    "`TrainParams` has no field `learning_rat`; did you mean `learning_rate`?",
                ),
                (["inner", "deph"], "`Inner` has no field `deph`; did you mean `depth`?"),
            ],
        )
        allowing = self.PIPELINE.replace(
            "learning_rate: float",
            "model_config = {'extra': 'allow'}\n            learning_rate: float",
        )
        self.write("pipeline.py", allowing)
        params = self.stages(overrides={"train": {"free": [1]}})["train"]["params"]
        self.assertEqual(params["free"], [1])

    def test_instances_required_fields_and_secrets(self):
        self.write(
            "pipeline.py",
            """
            from __future__ import annotations
            import datetime
            from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr, computed_field
            from pivot import stage

            class P(BaseModel):
                model_config = ConfigDict(strict=True, extra='forbid')
                day: datetime.date
                seed: int = 1
                token: SecretStr = SecretStr('hidden')
                _cache: list = PrivateAttr(default_factory=lambda: ['made'])

                @computed_field
                @property
                def double(self) -> int:
                    return self.seed * 2

            @stage(params=P)
            def by_class(params: P):
                print(params.day, params.double, params.token.get_secret_value(), params._cache)

            @stage(params=P(day=datetime.date(2024, 1, 31), seed=5))
            def by_instance(p: P):
                by_class(p)

            @stage
            def implied(seed, other: P):
                by_class(other)
            """,
        )
        day = {"day": "2024-02-01"}
        overrides = {"by_class": day, "by_instance": {"seed": 6}, "implied": {**day, "seed": 2}}
        stages = self.stages(overrides=overrides)
        self.assertEqual(stages["by_class"]["params"], {**day, "seed": 1, "token": "**********"})
        for name, expected in (
            ("by_class", "2024-02-01 2 hidden"),
            ("by_instance", "2024-01-31 12 hidden ['made']"),
            ("implied", "2024-02-01 4 hidden"),
        ):
            ended = self.run_stage(name, overrides=overrides)
            self.assertTrue(ended.answer["ok"], ended)
            self.assertIn(expected, ended.stdout)
        error = self.failure(overrides={"implied": day})
        self.assertEqual([d["loc"] for d in error["details"]], [["day"]])


@unittest.skipIf(sys.version_info >= (3, 14), "Pydantic 1 does not work there")
@unittest.skipUnless(pydantic_version(), "needs Pydantic")
class Pydantic1(ProjectTestCase):
    def test_params(self):
        self.write(
            "pipeline.py",
            """
            try:
                from pydantic.v1 import BaseModel, Field
            except ImportError:
                from pydantic import BaseModel, Field
            from pivot import stage

            class Inner(BaseModel):
                depth: int = 1
                width: int = 2

            class P(BaseModel):
                lr: float
                inner: Inner = Inner(width=5)
                aliased: int = Field(3, alias='Aliased')

            @stage(params=P)
            def work(params: P):
                print(repr(params))
            """,
        )
        overrides = {"work": {"lr": 1, "inner": {"depth": 3}, "aliased": 4}}
        stage = self.stages(overrides=overrides)["work"]
        expected = {"lr": 1.0, "inner": {"depth": 3, "width": 5}, "aliased": 4}
        self.assertEqual((stage["params"], stage["params_model"]), (expected, True))
        ended = self.run_stage("work", overrides=overrides)
        self.assertEqual(ended.stdout, "P(lr=1.0, inner=Inner(depth=3, width=5), aliased=4)\n")
        error = self.failure(overrides={"work": {"lr": "x", "aliased": "y"}})
        self.assertEqual([d["loc"] for d in error["details"]], [["lr"], ["Aliased"]])
        error = self.failure(overrides={"work": {"lr": 1, "iner": 2}})
        self.assertIn("did you mean `inner`?", error["message"])


if __name__ == "__main__":
    unittest.main()

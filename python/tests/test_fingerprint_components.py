"""Components of stages: their names, places and notes, and what changes them."""

from __future__ import annotations

import os
import unittest

from support import ProjectTestCase

PIPELINE = """
    from pivot import stage
    import lib

    RATE = 2


    @stage(deps=["in.txt"], outs=["out.txt"])
    def work():
        print(lib.helper(RATE))
"""
LIB = """
    class Model:
        def run(self, x):
            return x


    def helper(x):
        return Model().run(x)


    def unrelated(x):
        return x
"""


class ComponentsTest(ProjectTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("pipeline.py", PIPELINE)
        self.write("lib.py", LIB)
        self.write("in.txt", "1")

    def code(self, stage: str = "work", **more: object) -> dict[str, str]:
        return {c["name"]: c["hash"] for c in self.stages(**more)[stage]["code"]}

    def changed(self, old: dict[str, str], new: dict[str, str]) -> set[str]:
        return {name for name in {*old, *new} if old.get(name) != new.get(name)}

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        self.assertIn(old, text)
        (self.root / name).write_text(text.replace(old, new))

    def test_each_part_has_a_name_and_a_place(self) -> None:
        found = {c["name"]: (c["file"], c["line"]) for c in self.stages()["work"]["code"]}
        self.assertEqual(found["self:work"], ("pipeline.py", 9))
        self.assertEqual(found["const:RATE"], ("pipeline.py", 5))
        self.assertEqual(found["func:helper"], ("lib.py", 7))
        self.assertEqual(found["class:Model"], ("lib.py", 2))
        self.assertEqual({n for n in found if n.startswith("func:")}, {"func:helper"})

    def test_a_change_shows_where_it_was_made(self) -> None:
        before = self.code()
        for file, old, new, expected in (
            ("lib.py", "return Model()", "return 1 + Model()", {"func:helper"}),
            ("lib.py", "            return x", "            return -x", {"class:Model"}),
            ("pipeline.py", "RATE = 2", "RATE = 3", {"const:RATE"}),
            ("pipeline.py", "print(lib", "print(1, lib", {"self:work"}),
            ("lib.py", "def unrelated(x):", "def unrelated(y):", set()),
        ):
            text = self.read(file)
            self.replace(file, old.strip("\n"), new.strip("\n")) if old in text else self.replace(
                file, old.strip(), new.strip()
            )
            self.assertEqual(self.changed(before, self.code()), expected, new)
            (self.root / file).write_text(text)

    def test_equal_names_are_told_apart(self) -> None:
        self.write("other.py", "def helper(x):\n    return x\n")
        self.replace("pipeline.py", "import lib\n", "import lib\nimport other\n")
        self.replace("pipeline.py", "print(", "print(other.helper(1), ")
        names = set(self.code())
        self.assertLessEqual({"func:lib.helper", "func:other.helper"}, names)

    def test_a_module_that_is_passed_on_counts_as_a_whole_and_says_so(self) -> None:
        self.replace("pipeline.py", "print(lib.helper(RATE))", "print(vars, use(lib))")
        with open(self.root / "pipeline.py", "a") as file:
            file.write("\n\ndef use(m):\n    return m.helper(1)\n")
        stage = self.stages()["work"]
        self.assertIn("module:lib", {c["name"] for c in stage["code"]})
        self.assertEqual(
            [(n["text"], n["file"], n["line"]) for n in stage["notes"]],
            [("depends on all of lib.py, because lib is passed to use()", "pipeline.py", 10)],
        )

    def test_a_moved_project_is_the_same(self) -> None:
        self.replace("pipeline.py", "RATE = 2", "import os\nRATE = os.path.dirname(__file__)")
        before = self.code()
        moved = self.root.parent / "moved"
        os.rename(self.root, moved)
        self.root = moved
        self.assertEqual(self.code(), before)

    def test_every_process_agrees(self) -> None:
        self.replace("pipeline.py", "RATE = 2", "RATE = {'a', 'b', frozenset({'c', 'd'})}")
        self.assertEqual(self.code(), self.code())

    def test_an_object_that_cannot_be_looked_into_is_no_failure(self) -> None:
        self.replace(
            "pipeline.py",
            "RATE = 2",
            "class Odd:\n    @property\n    def __dict__(self):\n        raise OSError('no')\n\n\n"
            "RATE = Odd()",
        )
        stage = self.stages()["work"]
        self.assertIn("const:RATE", {c["name"] for c in stage["code"]})

    def test_no_bytecode_is_read_or_written_for_user_code(self) -> None:
        self.code()
        self.assertFalse((self.root / "__pycache__").exists())
        stat = os.stat(self.root / "lib.py")
        before = self.code()
        self.replace("lib.py", "return Model()", "return Model ()")
        self.replace("lib.py", "return Model ()", "return Modes()")
        self.replace("lib.py", "class Model", "class Modes")
        os.utime(self.root / "lib.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.assertEqual(
            self.changed(before, self.code()), {"class:Model", "class:Modes", "func:helper"}
        )

    def test_an_environment_variable_in_a_body_counts(self) -> None:
        self.replace("pipeline.py", "print(", "import os\n    print(os.environ.get('DEMO_V'), ")
        request = {
            "type": "inspect", "root": str(self.root), "entry": {"file": "pipeline.py"},
            "overrides": {}, "settings": {},
        }  # fmt: skip
        codes = []
        for value in ("1", "2"):
            answer = self.request(request, DEMO_V=value).answer
            codes.append({c["name"]: c["hash"] for c in answer["stages"][0]["code"]})
        self.assertEqual(self.changed(*codes), {"env:DEMO_V"})

    def test_a_required_distribution_counts(self) -> None:
        site = self.root.parent / "site-packages"
        for name, version, more in (
            ("acme", "1.0", "Requires-Dist: zeta>=1\n"),
            ("zeta", "1.0", ""),
        ):
            info = site / f"{name}-{version}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n{more}\n")
            (info / "RECORD").write_text(f"{name}.py,sha256=x,1\n")
            (site / f"{name}.py").write_text("def go():\n    return 1\n")
        self.replace("pipeline.py", "import lib\n", "import lib\nimport acme\n")
        self.replace("pipeline.py", "print(", "print(acme.go(), ")
        request = {
            "type": "inspect", "root": str(self.root), "entry": {"file": "pipeline.py"},
            "overrides": {}, "settings": {},
        }  # fmt: skip
        codes = []
        for version in ("1.0", "2.0"):
            answer = self.request(request, PYTHONPATH=str(site)).answer
            codes.append({c["name"]: c["hash"] for c in answer["stages"][0]["code"]})
            (site / "zeta-1.0.dist-info").rename(
                site / "zeta-2.0.dist-info"
            ) if version == "1.0" else None
        self.assertEqual(self.changed(*codes), {"package:zeta"})


if __name__ == "__main__":
    unittest.main()

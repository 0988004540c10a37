"""The import witness and the observation of a run, as the helper's processes make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import unittest
from hashlib import blake2b
from typing import Any

from support import PACKAGE, ProjectTestCase

RUN = """
import json, os, sys
sys.path[:0] = [{package!r}, os.getcwd()]
from pivot._fingerprint._inspection import Inspection
from pivot._fingerprint._observation import Observation
session = (Observation if {observe} else Inspection)(os.getcwd())
session.start()
module = session.load_file("pipeline.py")
session.stop_recording()
if {observe}:
    module.work()
    found = session.observed()
else:
    session.fingerprint(module.work, "work")
    found = session.witness()
sys.__stdout__.write(json.dumps(found))
"""


def content(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


class RecordTestCase(ProjectTestCase):
    def record(self, *, observe: bool = False, **env: str) -> dict[str, Any]:
        script = RUN.format(package=str(PACKAGE.parent), observe=observe)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | env
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=self.root, env=environ, capture_output=True,
            text=True,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def pipeline(self, text: str) -> None:
        self.write("pipeline.py", textwrap.dedent(text))


class WitnessTest(RecordTestCase):
    def test_sources_carry_the_hash_of_what_ran(self) -> None:
        self.pipeline("import lib\n\n\ndef work():\n    lib.f()\n")
        self.write("lib.py", "def f():\n    pass\n")
        found = self.record()
        sources = {os.path.basename(s["path"]): s for s in found["sources"]}
        self.assertEqual(set(sources), {"pipeline.py", "lib.py"})
        path = self.root / "lib.py"
        stat = path.stat()
        self.assertEqual(sources["lib.py"]["hash"], content(path.read_bytes()))
        self.assertEqual(
            sources["lib.py"]["stat"],
            [stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino, stat.st_dev],
        )
        self.assertTrue(found["replayable"], found["reasons"])

    def test_files_folders_and_checks_are_seen(self) -> None:
        self.pipeline(
            """
            import os
            from pathlib import Path

            A = Path("a.txt").read_text()
            try:
                B = open("b.txt").read()
            except FileNotFoundError:
                B = ""
            C = os.path.exists("c.txt")
            D = sorted(os.listdir("d"))
            E = os.path.getsize("a.txt")
            F = os.path.islink("link")


            def work():
                pass
            """
        )
        self.write("a.txt", "a")
        self.write("d/x", "")
        (self.root / "link").symlink_to("a.txt")
        found = self.record()
        opened = {os.path.basename(e["path"]): e["hash"] for e in found["opened"]}
        self.assertEqual(opened["a.txt"], content(b"a"))
        self.assertIsNone(opened["b.txt"])
        exists = {os.path.basename(e["path"]): e for e in found["exists"]}
        self.assertIsNone(exists["c.txt"]["kind"])
        self.assertEqual(exists["a.txt"]["kind"], "file")
        self.assertIsNotNone(exists["a.txt"]["stat"])
        self.assertIn("link", exists)
        listings = {os.path.basename(e["dir"]): e["hash"] for e in found["listings"]}
        self.assertEqual(listings["d"], content(b"x"))

    def test_names_of_the_environment_are_seen_with_the_values_of_the_start(self) -> None:
        self.pipeline(
            """
            import os

            A = os.environ.get("DEMO_A")
            B = os.getenv("DEMO_B")
            os.environ["DEMO_C"] = "changed"
            C = os.environ["DEMO_C"]


            def work():
                return os.environ["DEMO_D"]
            """
        )
        found = self.record(DEMO_A="1", DEMO_C="2", DEMO_D="3")
        names = found["environment"]
        self.assertEqual(names["DEMO_A"], content(b"1"))
        self.assertIsNone(names["DEMO_B"])
        self.assertEqual(names["DEMO_C"], content(b"2"))
        self.assertEqual(names["DEMO_D"], content(b"3"))
        self.assertIsNone(found["environment_all"])

    def test_listing_the_environment_is_all_of_it(self) -> None:
        self.pipeline("import os\nA = dict(os.environ)\n\n\ndef work():\n    pass\n")
        self.assertIsNotNone(self.record()["environment_all"])

    def test_a_program_cannot_be_replayed(self) -> None:
        self.pipeline(
            "import subprocess\nA = subprocess.check_output(['true'])\n\n\ndef work():\n    pass\n"
        )
        found = self.record()
        self.assertFalse(found["replayable"])
        self.assertEqual(found["reasons"], ["pipeline.py:2 starts a program at import"])

    def test_failed_look_ups_name_the_folders_that_were_searched(self) -> None:
        self.pipeline(
            """
            try:
                import fast
            except ImportError:
                import slow as fast


            def work():
                import later
            """
        )
        self.write("slow.py", "")
        lookups = {e["dir"]: e for e in self.record()["lookups"]}
        found = lookups[str(self.root)]
        self.assertLessEqual({"fast", "slow", "later"}, set(found["names"]))
        self.assertEqual(found["present"], ["slow.py"])

    def test_a_patched_standard_library_does_not_reach_the_engine(self) -> None:
        self.pipeline(
            """
            import ast
            import builtins
            import os
            import re


            def mine(*args, **kwargs):
                raise SystemExit(3)


            builtins.sorted = builtins.any = builtins.max = mine
            os.path.join = os.path.abspath = ast.parse = re.compile = mine


            def work():
                return sorted([1])
            """
        )
        self.assertEqual(len(self.record()["sources"]), 1)

    def test_wrapped_functions_behave_as_before(self) -> None:
        self.pipeline(
            """
            import os
            import shutil

            assert os.stat in os.supports_follow_symlinks
            assert os.stat(".", dir_fd=None).st_ino == os.stat(os.curdir).st_ino
            assert os.stat(os.open(".", os.O_RDONLY))
            assert len(os.environ) == len(list(os.environ))
            assert os.environ.copy() == dict(os.environ.items())
            assert "NOT_THERE" not in os.environ
            try:
                os.environ["NOT_THERE"]
            except KeyError as error:
                assert error.args == ("NOT_THERE",)
            os.makedirs("t/u")
            shutil.rmtree("t")


            def work():
                pass
            """
        )
        self.record()


class ObservationTest(RecordTestCase):
    def test_a_module_may_have_anything_for_a_file(self) -> None:
        self.pipeline("import lib\n\n\ndef work():\n    lib.f()\n")
        self.write("lib.py", "__file__ = ['no', 'name']\n\n\ndef f():\n    pass\n")
        found = self.record(observe=True)
        if found["complete"]:
            self.assertEqual({entry["name"] for entry in found["code"]}, {"work", "f"})

    def test_what_a_run_did_is_told_without_the_import(self) -> None:
        self.pipeline(
            """
            import os

            SEEN = os.environ.get("AT_IMPORT")


            def used():
                return open("data.txt").read()


            def unused():
                pass


            used_at_import = [used] and None


            def work():
                import lib

                open("written.txt", "w").write(os.environ.get("IN_RUN", used()))
                open("written.txt").read()
                return lib.f()
            """
        )
        self.write("lib.py", "def f():\n    pass\n")
        self.write("data.txt", "1")
        found = self.record(observe=True)
        self.assertEqual(found["files"], ["data.txt"])
        self.assertIn("IN_RUN", found["environment"])
        self.assertNotIn("AT_IMPORT", found["environment"])
        self.assertEqual(found["modules"], ["lib"])
        self.assertEqual(found["complete"], sys.version_info >= (3, 12))
        if found["complete"]:
            names = {entry["name"] for entry in found["code"]}
            self.assertEqual(names, {"work", "used", "f"})
            self.assertEqual({e["file"] for e in found["code"]}, {"pipeline.py", "lib.py"})


if __name__ == "__main__":
    unittest.main()

"""What is kept of files between processes changes no answer, and is not trusted blindly."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

from support import ProjectTestCase

from pivot._fingerprint._compiled import Compiled
from pivot._fingerprint._hashing import content_hash
from pivot._fingerprint._outline import outline_of
from pivot._fingerprint._source import Source

LIB = '''\
"""A module."""
from __future__ import annotations
import os, re; WORD = re.compile("a+")
from math import (
    pi as PI,
)

TABLE = {"a": lambda x: x + 1, "b": lambda x: x + 2}; TEXT = """
a text; LATE = 1
"""; TABLE["c"] = max

def deco(f): f.tag = 1; return f

@(
    deco
)
def scale(x):
    """A docstring."""
    return x * 2 * PI

if WORD:
    class Model:
        @staticmethod
        def fit(x, rate=0.1): return [scale(i) * rate for i in x]
else:
    class Model: pass

try:
    import json as J
except ImportError:
    J = None

def late():
    global LATE
    import csv as LATE
    return LATE, TEXT

é = 3
'''
PIPELINE = """\
import lib
from lib import Model, TABLE
from pivot import stage

@stage(outs=["a.txt"])
def first():
    return lib.scale(1), Model.fit([1]), lib.é

@stage(outs=["b.txt"])
def second(x=TABLE["b"]):
    return lib.late(), TABLE, x(1), lib.WORD
"""


class CompiledTest(ProjectTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("lib.py", LIB)
        self.write("pipeline.py", PIPELINE)

    def kept(self) -> list[Path]:
        """The entries of the two files; the note about edits lies beside them."""
        files = [self.root / name for name in ("lib.py", "pipeline.py")]
        names = {content_hash(os.fsencode(file)) for file in files}
        return sorted(p for p in self.starter.glob("code/*/*.pyc") if p.stem in names)

    def answer(self) -> dict[str, Any]:
        found = self.inspect().answer
        self.assertEqual(found.get("type"), "inspected", found)
        del found["witness"]["began_ns"]
        return found

    def test_answers_are_the_same_with_what_was_kept(self) -> None:
        fresh = self.answer()
        self.assertEqual(len(self.kept()), 2)
        stamps = [place.stat().st_mtime_ns for place in self.kept()]
        self.assertEqual(self.answer(), fresh)
        self.assertEqual([place.stat().st_mtime_ns for place in self.kept()], stamps)

    def test_an_edit_is_seen(self) -> None:
        before = self.stages()
        self.write("lib.py", LIB.replace("x * 2", "x * 3"))
        after = self.stages()
        self.assertNotEqual(before["first"]["code"], after["first"]["code"])
        self.assertEqual(before["second"]["code"], after["second"]["code"])
        self.write("lib.py", LIB)
        self.assertEqual(self.stages(), before)

    def test_what_is_damaged_or_of_another_file_is_made_anew(self) -> None:
        fresh = self.answer()
        first, second = (place.read_bytes() for place in self.kept())
        middle = len(first) // 2
        for content in (
            b"",
            first[:-1],
            first[:middle] + bytes([first[middle] ^ 1]) + first[middle + 1 :],
            second,
        ):
            self.kept()[0].write_bytes(content)
            self.assertEqual(self.answer(), fresh)
            self.assertEqual(self.kept()[0].read_bytes()[:32], first[:32])

    def test_what_was_taken_in_ahead_is_used_once_and_for_the_same_bytes(self) -> None:
        self.answer()
        kept = Compiled(str(self.starter / "code"))
        path, data = str(self.root / "lib.py"), LIB.encode()
        other = data + b"# another"
        kept.look_ahead([path, str(self.root / "absent.py")])
        self.assertIsNone(kept.read(path, other, content_hash(other)))
        kept.look_ahead([path])
        for entry in self.kept():
            entry.unlink()
        self.assertIsNotNone(kept.read(path, data, content_hash(data)))
        self.assertIsNone(kept.read(path, data, content_hash(data)), "the same objects again")

    def test_what_others_may_write_is_not_read(self) -> None:
        fresh = self.answer()
        entry = self.kept()[0]
        folder = entry.parent
        for place in (folder, folder.parent):
            mode = place.stat().st_mode & 0o777
            place.chmod(0o777)
            entry.write_bytes(b"damaged")
            self.assertEqual(self.answer(), fresh)
            self.assertEqual(entry.read_bytes(), b"damaged", "not written there either")
            place.chmod(mode)
        self.assertEqual(self.answer(), fresh)
        self.assertNotEqual(entry.read_bytes(), b"damaged")

    def test_a_folder_that_cannot_be_made_is_done_without(self) -> None:
        (self.starter / "code").write_text("in the way")
        self.assertEqual(self.answer(), self.answer())

    def test_parts_give_what_the_whole_gives(self) -> None:
        for text in (LIB, PIPELINE, Path(__file__).read_text(), "", "x = 1; \\\n\ny = 2\n"):
            data = text.encode()
            code = compile(data, "lib.py", "exec")
            whole = Source("lib.py", data, code, "lib")
            outline = outline_of(whole)
            self.assertIsNotNone(outline)
            parts = Source("lib.py", data, code, "lib", outline=outline)
            names = {n.id for n in ast.walk(whole.tree) if isinstance(n, ast.Name)}
            names |= {c.co_name for c in whole._index().values()}
            names |= {"Model", "CompiledTest", "CompiledTest.kept", "PI", "J", "LATE"}
            for name in sorted(names):
                with self.subTest(name=name):
                    self.assertEqual(parts.line_of(name), whole.line_of(name))
                    self.assertEqual(
                        _dumped(parts.class_node(name)), _dumped(whole.class_node(name))
                    )
                    self.assertEqual(parts.imported(name), whole.imported(name))
                    self.assertEqual(parts.late_imports(name), whole.late_imports(name))
                    self.assertEqual(
                        [_dumped(one.node) for one in parts.bindings(name)],
                        [_dumped(one.node) for one in whole.bindings(name)],
                    )
            for item in whole._index().values():
                self.assertEqual(_dumped(parts.node(item)), _dumped(whole.node(item)), item)

    def test_text_whose_parts_cannot_stand_alone_has_no_outline(self) -> None:
        for data in (
            b"x = 1\r\ny = 2\r\n",
            b"# coding: latin-1\nx = '\xe9'\n",
            b"\xef\xbb\xbfx = 1\n",
        ):
            source = Source("lib.py", data, compile(data, "lib.py", "exec"), "lib")
            self.assertIsNone(outline_of(source), data)


def _dumped(node: ast.AST | None) -> str | None:
    return None if node is None else ast.dump(node, include_attributes=True)

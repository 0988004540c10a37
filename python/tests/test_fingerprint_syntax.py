"""The normalized form of code, and the names in it."""

from __future__ import annotations

import ast
import textwrap
import unittest

from support import PACKAGE  # noqa: F401 - puts the package on the path

from pivot._fingerprint._names import names_of
from pivot._fingerprint._source import Source
from pivot._fingerprint._syntax import function_form


def form(text: str, *, texts: bool = False) -> bytes:
    return function_form(ast.parse(textwrap.dedent(text)).body[0], texts=texts)


def outer(text: str) -> set[str]:
    names = names_of([ast.parse(textwrap.dedent(text)).body[0]])
    return {".".join((str(use.root), *use.attributes)) for use in names.outer}


class FormTest(unittest.TestCase):
    def test_what_does_not_run_does_not_count(self) -> None:
        plain = form("def f(x, y=1):\n    z = x + 1\n    return g('ab', z)")
        for text in (
            "def f(x, y=1):\n    # note\n    z = x + 1\n\n    return g('ab', z)",
            'def f(x, y=1):\n    """Doc."""\n    z = x + 1\n    return g("a" "b", z)',
            "def f(x: int, y: str = 1) -> int:\n    z: int = x + 1\n    return g('ab', z)",
            "def f(x, y=2):\n    z = (x) + 0x1\n    return g(\n        'ab',\n        z,\n    )",
            "@d\ndef other(x, y=1):\n    pass\n    z = x + 1\n    return g('ab', z)",
        ):
            self.assertEqual(form(text), plain, text)

    def test_what_runs_counts(self) -> None:
        texts = [
            "def f(x):\n    return x + 1",
            "def f(x):\n    return x + 1.0",
            "def f(x):\n    return x + True",
            "def f(x):\n    return 1 + x",
            "def f(y):\n    return y + 1",
            "def f(*x):\n    return x + 1",
            "def f(x, /):\n    return x + 1",
            "def f(*, x):\n    return x + 1",
            "async def f(x):\n    return x + 1",
            "def f(x):\n    yield x + 1",
            "def f(x):\n    x + 1",
            "def f(x):\n    return x - 1",
            "def f(x):\n    return (x + 1,)",
            "def f(x):\n    return f'{x + 1}'",
            "def f(x):\n    return f'{x + 1!r}'",
            "def f(x):\n    return f'{x + 1:>3}'",
            "def f(x):\n    def g(v=1): return v\n    return x + 1",
            "def f(x):\n    def g(v=2): return v\n    return x + 1",
            "def f(x):\n    class A:\n        v: int = 1\n    return x + 1",
            "def f(x):\n    class A:\n        v: str = 1\n    return x + 1",
        ]
        forms = {form(text): text for text in texts}
        self.assertEqual(len(forms), len(texts))

    def test_texts_count_when_something_reads_them(self) -> None:
        one = 'def f(x: int):\n    """One."""'
        for other in ('def f(x: int):\n    """Two."""', 'def f(x: str):\n    """One."""'):
            self.assertEqual(form(one), form(other))
            self.assertNotEqual(form(one, texts=True), form(other, texts=True))

    def test_length_is_no_limit(self) -> None:
        bodies = []
        for last in "12":
            text = f"def f(x):\n    return {' + '.join(['x'] * 2500)} + {last}\n".encode()
            source = Source("/x/m.py", text, compile(text, "/x/m.py", "exec"), "m")
            bodies.append([function_form(node) for node in source.tree.body])
        self.assertNotEqual(*bodies)


class NamesTest(unittest.TestCase):
    def test_only_names_of_the_outside_are_followed(self) -> None:
        table = {
            "def f(x):\n    return g(x) + m.a.b(K)": {"g", "m.a.b", "K"},
            "def f(g):\n    return g(1)": set(),
            "def f():\n    g = 1\n    return g": set(),
            "def f():\n    for g in h():\n        pass\n    return g": {"h"},
            "def f():\n    return [g for g in g]": {"g"},
            "def f():\n    return [k for g in h for k in g]": {"h"},
            "def f():\n    def inner():\n        return g(K)\n    return inner": {"g", "K"},
            "def f():\n    K = 1\n    def inner():\n        return K\n    return inner": set(),
            "def f():\n    class A:\n        K = 1\n        def go(self):\n            return K": {
                "K"
            },
            "def f():\n    global K\n    K = K + 1": {"K"},
            "def f():\n    try:\n        pass\n    except E as e:\n        raise e": {"E"},
            "def f():\n    with o() as v:\n        return v": {"o"},
            "def f():\n    match v():\n        case P(x=w):\n            return w": {"v", "P"},
            "def f():\n    if (n := h()) > 1:\n        return n": {"h"},
            "def f():\n    return lambda v=D: v + K": {"D", "K"},
            "def f():\n    return f'{K:{W}}'": {"K", "W"},
            "def f():\n    import a\n    return a.b": set(),
        }
        for text, expected in table.items():
            self.assertEqual(outer(text), expected, text)


class SourceTest(unittest.TestCase):
    def source(self, text: str) -> tuple[Source, dict[str, object]]:
        data = textwrap.dedent(text).encode()
        code = compile(data, "/x/m.py", "exec", dont_inherit=True)
        namespace: dict[str, object] = {"__name__": "m"}
        exec(code, namespace)
        return Source("/x/m.py", data, code, "m"), namespace

    def test_code_is_found_by_identity(self) -> None:
        source, names = self.source(
            """
            def f():
                return 1

            first = f

            def f():
                return 2

            class A:
                @staticmethod
                def f():
                    return 3

            method = A.f
            """
        )
        for name, value in (("first", 1), ("f", 2), ("method", 3)):
            node = source.node(names[name].__code__)  # type: ignore[attr-defined]
            self.assertEqual(ast.unparse(node.body), f"return {value}", name)  # type: ignore[union-attr,arg-type]

    def test_lambdas_on_one_line_are_told_apart(self) -> None:
        source, names = self.source("a, b = (lambda x: x + 1), (lambda x: x * 2)\n")
        found = [source.node(names[n].__code__) for n in "ab"]  # type: ignore[attr-defined]
        texts = [ast.unparse(node.body) if node is not None else None for node in found]
        # Without columns (3.10), instructions stand in for both.
        self.assertIn(texts, (["x + 1", "x * 2"], [None, None]))

    def test_foreign_code_is_not_taken_for_the_text(self) -> None:
        source, _ = self.source("def f(x):\n    return x\n")
        other: dict[str, object] = {}
        exec(compile("def f(x):\n    return x + 1\n", "/x/m.py", "exec"), other)
        self.assertIsNone(source.node(other["f"].__code__))  # type: ignore[attr-defined]


if __name__ == "__main__":
    unittest.main()

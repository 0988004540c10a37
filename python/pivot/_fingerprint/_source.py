"""One user file: its bytes, its syntax tree, and which node each code object was compiled from.

``inspect.getsource`` is not used: it follows ``__wrapped__`` and re-reads the file. A code object
is found by identity in what was compiled from these very bytes, so code that was replaced or made
by ``exec`` is never mistaken for the text at its line number.
"""

from __future__ import annotations

import ast
import bisect
import sys
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any, NamedTuple

from ._hashing import content_hash
from ._imported import Imported
from ._layout import Layout, layout_of
from ._names import never_true
from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there

__all__ = ["FunctionNode", "Imported", "Outline", "Source", "Statement"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
# The interpreter compiles longer expressions than it gives trees for.
_RECURSION_LIMIT = 20_000
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_NAMELESS = (ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)


class Statement(NamedTuple):
    """A statement of a module's top level, with the headers of the blocks around it."""

    node: ast.stmt
    headers: tuple[ast.AST, ...]
    binds: frozenset[str]
    touches: frozenset[str]


class Outline(NamedTuple):
    """Where things stand in a file; see `_outline`. Everything in it is plain data."""

    parts: list[tuple[int, int]]
    """First and last line of each part of the top level, in order and without gaps."""
    definers: dict[str, int]
    """Name -> the part with the top level's last definition of it."""
    binders: dict[str, list[int]]
    """Name -> the parts with statements that bind it or act on its object."""
    lines: dict[str, int]
    """Name -> the line that binds it last."""
    acting: list[int]
    """The parts with statements that may have an effect beside binding names."""
    by_name: dict[str, list[Any]]
    stars: list[Any]
    every: list[Any]
    late: dict[str, list[Any]]
    layout: tuple[Any, ...] | None
    """See `_edited.Layout`."""
    ahead: list[str] | None
    """What may be imported ahead; None where nothing may."""


class Source:
    """The text of one user file and what was compiled from it."""

    def __init__(
        self,
        path: str,
        data: bytes,
        code: CodeType,
        name: str | None,
        digest: str | None = None,
        outline: tuple[Any, ...] | None = None,
    ) -> None:
        self.path = path
        self.data = data
        self.name = name
        self.digest = digest or content_hash(data)
        self.outline = None if outline is None else Outline(*outline)
        """What is known of the file without its syntax tree; None where that has to be parsed."""
        self._trees: dict[int, ast.Module] = {}
        self._parsed_lines = 0
        self._lines: list[bytes] | None = None
        self.unparsed = False
        """Whether the text is nested too deeply for a syntax tree, once it was asked for."""
        self.stat: list[int] | None = None
        """``[mtime_ns, ctime_ns, size, inode, device]`` from before the bytes were read."""
        self.is_plain = False
        """Whether Python's own loader has compiled it, and no other code saw the bytes."""
        self._modules = [code]
        self._codes: dict[int, CodeType] | None = None
        self._by_place: dict[tuple[int, str], list[CodeType]] = {}
        self._tree: ast.Module | None = None
        self._definitions: dict[tuple[int | None, int, str], ast.AST] = {}
        self._lambdas: dict[tuple[int | None, int], list[ast.Lambda]] = {}
        self._indexed: set[tuple[str, int | None]] = set()
        self._nodes: dict[int, FunctionNode | None] = {}
        self._statements: list[Statement] | None = None
        self._acting: list[Statement] | None = None
        self._bindings: dict[str, list[Statement]] | None = None
        self._late: dict[str, list[Imported]] | None = None
        self._imports: tuple[dict[str, list[Imported]], list[Imported], list[Imported]] | None = (
            None
        )

    def also(self, code: CodeType) -> None:
        """Another module object was executed from the same bytes."""
        self._modules.append(code)
        self._codes = None

    @property
    def code(self) -> CodeType:
        """The module's code object."""
        return self._modules[0]

    @property
    def tree(self) -> ast.Module:
        """The syntax tree, parsed when first asked for."""
        if self._tree is None:
            self._tree = _parsed(self.data, self.path)
            self.unparsed = self._tree is None
            if self._tree is None:
                self._tree = ast.Module([], [])
        return self._tree

    def is_loaded_once(self) -> bool:
        """Whether one module was executed from these bytes."""
        return len(self._modules) == 1

    def holds(self, code: CodeType) -> bool:
        """Whether this very code object was compiled from these bytes."""
        return id(code) in self._index()

    def node(self, code: CodeType) -> FunctionNode | None:
        """The definition that ``code`` was compiled from; None if it came from somewhere else."""
        key = id(code)
        if key not in self._index():
            place = (code.co_firstlineno, code.co_name)
            twin = next((c for c in self._by_place.get(place, ()) if c == code), None)
            if twin is None:
                return None
            code, key = twin, id(twin)
        if key not in self._nodes:
            self._nodes[key] = self._find(code)
        return self._nodes[key]

    def codes_in(self, nodes: Iterable[ast.AST]) -> list[CodeType]:
        """The lambdas and generators in statements and expressions of the top level."""
        lines = set()
        for node in nodes:
            inner = [n for n in ast.walk(node) if isinstance(n, _NAMELESS)]
            lines.update(line for n in inner for line in range(n.lineno, (n.end_lineno or 0) + 1))
        if not lines:
            return []
        codes = self._index().values()
        return [c for c in codes if c.co_name[0] == "<" and c.co_firstlineno in lines]

    def class_node(self, qualname: str) -> ast.ClassDef | None:
        """The last class statement with this qualified name."""
        body: list[ast.stmt]
        if self.outline is None:
            body = self.tree.body
        else:
            part = self.outline.definers.get(qualname.partition(".")[0])
            body = [] if part is None else self._part(part).body
        found: ast.AST | None = None
        for part in qualname.split("."):
            if part == "<locals>":
                continue
            found = None
            for statement in statements_in(body):
                if isinstance(statement, _DEFINITIONS) and statement.name == part:
                    found = statement
            if found is None:
                return None
            body = found.body  # type: ignore[attr-defined]
        return found if isinstance(found, ast.ClassDef) else None

    def statements(self) -> list[Statement]:
        """The top level's simple statements and definitions, blocks flattened."""
        if self._statements is None:
            self._statements = list(_flatten(self.tree.body))
        return self._statements

    def layout(self) -> Layout | None:
        """Where edits can be; None where the lines do not say."""
        if self.outline is not None:
            return None if self.outline.layout is None else Layout(*self.outline.layout)
        tree = self.tree
        return None if self.unparsed else layout_of(self.data, tree)

    def acting_statements(self) -> list[Statement]:
        """Those statements that may have an effect, and perhaps others."""
        if self.outline is None:
            return self.statements()
        if self._acting is None:
            parts = [self._part(part) for part in self.outline.acting]
            self._acting = [one for part in parts for one in _flatten(part.body)]
        return self._acting

    def statements_of(self, nodes: list[ast.stmt]) -> Iterator[Statement]:
        """Some statements of the top level, blocks flattened."""
        return _flatten(nodes)

    def bindings(self, name: str) -> list[Statement]:
        """The top-level statements that bind ``name`` or act on the object it names."""
        if self.outline is not None:
            parts = [self._part(part) for part in self.outline.binders.get(name, ())]
            flat = [one for part in parts for one in _flatten(part.body)]
            return [one for one in flat if name in one.binds or name in one.touches]
        if self._bindings is None:
            self._bindings = {}
            for statement in self.statements():
                for bound in statement.binds | statement.touches:
                    self._bindings.setdefault(bound, []).append(statement)
        return self._bindings.get(name, [])

    def line_of(self, name: str) -> int | None:
        """The line that binds the module-level name last."""
        if self.outline is not None:
            return self.outline.lines.get(name)
        line = None
        for statement in self.bindings(name):
            if name in statement.binds:
                line = statement.node.lineno
        return line

    def imported(self, name: str) -> list[Imported]:
        """How top-level imports bind ``name``; the last wins at run time."""
        return self.import_tables()[0].get(name, [])

    def star_imports(self) -> list[Imported]:
        """The modules of ``from x import *``."""
        return self.import_tables()[1]

    def all_imports(self) -> list[Imported]:
        """All imports that run when the module is imported."""
        return self.import_tables()[2]

    def late_imports(self, name: str) -> list[Imported]:
        """Imports in functions that declare the name they bind ``global``."""
        return self.late_table().get(name, [])

    def late_table(self) -> dict[str, list[Imported]]:
        """:meth:`late_imports` by name."""
        if self._late is None and self.outline is not None:
            self._late = {name: _imports(found) for name, found in self.outline.late.items()}
        if self._late is None:
            self._late = {}
            for function in ast.walk(self.tree):
                if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    continue
                inside = list(ast.walk(function))
                declared = {
                    n for node in inside if isinstance(node, ast.Global) for n in node.names
                }
                for node in inside if declared else ():
                    if isinstance(node, (ast.Import, ast.ImportFrom)):
                        for alias in node.names:
                            bound = alias.asname or alias.name.partition(".")[0]
                            if bound not in declared:
                                continue
                            if isinstance(node, ast.Import):
                                module = alias.name if alias.asname else bound
                                entry = Imported(module, 0, None, node.lineno)
                            else:
                                entry = Imported(
                                    node.module or "", node.level, alias.name, node.lineno
                                )
                            self._late.setdefault(bound, []).append(entry)
        return self._late

    def import_tables(
        self,
    ) -> tuple[dict[str, list[Imported]], list[Imported], list[Imported]]:
        """The imports by name, those of everything, and all of them, in order."""
        if self._imports is None and self.outline is not None:
            by_name = {name: _imports(found) for name, found in self.outline.by_name.items()}
            self._imports = (by_name, _imports(self.outline.stars), _imports(self.outline.every))
        if self._imports is None:
            by_name = {}
            stars: list[Imported] = []
            every: list[Imported] = []
            stack: list[ast.stmt] = list(reversed(self.tree.body))
            while stack:
                node = stack.pop()
                if isinstance(node, ast.Import):
                    for alias in node.names:
                        entry = Imported(alias.name, 0, None, node.lineno)
                        every.append(entry)
                        bound = alias.asname or alias.name.partition(".")[0]
                        by_name.setdefault(bound, []).append(entry)
                elif isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        entry = Imported(node.module or "", node.level, alias.name, node.lineno)
                        every.append(entry)
                        if alias.name == "*":
                            stars.append(entry)
                        else:
                            by_name.setdefault(alias.asname or alias.name, []).append(entry)
                elif isinstance(node, ast.ClassDef):
                    stack.extend(reversed(node.body))
                elif not isinstance(node, _DEFINITIONS) and not is_idle(node):
                    stack.extend(reversed(list(_child_statements(node))))
            self._imports = (by_name, stars, every)
        return self._imports

    def _index(self) -> dict[int, CodeType]:
        if self._codes is None:
            self._codes = {}
            self._by_place = {}
            stack = list(self._modules)
            while stack:
                code = stack.pop()
                self._codes[id(code)] = code
                self._by_place.setdefault((code.co_firstlineno, code.co_name), []).append(code)
                stack.extend(c for c in code.co_consts if isinstance(c, CodeType))
        return self._codes

    def _find(self, code: CodeType) -> FunctionNode | None:
        part = self._part_at(code.co_firstlineno)
        if code.co_name == "<lambda>":
            return self._find_lambda(code, part)
        if ("def", part) not in self._indexed:
            self._indexed.add(("def", part))
            stack: list[ast.AST] = [self.tree if part is None else self._part(part)]
            while stack:
                node = stack.pop()
                if isinstance(node, _DEFINITIONS):
                    self._definitions[part, first_line(node), node.name] = node
                stack.extend(_child_statements(node))
        node = self._definitions.get((part, code.co_firstlineno, code.co_name))
        return node if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None

    def _find_lambda(self, code: CodeType, part: int | None) -> ast.Lambda | None:
        if ("lambda", part) not in self._indexed:
            self._indexed.add(("lambda", part))
            for node in ast.walk(self.tree if part is None else self._part(part)):
                if isinstance(node, ast.Lambda):
                    self._lambdas.setdefault((part, node.lineno), []).append(node)
        candidates = self._lambdas.get((part, code.co_firstlineno), [])
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        span = _span(code)
        if span is None:
            return None
        exact = [
            node
            for node in candidates
            if (node.body.lineno, node.body.col_offset) == span[0]
            and (node.body.end_lineno, node.body.end_col_offset) == span[1]
        ]
        return exact[0] if len(exact) == 1 else None

    # ------------------------------------------------------------------ parts

    def _part_at(self, line: int) -> int | None:
        """The part that holds a line; None without an outline."""
        if self.outline is None:
            return None
        return max(bisect.bisect_right(self.outline.parts, (line, 1 << 60)) - 1, 0)

    def _part(self, number: int) -> ast.Module:
        """The syntax tree of one part, with the lines it has in the file; always the same one."""
        known = self._trees.get(number)
        if known is None:
            known = self._trees[number] = self._parse_part(number)
        return known

    def _parse_part(self, number: int) -> ast.Module:
        assert self.outline is not None
        if not self.outline.parts:
            return ast.Module([], [])
        start, end = self.outline.parts[number]
        if self._tree is None:
            # Empty lines in front keep the numbers right, and take time of their own.
            self._parsed_lines += end - start + 1 + start // 10
            if self._parsed_lines <= self.outline.parts[-1][1]:
                if self._lines is None:
                    self._lines = self.data.split(b"\n")
                text = b"\n" * (start - 1) + b"\n".join(self._lines[start - 1 : end]) + b"\n"
                try:
                    return ast.parse(text, self.path)
                except (SyntaxError, ValueError, RecursionError, MemoryError):
                    pass  # such as a line that goes on though nothing follows
        inside = [n for n in self.tree.body if start <= n.lineno <= end]
        return ast.Module(inside, [])


def _imports(entries: Iterable[Any]) -> list[Imported]:
    return [Imported(*entry) for entry in entries]


def _parsed(data: bytes, path: str) -> ast.Module | None:
    """The syntax tree; None where an expression is too long even for a raised limit."""
    try:
        return ast.parse(data, path)
    except RecursionError:
        pass
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION_LIMIT))
    try:
        return ast.parse(data, path)
    except (RecursionError, MemoryError):
        return None
    finally:
        sys.setrecursionlimit(limit)


def all_statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All statements below a node, those in definitions included."""
    stack: list[Any] = list(_child_statements(node))
    while stack:
        inner = stack.pop()
        yield inner
        stack.extend(_child_statements(inner))


def is_definition(node: ast.AST) -> bool:
    """Whether this defines a function or a class."""
    return isinstance(node, _DEFINITIONS)


def first_line(node: ast.AST) -> int:
    """The line that a definition's code object starts at: its first decorator's, if any."""
    lines = [decorator.lineno for decorator in getattr(node, "decorator_list", ())]
    return min([*lines, node.lineno])  # type: ignore[attr-defined]


def is_idle(node: ast.AST) -> bool:
    """Whether this is a block that never runs in a pipeline, and has no other branch."""
    return isinstance(node, ast.If) and never_true(node.test) and not node.orelse


def _child_statements(node: ast.AST) -> Iterator[Any]:
    for field in ("body", "orelse", "finalbody"):
        value = getattr(node, field, None)
        if isinstance(value, list):
            yield from value
    for handler in getattr(node, "handlers", ()):
        yield from handler.body
    for case in getattr(node, "cases", ()):
        yield from case.body


def statements_in(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body and of the blocks in it, without those of definitions."""
    stack = list(reversed(body))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, _DEFINITIONS):
            stack.extend(reversed(list(_child_statements(node))))


def _span(code: CodeType) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First and last place of the body that a lambda's instructions come from."""
    positions = getattr(code, "co_positions", None)
    if positions is None:  # Python 3.10
        return None
    starts: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    for line, end_line, column, end_column in positions():
        if None in (line, end_line, column, end_column) or end_column == 0:
            continue
        starts.append((line, column))
        ends.append((end_line, end_column))
    return (min(starts), max(ends)) if starts else None


def _flatten(body: list[ast.stmt]) -> Iterator[Statement]:
    stack: list[tuple[ast.stmt, tuple[ast.AST, ...]]] = [(n, ()) for n in reversed(body)]
    while stack:
        node, headers = stack.pop()
        inner: list[tuple[ast.stmt, tuple[ast.AST, ...]]] = []
        if isinstance(node, ast.If):
            test = node.test
            if never_true(test):
                inner = [(child, headers) for child in node.orelse]
            else:
                inner = [(child, (*headers, test)) for child in (*node.body, *node.orelse)]
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            header = ast.copy_location(ast.For(node.target, node.iter, [], []), node)
            yield Statement(header, headers, frozenset(_targets(node.target)), frozenset())
            inner = [(child, (*headers, node.iter)) for child in (*node.body, *node.orelse)]
        elif isinstance(node, ast.While):
            inner = [(child, (*headers, node.test)) for child in (*node.body, *node.orelse)]
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            items = tuple(item.context_expr for item in node.items)
            bound = [n for i in node.items if i.optional_vars for n in _targets(i.optional_vars)]
            if bound:
                header = ast.copy_location(ast.With(node.items, []), node)
                yield Statement(header, headers, frozenset(bound), frozenset())
            inner = [(child, headers + items) for child in node.body]
        elif isinstance(node, ast.Try) or type(node).__name__ == "TryStar":
            inner = [(child, headers) for child in _child_statements(node)]
        elif isinstance(node, ast.Match):
            inner = [(child, (*headers, node.subject)) for child in _child_statements(node)]
        else:
            yield Statement(node, headers, frozenset(_bound(node)), frozenset(_touched(node)))
        stack.extend(reversed(inner))


def _targets(node: ast.AST) -> list[str]:
    return [
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign):
        return [name for target in node.targets for name in _targets(target)]
    if isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        return _targets(node.target)
    names: list[str] = []
    if isinstance(node, ast.Expr) and any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)):
        names = _targets(node)
    return names


def _touched(node: ast.stmt) -> list[str]:
    """Names whose objects the statement may change: ``N.f()``, ``N[k] = v``, ``f(N)``."""
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        roots = [_root(target) for target in targets]
        return [root for root in roots if root is not None]
    if isinstance(node, ast.Expr):
        return [
            n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
        ]
    return []


def _root(target: ast.expr) -> str | None:
    node: ast.AST = target
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) and node is not target else None

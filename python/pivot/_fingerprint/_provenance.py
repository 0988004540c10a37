"""What stands for objects without a value: the statements that made them, and what those read.

A lock, a logger or a random generator has nothing that could be compared. If the code that made
it and the files and variables which that code read are the same, so is the object.
"""

from __future__ import annotations

import ast
import os
import sys
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ._callables import meanings_inside
from ._encoder import Encoder, Steps, Task
from ._hashing import content_hash
from ._modules import absolute_name
from ._record import kind_of
from ._source import Source, Statement, is_definition
from ._syntax import nodes_form

if TYPE_CHECKING:
    from ._graph import Graph

__all__ = ["provenance", "write_reads"]

# What made them is all that there is to say of these: nothing is lost by comparing it.
_PLAIN = frozenset({"builtins.object", "logging.Logger", "_thread.lock", "_thread.RLock"})
_CHUNK_SIZE = 1 << 20
_IMPORTS = (ast.Import, ast.ImportFrom)


def provenance(graph: Graph, encoder: Encoder) -> Steps:
    """The statements that made the objects without a value in a component."""
    component = encoder.component
    bound = component.bound
    module = component.key.module if bound is None else bound[0]
    source = graph.sources.of_module(module)
    if source is None or module not in sys.modules:
        return
    kinds = sorted(kind for kind in component.opaque if kind not in _PLAIN)
    if kinds:
        component.note(
            f"compares the statements that made {component.key.name}, "
            f"because {kinds[0]} has no value that could be compared",
            component.file,
            component.line,
        )
    if bound is None:
        # Nothing says which statements made it: any of the module may have.
        places = [(module, source, _acting_statements(source))]
    else:
        places = list(_places(graph, module, source, bound[1]))
    for name, file, statements in places:
        nodes = [node for statement in statements for node in _nodes(statement)]
        encoder.mark("provenance")
        encoder.write(graph.hashed(nodes_form(nodes)))
        whole = (part for one in statements for part in (*one.headers, one.node))
        write_reads(graph, encoder, file, whole)
        meanings = graph.meanings(component, nodes, vars(sys.modules[name]), file)
        if bound is not None:
            meanings.pop(bound[1], None)
        yield Task(meanings_inside(encoder, meanings))


def write_reads(graph: Graph, encoder: Encoder, source: Source, nodes: Iterable[ast.AST]) -> None:
    """What was read from outside while these statements of the top level ran."""
    reads = graph.reads_in(source.path)
    if not reads:
        return
    ranges = list(map(_lines, nodes))
    found = {
        (what, text)
        for line, what, text in reads
        if any(first <= line <= last for first, last in ranges)
    }
    for what, text in sorted(found):
        if what == "read" and text in graph.sources.by_path:
            continue
        shown = graph.roots.relative(text) if os.path.isabs(text) else text
        encoder.mark(what)
        encoder.text(os.path.basename(shown) if shown.startswith("..") else shown)
        encoder.text(_now(what, text))


def _now(what: str, text: str) -> str:
    """What is there: the content of a file, the names in a folder, the value of a variable."""
    try:
        if what == "environment":
            return os.environ.get(text, "\0absent")
        if what == "listing":
            return content_hash(b"\n".join(sorted(map(os.fsencode, os.listdir(text)))))
        if what == "kind":
            return kind_of(text)
        if os.path.isdir(text):
            return "dir"
        with open(text, "rb") as file:
            parts = iter(lambda: file.read(_CHUNK_SIZE), b"")
            return content_hash("".join(map(content_hash, parts)).encode())
    except OSError:
        return "absent"


def _lines(node: ast.AST) -> tuple[int, int]:
    placed = [inner for inner in ast.walk(node) if hasattr(inner, "lineno")]
    firsts = [inner.lineno for inner in placed]  # type: ignore[attr-defined]
    lasts = [inner.end_lineno or 0 for inner in placed]  # type: ignore[attr-defined]
    return min(firsts, default=0), max(lasts, default=-1)


def _places(
    graph: Graph, module: str, source: Source, name: str
) -> Iterator[tuple[str, Source, list[Statement]]]:
    """The statements that bind a name or act on its object, module by module."""
    own = [s for s in source.bindings(name) if not isinstance(s.node, _IMPORTS)]
    own += [
        statement
        for statement in source.acting_statements()
        if statement not in own and _calls_user_of(name, module, statement.node)
    ]
    if own:
        yield module, source, own
    for other in graph.user_modules():
        file = graph.sources.of_module(other.__name__)
        if file is None or other.__name__ == module:
            continue
        touching = [
            statement
            for alias, attribute in sorted(_aliases(file, other, module, name), key=str)
            for statement in file.bindings(alias)
            if alias in statement.touches and _mentions(statement.node, attribute)
        ]
        if touching:
            yield other.__name__, file, touching


def _acting_statements(source: Source) -> list[Statement]:
    return [
        statement
        for statement in source.acting_statements()
        if not is_definition(statement.node) and not isinstance(statement.node, _IMPORTS)
    ]


def _nodes(statement: Statement) -> list[ast.AST]:
    """What of a statement is executed at import, where it defines something."""
    node = statement.node
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        defaults = [*node.args.defaults, *node.args.kw_defaults]
        return [*node.decorator_list, *(inner for inner in defaults if inner is not None)]
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *(inner for inner in node.body if not is_definition(inner))]
    return [*statement.headers, node]


def _calls_user_of(name: str, module: str, node: ast.stmt) -> bool:
    """Whether a statement is the call of a function of its module that uses the name."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    called = node.value.func
    function = vars(sys.modules[module]).get(called.id) if isinstance(called, ast.Name) else None
    if type(function) is not types.FunctionType:
        return False
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        if name in code.co_names:
            return True
        pending.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
    return False


def _aliases(
    file: Source, other: types.ModuleType, module: str, name: str
) -> set[tuple[str, str | None]]:
    """The names under which a module knows the object, or the module that holds it."""
    package = getattr(other, "__package__", "") or ""
    found: set[tuple[str, str | None]] = set()
    for alias, entries in file.import_tables()[0].items():
        for entry in entries:
            absolute = absolute_name(entry.module, entry.level, package)
            if entry.attribute == name and absolute == module:
                found.add((alias, None))
            elif module in (absolute, f"{absolute}.{entry.attribute}"):
                found.add((alias, name))
    return found


def _mentions(node: ast.AST, attribute: str | None) -> bool:
    if attribute is None:
        return True
    inner = ast.walk(node)
    return any(isinstance(n, ast.Attribute) and n.attr == attribute for n in inner)

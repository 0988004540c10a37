"""Notes which functions may be edited without importing the pipeline again; see `_edited`.

A function is among them if nothing at import can have depended on its body: it never started,
its code was never read, its module binds its name once, without a decorator. And if of its body
only the form and the plain names count for the stages: what its names mean must not hang on
the expressions they stand in. Python 3.10 does not tell which code started.
"""

from __future__ import annotations

import marshal
import re
import sys
from collections.abc import Iterable
from os.path import dirname
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from ._component import Component, Mode
from ._covered import with_inner
from ._edited import compiled, signature, tokens_of
from ._hashing import component_hash, content_hash
from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there
from ._record import Recorder, stat_tuple
from ._source import Source
from ._starts import Starts

if TYPE_CHECKING:
    from ._graph import Graph

__all__ = ["edits"]

# Code of the user's that reaches code objects or files in ways that nobody sees, or its own lines.
_UNSEEN = re.compile(
    rb"f_code|gi_code|cr_code|ag_code|co_consts|_getframe|currentframe|\bgc\b"
    rb"|\bposix\b|path_stats|path_mtime"
)
_PROCESSES = ("popen_fork", "popen_spawn_posix", "popen_forkserver", "popen_spawn_win32")


def edits(
    graph: Graph, recorder: Recorder, starts: Starts, executed: Iterable[str]
) -> dict[str, Any] | None:
    """The note, plain data that can be kept; None where no edit can be told from it.

    ``executed`` are files whose text counts as a whole.
    """
    sources = graph.sources.by_path
    if not starts.is_complete() or recorder.is_split or recorder.reasons or graph.compares_texts:
        return None
    if any(f"multiprocessing.{name}" in sys.modules for name in _PROCESSES):
        return None
    if any(mode != Mode() for mode, _ in graph.components()):
        return None
    if any(_UNSEEN.search(source.data) for source in sources.values()):
        return None
    reached: dict[int, list[Component]] = {}
    for _, component in graph.components():
        reached.setdefault(id(graph.payload(component.key)), []).append(component)
    read = {_identity(path) for path in (*recorder.read, *executed)}
    scanned = {_identity(path) for path in recorder.scanned}
    files: dict[str, bytes] = {}
    for path, source in sources.items():
        if not source.is_plain or _identity(path) in read or _identity(dirname(path)) in scanned:
            continue
        layout = source.layout()
        module = sys.modules.get(source.name or "")
        if layout is None or module is None or not source.is_loaded_once():
            continue
        functions: dict[int, dict[str, Any]] = {}
        for number, definition in layout.definitions.items():
            function = vars(module).get(definition[0])
            if type(function) is not FunctionType or id(function) in recorder.looked_into:
                continue
            code = function.__code__
            if code.co_firstlineno != definition[2] or not source.holds(code):
                continue
            if any(map(starts.includes, with_inner(code))):
                continue
            if graph.named(function) is None:
                continue  # elsewhere it may stand for itself instead of being referred to
            found = _function(graph, source, definition, code, reached.get(id(function), []))
            if found is not None:
                functions[number] = found
        if functions:
            file = graph.roots.relative(path)
            files[path] = marshal.dumps(
                (file, layout.lines, layout.spans, layout.prints, functions)
            )
    return {"name": content_hash(marshal.dumps(files)), "files": files}


def _identity(path: str) -> tuple[int, ...] | str:
    """What two paths of one file have in common."""
    found = stat_tuple(path)
    return path if found is None else tuple(found[3:])


def _function(
    graph: Graph,
    source: Source,
    definition: tuple[str, str, int, int, str],
    code: CodeType,
    components: list[Component],
) -> dict[str, Any] | None:
    """What to compare an edit with; None where one cannot be told."""
    name, kind, line, body, head = definition
    found: dict[str, Any] = {"kind": kind, "line": line, "body": body, "head": head}
    found.update(flags=code.co_flags, rests={}, signature=None, tokens=None)
    for component in components:
        node = component.editable
        if node is None or component.opaque or component.notes:
            return None
        bindings = source.bindings(name)
        if len(bindings) != 1 or bindings[0].node is not node or bindings[0].headers:
            return None
        found["signature"] = signature(graph.names(node, False))
        if found["signature"] is None:
            return None
        if found["tokens"] is None:
            same = compiled(node, source.path)
            file = graph.roots.relative(source.path)
            found["tokens"] = None if same is None else tokens_of(same, file)
        found["rests"][component_hash(component.digest)] = component.rest
    return found

"""What a run did beyond the fingerprint that was taken before it.

A fingerprint follows code from the stage's function; what is chosen only while it runs (a module
whose name is computed, a function found in a registry, a file that no one declared) is seen when
it happens. It joins the stage's lock under a name that says where to look again, so the next
comparison covers it:

``ran:FILE``, ``ran:FILE:FUNCTION``
    a module that was imported, a function that started: the digest of its normalized syntax;
``read:FILE``
    a file of the project that was read: the digest of its content;
``environ:NAME``
    an environment variable that was read: the digest of its value.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._hashing import component_hash, content_hash
from ._syntax import nodes_form

__all__ = ["digest", "extras"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_OURS = (".pivot/", ".git/")


def digest(name: str, root: str, environment: Mapping[str, str]) -> str | None:
    """The hash of an extra component as things are now; ``None`` if there is nothing."""
    kind, _, rest = name.partition(":")
    if kind == "environ":
        value = environment.get(rest)
        return None if value is None else component_hash(value.encode("utf-8", "surrogateescape"))
    file, _, qualname = rest.partition(":")
    try:
        with open(os.path.join(root, *file.split("/")), "rb") as opened:
            data = opened.read()
    except OSError:
        return None
    if kind != "ran":
        return component_hash(content_hash(data).encode())
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError):
        return component_hash(content_hash(data).encode())
    return component_hash(nodes_form(_definition(tree, qualname)))


def _definition(tree: ast.Module, qualname: str) -> list[ast.AST]:
    """The innermost definition on the way to ``qualname``; the whole module without any."""
    found: list[ast.AST] = list(tree.body)
    inner: Sequence[ast.AST] = tree.body
    for part in qualname.split("."):
        if part.startswith("<"):
            continue  # `<locals>`, `<lambda>`, `<genexpr>`: part of what is around it
        named = [n for n in _statements(inner) if isinstance(n, _DEFINITIONS) and n.name == part]
        if not named:
            break
        found, inner = list(named), [child for node in named for child in node.body]
    return found


def _statements(nodes: Iterable[ast.AST]) -> Iterable[ast.AST]:
    """These statements and those in blocks such as ``if`` and ``with`` around definitions."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, _DEFINITIONS):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def extras(
    observed: Mapping[str, Any],
    manifest: Iterable[Sequence[str | None]],
    artifacts: Sequence[str],
    root: str,
    environment: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The components for what was observed and is not in the manifest.

    ``manifest`` has the name and the file of each component; ``artifacts`` are the stage's
    dependencies and outputs, which are compared by themselves.
    """
    names = {str(name) for name, _ in manifest}
    known: dict[str, set[str]] = {}
    for name, file in manifest:
        if file is not None:
            known.setdefault(file, set()).add(str(name).partition(":")[2])
    found: dict[str, tuple[str | None, int | None]] = {}
    for entry in observed.get("code", ()):
        file, qualname = entry["file"], entry["name"]
        outermost = qualname.partition(".")[0]
        if _is_inside(file) and not _covers(known.get(file, ()), outermost, entry.get("module")):
            found[f"ran:{file}:{qualname}"] = (file, entry["line"])
    for file in observed.get("module_files", ()):
        if _is_inside(file) and file not in known:
            found[f"ran:{file}"] = (file, 1)
    for file in observed.get("files", ()):
        is_artifact = any(file == path or file.startswith(path + "/") for path in artifacts)
        if _is_inside(file) and not is_artifact and f"file:{file}" not in names:
            found[f"read:{file}"] = (file, None)
    for name in observed.get("environment", ()):
        if f"env:{name}" not in names:
            found[f"environ:{name}"] = (None, None)
    components = []
    for name, (file, line) in sorted(found.items()):
        value = digest(name, root, environment)
        if value is not None:
            components.append({"name": name, "hash": value, "file": file, "line": line})
    return components


def _covers(names: Iterable[str], outermost: str, module: str | None) -> bool:
    """Whether one of a file's components is the definition, or the whole module."""
    return any(
        name in (outermost, module) or name.rpartition(".")[2] == outermost
        or outermost in name.split(".")
        for name in names
    )


def _is_inside(file: str) -> bool:
    """Whether a path as reports show it lies in the project, and is the user's."""
    return not (os.path.isabs(file) or file.startswith(("../", *_OURS)) or "\n" in file)

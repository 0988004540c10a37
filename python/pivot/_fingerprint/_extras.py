"""What a run did beyond the fingerprint that was taken before it.

A fingerprint follows code from the stage's function; what is chosen only while it runs (a module
whose name is computed, a function found in a registry, a file that no one declared) is seen when
it happens. It joins the stage's lock under a name that says where to look again, so the next
comparison covers it:

``ran:FILE``, ``ran:FILE:FUNCTION``
    a module that was imported, a function that started: the digest of its normalized syntax;
``read:FILE``
    a file of the project that was read: the digest of its content;
``exists:PATH``
    a path that was asked for: what is there, ``absent`` included;
``listing:FOLDER``
    a folder that was listed: its names;
``environ:NAME``
    an environment variable that was read: the digest of its value.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from . import _covered
from ._hashing import component_hash, content_hash
from ._record import kind_of
from ._syntax import nodes_form

__all__ = ["digest", "extras"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_NOT_LISTED = frozenset({".pivot", ".git", "__pycache__"})
_OURS = (".pivot/", ".git/")


def digest(name: str, root: str, environment: Mapping[str, str]) -> str | None:
    """The hash of an extra component as things are now; ``None`` if there is nothing."""
    kind, _, rest = name.partition(":")
    if kind == "environ":
        value = environment.get(rest)
        if value is None:
            return component_hash()  # it may be set later
        return component_hash(value.encode("utf-8", "surrogateescape"))
    if kind == "exists":
        return component_hash(kind_of(os.path.join(root, rest)).encode("utf-8", "surrogatepass"))
    if kind == "listing":
        names = _names_in(os.path.join(root, rest))
        return None if names is None else component_hash(*names)
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


def _names_in(folder: str) -> list[bytes] | None:
    try:
        return sorted(os.fsencode(name) for name in os.listdir(folder) if name not in _NOT_LISTED)
    except OSError:
        return None


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
            waiting += [
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
            ]


def extras(
    observed: Mapping[str, Any],
    names: Container[str],
    covered: str,
    artifacts: Sequence[str],
    root: str,
    environment: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The components for what was observed and is not in the manifest.

    ``names`` are those of the manifest's components, ``covered`` the tokens of the code in them;
    ``artifacts`` are the stage's dependencies and outputs, which are compared by themselves.
    """
    tokens = _covered.split(covered)
    found: dict[str, tuple[str | None, int | None]] = {}
    for entry in observed.get("code", ()):
        file = entry["file"]
        if _is_inside(file) and entry["token"] not in tokens and f"file:{file}" not in names:
            found[f"ran:{file}:{entry['name']}"] = (file, entry["line"])
    for file in observed.get("module_files", ()):
        is_known = _covered.module_token(file) in tokens or f"file:{file}" in names
        if _is_inside(file) and not is_known:
            found[f"ran:{file}"] = (file, 1)
    for file in observed.get("files", ()):
        if _is_inside(file) and not _is_part(file, artifacts) and f"file:{file}" not in names:
            found[f"read:{file}"] = (file, None)
    read = {name[len("read:") :] for name in found if name.startswith("read:")}
    for name in _asked(observed, artifacts, read, root):
        found[name] = (name.partition(":")[2], None)
    for file in observed.get("scripts", ()):
        if _is_inside(file) and not _is_part(file, artifacts) and f"file:{file}" not in names:
            found[f"ran:{file}" if file.endswith(".py") else f"read:{file}"] = (file, 1)
    for name in (*observed.get("environment", ()), *observed.get("program_variables", ())):
        if f"env:{name}" not in names:
            found[f"environ:{name}"] = (None, None)
    components = []
    for name, (file, line) in sorted(found.items()):
        value = digest(name, root, environment)
        if value is not None:
            components.append({"name": name, "hash": value, "file": file, "line": line})
    return components


def _asked(
    observed: Mapping[str, Any], artifacts: Sequence[str], read: set[str], root: str
) -> Iterator[str]:
    """What was asked for without being read, unless the stage itself has changed it since."""
    for path, (how, before) in observed.get("asked", {}).items():
        is_own = _is_part(path, artifacts) or any(a.startswith(path + "/") for a in artifacts)
        now = kind_of(os.path.join(root, path))
        if not _is_inside(path) or is_own or path in read or now != before:
            continue
        is_source = path in observed.get("executed", ())
        if how == "link" and now in ("file", "dir"):
            continue  # where a path leads to was asked, and it is no link
        if now == "file" and how == "stat" and not is_source:
            yield f"read:{path}"  # its size or time
        elif not (is_source and now == "file"):
            yield f"exists:{path}"
    for folder in observed.get("listed", ()):
        if folder == "." or (_is_inside(folder) and not _is_part(folder, artifacts)):
            yield f"listing:{folder}"
    for name in observed.get("missed", ()):
        # It may come as a module or as a package.
        top = name.partition(".")[0]
        for path in (f"{top}.py", top):
            if kind_of(os.path.join(root, path)) == "absent":
                yield f"exists:{path}"
    for path in observed.get("mentions", ()):
        # A program or a library may have read what the code only names.
        is_file = kind_of(os.path.join(root, path)) == "file" and not path.endswith(".py")
        if is_file and _is_inside(path) and not _is_part(path, artifacts):
            yield f"read:{path}"


def _is_part(path: str, artifacts: Sequence[str]) -> bool:
    return any(path == artifact or path.startswith(artifact + "/") for artifact in artifacts)


def _is_inside(file: str) -> bool:
    """Whether a path as reports show it lies in the project, and is the user's."""
    if file in (".", "..", ".pivot", ".git"):
        return False
    return not (os.path.isabs(file) or file.startswith(("../", *_OURS)) or "\n" in file)

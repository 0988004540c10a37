"""Which installed packages a pipeline's modules import: what a warm worker has ready."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys

from ._loader import Sources
from ._roots import Roots
from ._source import Source, all_statements

__all__ = ["imports_ahead", "preload"]

_SETTERS = frozenset(
    [
        "putenv",
        "unsetenv",
        "addsitedir",
        "setdefault",
        "update",
        "pop",
        "clear",
        "insert",
        "append",
        "extend",
    ]
)

# Without one of these, a text cannot do what `_prepares_imports` looks for.
_WORDS = (b"environ", b"putenv", b"unsetenv", b"meta_path", b"sys", b"addsitedir", b"load_dotenv")

# They start threads when they are imported or first asked for a device: a fork would hang.
_NEVER = frozenset({"tensorflow", "jax", "jaxlib"})


def preload(sources: Sources, roots: Roots) -> list[str]:
    """What the user's modules import, in the bodies of functions as well.

    ``package.module``, or ``package.module:name`` for ``from package.module import name``, as some
    packages load their parts only when one is asked for. What is not installed and the user's own
    modules are left out.
    """
    written: dict[str, None] = {}
    for _, source in sorted(sources.by_path.items()):
        outline = source.outline
        names = imports_ahead(source) if outline is None else outline.ahead
        if names is None:
            return []
        written.update(dict.fromkeys(names))
    return [name for name in written if _is_installed(name.partition(":")[0], roots)]


def imports_ahead(source: Source) -> list[str] | None:
    """The absolute imports in a file; None where it may prepare what is imported after it."""
    written: dict[str, None] = {}
    # Imports are statements: expressions matter only where the text has a word that could.
    suspect = not source.data.isascii() or any(word in source.data for word in _WORDS)
    nodes = ast.walk(source.tree) if suspect else all_statements(source.tree)
    for node in nodes:
        if suspect and _prepares_imports(node):
            return None
        if isinstance(node, ast.Import):
            written.update((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            written.update((f"{node.module}:{alias.name}", None) for alias in node.names)
    return list(written)


def _prepares_imports(node: ast.AST) -> bool:
    """Whether this may set the environment or the path of imports.

    What is imported after it has to see it, so nothing can be imported ahead.
    """
    if isinstance(node, ast.Subscript):
        return not isinstance(node.ctx, ast.Load) and _is_setting(node.value)
    if isinstance(node, ast.Call):
        called = node.func
        if isinstance(called, ast.Attribute):
            return called.attr in _SETTERS and (
                _is_setting(called.value) or called.attr in ("putenv", "unsetenv", "addsitedir")
            )
        return isinstance(called, ast.Name) and called.id in ("putenv", "unsetenv", "load_dotenv")
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(target, ast.Attribute) and _is_setting(target) for target in targets)
    return False


def _is_setting(node: ast.AST) -> bool:
    """``os.environ``, ``environ``, ``sys.path`` or ``sys.meta_path``."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
    if name == "path":
        return isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "sys"
    return name in ("environ", "environb", "meta_path")


def _is_installed(name: str, roots: Roots) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in _NEVER or top == "pivot":
        return False
    module = sys.modules.get(top)
    if module is not None:
        return roots.module_kind(module) == "site"
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(roots.kind(os.path.join(place, "x")) == "site" for place in places)

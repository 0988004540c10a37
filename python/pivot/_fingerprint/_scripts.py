"""Files of code that a stage runs without importing them: scripts for a subprocess, ``runpy``.

Which file is started is only known at run time. A text in the stage's code that names an
existing script of the project is taken to be it, where the code can start programs at all.
"""

from __future__ import annotations

import ast
import os
import re
from typing import TYPE_CHECKING

from ._component import Component, Key
from ._hashing import component_hash, content_hash
from ._roots import Roots
from ._syntax import nodes_form

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PATH", "SCRIPT", "SEPARATORS", "Scripts", "can_start_programs"]

_SUFFIXES = (
    ".py",
    ".sh",
    ".bash",
    ".R",
    ".r",
    ".pl",
    ".rb",
    ".js",
    ".lua",
    ".awk",
    ".sed",
    ".jl",
    ".sql",
)
SEPARATORS = re.compile(r"[\s'\"=;|&<>()`$]+")
PATH = re.compile(r"[\w-][./][\w-]")
"""What a word has that may be the path of a file."""
SCRIPT = re.compile(
    r"[\w-][./][\w-]|^-m$"
    r"|\.(py|sh|bash|R|r|pl|rb|js|lua|awk|sed|jl|sql)\b|^[A-Za-z_][\w.]*(:\w+)?$|-m "
)
_STARTERS = re.compile(
    r"(subprocess|runpy|multiprocessing|pty|pexpect|sh|plumbum|invoke|asyncio)(\.|$)"
    r"|(os|posix)\.(system|popen|exec|spawn|posix_spawn)|builtins\.(exec|eval|compile)$"
)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


def can_start_programs(component: Component) -> bool:
    """Whether the code of this component may start a script."""
    return component.runs_programs or any(map(_STARTERS.match, component.libraries))


class Scripts:
    """Finds and digests scripts."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.files: set[str] = set()
        """All files that were read, for the witness."""
        self.absent: set[str] = set()
        """Places where a script may appear."""
        self._known: dict[str, tuple[str, list[str]] | None] = {}

    def named_in(self, components: Iterable[Component]) -> list[Key]:
        """The scripts that texts in these components name, with what they import."""
        found: dict[str, None] = {}
        texts = [text for component in components for text in component.strings]
        by_module = any(text == "-m" or "-m " in text for text in texts)
        for text in texts:
            for word in SEPARATORS.split(text):
                path = self._script(word, by_module)
                if path is not None:
                    found[path] = None
        return [Key("file", "", self.roots.relative(path)) for path in sorted(found)]

    def digest_of(self, key: Key) -> str:
        """The hash of a script's component."""
        return self.digest(os.path.join(self.roots.root, *key.name.split("/")))[0]

    def imported_by(self, key: Key) -> list[Key]:
        """The user's files that a script imports, as components."""
        path = os.path.join(self.roots.root, *key.name.split("/"))
        return [Key("file", "", self.roots.relative(inner)) for inner in self.digest(path)[1]]

    def digest(self, path: str) -> tuple[str, list[str]]:
        """A script's hash, and the user's files that it imports."""
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._read(path)
        return known

    def _script(self, word: str, by_module: bool) -> str | None:
        if word.endswith(_SUFFIXES):
            path = os.path.normpath(os.path.join(self.roots.root, word))
            if not self.roots.is_user(path):
                return None
            if os.path.isfile(path):
                return path
            self.absent.add(path)
        elif by_module and _MODULE.match(word):
            return self._module(word, self.roots.root)
        return None

    def _module(self, name: str, *folders: str) -> str | None:
        for folder in (*folders, *self.roots.user_path()):
            base = os.path.join(folder, *name.split("."))
            for path in (
                os.path.join(base, "__main__.py"),
                os.path.join(base, "__init__.py"),
                base + ".py",
            ):
                if os.path.isfile(path) and self.roots.is_user(path):
                    return path
        return None

    def _read(self, path: str) -> tuple[str, list[str]]:
        self.files.add(path)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            return component_hash(b"unreadable"), []
        if not path.endswith(".py"):
            return component_hash(content_hash(data).encode()), []
        try:
            tree = ast.parse(data)
        except (SyntaxError, ValueError, RecursionError):
            return component_hash(content_hash(data).encode()), []
        imported: dict[str, None] = {}
        folder = os.path.dirname(path)
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                names = [base] if base else []
                names += [f"{base}.{a.name}".lstrip(".") for a in node.names if a.name != "*"]
            above = folder
            for _ in range(getattr(node, "level", 0) - 1):
                above = os.path.dirname(above)
            for name in names:
                parts = name.split(".")
                for end in range(1, len(parts) + 1):
                    inner = self._module(".".join(parts[:end]), above)
                    if inner is not None and inner != path:
                        imported[inner] = None
        return component_hash(nodes_form(list(tree.body))), list(imported)

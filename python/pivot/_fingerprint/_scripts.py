"""Files of code that a stage runs without importing them: scripts for a subprocess, ``runpy``.

Which file is started is only known at run time. A text in the stage's code that names an
existing script of the project is taken to be it, where the code can start programs at all.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
from typing import TYPE_CHECKING

from ._component import Component, Key
from ._hashing import component_hash, content_hash
from ._roots import Roots
from ._syntax import nodes_form

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "PATH",
    "SCRIPT",
    "SEPARATORS",
    "Scripts",
    "can_start_programs",
    "environment_in",
    "imports_in",
    "variables_of",
]

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
    r"[\w-][./][\w-]|^-[mc]$|\$\{?[A-Za-z_]|\bimport "
    r"|\.(py|sh|bash|R|r|pl|rb|js|lua|awk|sed|jl|sql)\b|^[A-Za-z_][\w.]*(:\w+)?$|-m "
)
_STARTERS = re.compile(
    r"(subprocess|runpy|multiprocessing|concurrent|pty|pexpect|sh|plumbum|invoke|asyncio)(\.|$)"
    r"|(os|posix)\.(system|popen|exec|spawn|posix_spawn)|builtins\.(exec|eval|compile)$"
)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


_starts: dict[str, bool] = {}


def can_start_programs(component: Component) -> bool:
    """Whether the code of this component may start a script."""
    if component.runs_programs:
        return True
    for dotted in component.libraries:
        starts = _starts.get(dotted)
        if starts is None:
            starts = _starts[dotted] = _STARTERS.match(dotted) is not None
        if starts:
            return True
    return False


_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")
# The shell makes these itself, or they say nothing about the result.
_OWN_VARIABLES = frozenset(
    [
        "PWD",
        "OLDPWD",
        "SHLVL",
        "RANDOM",
        "SECONDS",
        "LINENO",
        "PPID",
        "UID",
        "EUID",
        "IFS",
        "OPTARG",
        "OPTIND",
        "BASHPID",
        "HOSTNAME",
        "PATH",
        "HOME",
        "TMPDIR",
    ]
)


class Scripts:
    """Finds and digests scripts."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.files: set[str] = set()
        """All files that were read, for the witness."""
        self.absent: set[str] = set()
        """Places where a script may appear."""
        self._known: dict[str, str] = {}
        self._imports: dict[str, list[tuple[str, int]]] = {}
        self._environment: dict[str, set[str]] = {}
        self._shell_texts: dict[str, str] = {}

    def named_in(self, components: Iterable[Component]) -> list[Key]:
        """The scripts that texts in these components name, with what they import."""
        found: dict[str, None] = {}
        texts = [text for component in components for text in component.strings]
        by_module = any(text == "-m" or "-m " in text for text in texts)
        by_text = any(text == "-c" or "-c " in text for text in texts)
        for text in texts:
            for word in SEPARATORS.split(text):
                path = self._script(word, by_module)
                if path is not None:
                    found[path] = None
        for text in texts:
            if "import" in text and by_text:
                with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                    for name, _ in imports_in(ast.parse(text)):
                        path = self._module(name, self.roots.root)
                        if path is not None:
                            found[path] = None
        keys = [Key("file", "", self.roots.relative(path)) for path in sorted(found)]
        names = {name for text in texts if "$" in text for name in variables_of(text)}
        return keys + [Key("env", "", name) for name in sorted(names)]

    def digest_of(self, key: Key) -> str:
        """The hash of a script's component."""
        return self.digest(os.path.join(self.roots.root, *key.name.split("/")))[0]

    def imported_by(self, key: Key) -> list[Key]:
        """The user's files that a script imports, as components."""
        path = os.path.join(self.roots.root, *key.name.split("/"))
        files = [Key("file", "", self.roots.relative(inner)) for inner in self.digest(path)[1]]
        return files + [Key("env", "", name) for name in sorted(self.variables(path))]

    def digest(self, path: str) -> tuple[str, list[str]]:
        """A script's hash, and the user's files that it imports."""
        return self._hash_of(path), self.imported(path, [])

    def _hash_of(self, path: str) -> str:
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

    def _read(self, path: str) -> str:
        self.files.add(path)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            return component_hash(b"unreadable")
        if not path.endswith(".py"):
            if path.endswith((".sh", ".bash")) or (data[:2] == b"#!" and b"sh" in data[:40]):
                self._shell_texts[path] = data.decode("utf-8", "replace")
            return component_hash(content_hash(data).encode())
        try:
            tree = ast.parse(data)
        except (SyntaxError, ValueError, RecursionError):
            return component_hash(content_hash(data).encode())
        self._environment[path] = environment_in(tree)
        self._imports[path] = imports_in(tree)
        return component_hash(nodes_form(list(tree.body)))

    def imported(self, path: str, search: list[str]) -> list[str]:
        """The user's files that a script imports, with folders that it is told to search."""
        self._hash_of(path)
        found: dict[str, None] = {}
        folder = os.path.dirname(path)
        for name, level in self._imports.get(path, ()):
            above = folder
            for _ in range(level - 1):
                above = os.path.dirname(above)
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                inner = self._module(".".join(parts[:end]), above, *search)
                if inner is not None and inner != path:
                    found[inner] = None
        return list(found)

    def variables(self, path: str) -> set[str]:
        """The environment variables that a script reads, as far as it names them."""
        self._hash_of(path)
        text = self._shell_texts.get(path)
        return self._environment.get(path, set()) if text is None else variables_of(text)

    def shell_text(self, path: str) -> str | None:
        """The text of a script for the shell."""
        self._hash_of(path)
        return self._shell_texts.get(path)


def variables_of(command: str) -> set[str]:
    """The environment variables that a text for the shell reads, but for those that it sets."""
    own = set(re.findall(r"(?:^|[\s;&|(])(?:export\s+|local\s+)?([A-Za-z_]\w*)=", command))
    own |= set(re.findall(r"\b(?:for|read(?:\s+-\w+)*)\s+([A-Za-z_]\w*)", command))
    # `X=$X:more` reads what it sets.
    own -= set(re.findall(r"\b([A-Za-z_]\w*)=[^\s;]*\$\{?\1\b", command))
    # Nothing is replaced between single quotes.
    text = re.sub(r"'[^']*'", "", command) if command.count('"') == 0 else command
    return set(_VARIABLE.findall(text)) - own - _OWN_VARIABLES


def environment_in(tree: ast.AST) -> set[str]:
    """The names in ``os.environ[...]``, ``environ.get(...)``, ``getenv(...)`` and the like."""
    found: set[str] = set()
    for node in ast.walk(tree):
        key: ast.AST | None = None
        if isinstance(node, ast.Subscript) and _last_name(node.value) == "environ":
            key = node.slice
        elif isinstance(node, ast.Compare) and _last_name(node.comparators[0]) == "environ":
            key = node.left
        elif isinstance(node, ast.Call) and node.args:
            called = node.func
            holder = _last_name(called.value) if isinstance(called, ast.Attribute) else None
            if _last_name(called) == "getenv" or holder == "environ":
                key = node.args[0]
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            found.add(key.value)
    return found


def imports_in(tree: ast.AST) -> list[tuple[str, int]]:
    """The modules that a text imports, each with the level of a relative import."""
    found: dict[tuple[str, int], None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(dict.fromkeys((alias.name, 0) for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [base] if base else []
            names += [f"{base}.{a.name}".lstrip(".") for a in node.names if a.name != "*"]
            found.update(dict.fromkeys((name, node.level) for name in names))
    return list(found)


def _last_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None

"""The scripts behind a shell command: ``python x.py``, ``cd lib && python -m pkg``, ``. ./l.sh``.

The shell is read for what it starts, not run: folders, search paths and variables are followed
where they are written out. What a command names in any other way is up to the user's dependencies.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from ._hashing import component_hash
from ._roots import Roots
from ._scripts import Scripts, environment_in, imports_in, variables_of

__all__ = ["Commands"]

_SEPARATORS = frozenset({"&&", "||", ";", "|", "&", "(", ")", "{", "}", "\n", ";;", "`"})
_WORDS = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "do",
        "while",
        "until",
        "!",
        "time",
        "exec",
        "command",
        "nohup",
        "fi",
        "done",
    ]
)
_WRAPPERS = frozenset(
    [
        "env",
        "nice",
        "timeout",
        "stdbuf",
        "setsid",
        "xargs",
        "ionice",
        "sudo",
        "poetry",
        "pdm",
        "uv",
        "hatch",
    ]
)
_PYTHON = re.compile(r"(.*/)?(python|pypy)[\d.]*\Z")
_SHELL = re.compile(r"(.*/)?(ba|da|z|k)?sh\Z")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)\Z", re.DOTALL)
# Options of the interpreter that take the next word.
_WITH_ARGUMENT = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_NESTED_MAX = 20


class _Place:
    """Where a shell is: its folder, and where Python looks for modules."""

    def __init__(self, folder: str, search: list[str]) -> None:
        self.folder = folder
        self.search = search


class Commands:
    """Finds the project's own files that commands execute, and what those import."""

    def __init__(self, roots: Roots) -> None:
        self.scripts = Scripts(roots)
        self._roots = roots
        self.variables: set[str] = set()
        """Environment variables that count for some command."""

    def components(self, command: str, cwd: str | None) -> list[dict[str, Any]]:
        """The files, by their syntax or content, and the environment variables that they read."""
        folder = os.path.join(self._roots.root, cwd or "")
        reached, variables = self.reached(command, folder)
        self.variables |= variables
        files = [
            _component(f"file:{name}", self.scripts.digest(path)[0], name)
            for path, name in sorted((path, self._roots.relative(path)) for path in reached)
        ]
        environment = [
            _component(
                f"env:{name}", component_hash(value.encode("utf-8", "surrogateescape")), None
            )
            for name, value in sorted((n, os.environ.get(n, "\0absent")) for n in variables)
        ]
        return files + environment

    def reached(
        self, command: str, folder: str, words: Sequence[str] = (), path: str = ""
    ) -> tuple[dict[str, None], set[str]]:
        """The project's files that a command executes, and the environment variables they read.

        Instead of a text there may be ``words``, with a ``PYTHONPATH`` of their own.
        """
        reached: dict[str, None] = {}
        variables: set[str] = set()
        search = [os.path.join(folder, entry) for entry in path.split(":") if entry]
        if words:
            self._one(list(words), _Place(folder, search), reached, variables, 1)
        else:
            self._follow(command, _Place(folder, search), reached, variables, 0)
        for file in reached:
            variables |= self.scripts.variables(file)
        return reached, variables

    def _follow(
        self,
        command: str,
        place: _Place,
        reached: dict[str, None],
        variables: set[str],
        depth: int,
    ) -> None:
        if depth > _NESTED_MAX:
            return
        if depth:
            variables |= variables_of(command)  # those of the command itself are known already
        outer: list[_Place] = []
        for part in _parts(_words(command)):
            if part == ["("]:
                outer.append(_Place(place.folder, list(place.search)))
            elif part == [")"]:
                place = outer.pop() if outer else place
            else:
                self._one(part, place, reached, variables, depth)

    def _one(
        self,
        words: list[str],
        place: _Place,
        reached: dict[str, None],
        variables: set[str],
        depth: int,
    ) -> None:
        """One command with its words."""
        search = place.search
        for text in words:
            # `$(…)` and backquotes within a word that is quoted.
            for inner in re.findall(r"\$\(([^()]*)\)|`([^`]*)`", text):
                self._follow("".join(inner), _copy(place), reached, variables, depth + 1)
        while words and (words[0] in _WORDS or _ASSIGNMENT.match(words[0]) or words[0] == "export"):
            match = _ASSIGNMENT.match(words[0])
            is_kept = words[0] == "export" or len(words) == 1
            if match and match[1] == "PYTHONPATH":
                search = [
                    os.path.join(place.folder, e) for e in match[2].split(":") if e[:1] != "$"
                ]
                place.search = search if is_kept or words[0] == words[-1] else place.search
            if words[0] == "export":
                for text in words[1:]:
                    found = _ASSIGNMENT.match(text)
                    if found and found[1] == "PYTHONPATH":
                        entries = [e for e in found[2].split(":") if e[:1] != "$"]
                        place.search = [os.path.join(place.folder, e) for e in entries]
                return
            words = words[1:]
        if not words:
            return
        program = words[0]
        if program in ("cd", "pushd"):
            targets = [word for word in words[1:] if not word.startswith("-")]
            if targets:
                place.folder = os.path.normpath(os.path.join(place.folder, targets[0]))
        elif program in (".", "source"):
            for word in words[1:2]:
                self._shell_file(word, place, reached, variables, depth)
        elif program == "eval":
            self._follow(" ".join(words[1:]), place, reached, variables, depth + 1)
        elif _PYTHON.match(program):
            self._python(words[1:], _Place(place.folder, search), reached, variables)
        elif _SHELL.match(program):
            self._shell(words[1:], _Place(place.folder, search), reached, variables, depth)
        else:
            path = os.path.normpath(os.path.join(place.folder, program))
            if "/" in program and self._is_ours(path):
                self._add(path, _Place(place.folder, search), reached, variables, depth)
            for number, word in enumerate(words[1:], 1):
                # Another program that is told to run Python, a shell or a file of the project.
                is_program = _PYTHON.match(word) or (_SHELL.match(word) and "." not in word)
                if is_program and program in _WRAPPERS:
                    rest = [w for w in words[1:number] if _ASSIGNMENT.match(w)] + words[number:]
                    inner = _Place(place.folder, search)
                    self._one(rest, inner, reached, variables, depth + 1)
                    break
                path = os.path.normpath(os.path.join(place.folder, word))
                if word.endswith((".py", ".sh")) and self._is_ours(path):
                    self._add(path, _Place(place.folder, search), reached, variables, depth)

    def _python(
        self, words: list[str], place: _Place, reached: dict[str, None], variables: set[str]
    ) -> None:
        skip = False
        for number, word in enumerate(words):
            if skip:
                skip = False
            elif word == "-m" and number + 1 < len(words):
                for path in self._module(words[number + 1], [place.folder, *place.search]):
                    self._add(path, _Place(place.folder, [place.folder, *place.search]), reached)
                return
            elif word == "-c" and number + 1 < len(words):
                self._text(words[number + 1], place, reached, variables)
                return
            elif word in _WITH_ARGUMENT:
                skip = True
            elif not word.startswith("-"):
                path = os.path.normpath(os.path.join(place.folder, word))
                inner = os.path.join(path, "__main__.py")
                path = inner if os.path.isfile(inner) else path
                if self._is_ours(path):
                    self._add(path, place, reached)
                else:
                    self.scripts.absent.add(path)
                return

    def _text(
        self, text: str, place: _Place, reached: dict[str, None], variables: set[str]
    ) -> None:
        """What ``python -c`` runs: the text is part of the command."""
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        variables |= environment_in(tree)
        for name, _ in imports_in(tree):
            for path in self._module(name, [place.folder, *place.search]):
                self._add(path, _Place(place.folder, [place.folder, *place.search]), reached)

    def _shell(
        self,
        words: list[str],
        place: _Place,
        reached: dict[str, None],
        variables: set[str],
        depth: int,
    ) -> None:
        for number, word in enumerate(words):
            if word.startswith("-") and not word.startswith("--") and "c" in word:
                if number + 1 < len(words):
                    self._follow(words[number + 1], place, reached, variables, depth + 1)
                return
            if not word.startswith("-"):
                self._shell_file(word, place, reached, variables, depth)
                return

    def _shell_file(
        self,
        word: str,
        place: _Place,
        reached: dict[str, None],
        variables: set[str],
        depth: int,
    ) -> None:
        path = os.path.normpath(os.path.join(place.folder, word))
        if self._is_ours(path):
            self._add(path, place, reached, variables, depth)
        else:
            self.scripts.absent.add(path)

    def _add(
        self,
        path: str,
        place: _Place,
        reached: dict[str, None],
        variables: set[str] | None = None,
        depth: int = 0,
    ) -> None:
        """A file that is executed, and what it executes or imports in turn."""
        waiting = [path]
        while waiting:
            item = waiting.pop()
            if item in reached:
                continue
            reached[item] = None
            waiting += self.scripts.imported(item, place.search)
        text = self.scripts.shell_text(path)
        if text is not None and variables is not None:
            self._follow(text, place, reached, variables, depth + 1)

    def _is_ours(self, path: str) -> bool:
        return os.path.isfile(path) and self._roots.is_user(path)

    def _module(self, name: str, folders: list[str]) -> list[str]:
        found: list[str] = []
        parts = name.split(".")
        for folder in folders:
            for end in range(1, len(parts) + 1):
                base = os.path.join(folder, *parts[:end])
                candidates = [
                    os.path.join(base, "__main__.py"),
                    os.path.join(base, "__init__.py"),
                    base + ".py",
                ]
                # A package's own code runs before its `__main__`.
                here = [path for path in candidates if self._is_ours(path)]
                self.scripts.absent.update(path for path in candidates if path not in here)
                found += here
            if found:
                break
        return found


def _copy(place: _Place) -> _Place:
    return _Place(place.folder, list(place.search))


def _parts(words: list[str]) -> Iterator[list[str]]:
    """The words of each command; parentheses stand alone."""
    part: list[str] = []
    for word in words:
        if word in _SEPARATORS or set(word) <= set("();&|<>"):
            if part:
                yield part
            part = []
            for letter in word:
                if letter in "()":
                    yield [letter]
        else:
            part.append(word)
    if part:
        yield part


def _words(command: str) -> list[str]:
    text = command.replace("\\\n", " ").replace("\n", " ; ").replace("$(", " ( ")
    if text.count("`") % 2 == 0 and '"' not in text:
        text = text.replace("`", " ; ")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:  # quotes that do not match: the shell will complain as well
        return command.split()


def _component(name: str, digest: str, file: str | None) -> dict[str, Any]:
    return {"name": name, "hash": digest, "file": file, "line": None if file is None else 1}

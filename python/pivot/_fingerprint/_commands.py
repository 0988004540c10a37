"""The scripts behind a shell command: ``python x.py``, ``python -m pkg``, ``./tool.sh``."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from ._roots import Roots
from ._scripts import Scripts

__all__ = ["Commands"]

_SEPARATORS = frozenset({"&&", "||", ";", "|", "&", "(", ")", "{", "}"})
_PYTHON = re.compile(r"(.*/)?python[\d.]*\Z")


class Commands:
    """Finds the project's own files that commands execute, and what those import."""

    def __init__(self, roots: Roots) -> None:
        self.scripts = Scripts(roots)
        self._roots = roots

    def components(self, command: str, cwd: str | None) -> list[dict[str, Any]]:
        """One component for each file: its syntax, or its content if it is not Python."""
        folder = os.path.join(self._roots.root, cwd or "")
        waiting = self._started(command, folder)
        reached: dict[str, None] = {}
        while waiting:
            path = waiting.pop()
            if path not in reached:
                reached[path] = None
                waiting += self.scripts.digest(path)[1]
        return [
            {
                "name": f"file:{self._roots.relative(path)}",
                "hash": self.scripts.digest(path)[0],
                "file": self._roots.relative(path),
                "line": 1,
            }
            for path in sorted(reached)
        ]

    def _started(self, command: str, folder: str) -> list[str]:
        found = []
        words = _words(command)
        is_first, is_python, is_module = True, False, False
        for word in words:
            if word in _SEPARATORS or word == "\n":
                is_first, is_python, is_module = True, False, False
            elif is_first and re.match(r"[A-Za-z_]\w*=", word):
                continue  # a variable for the command
            elif _PYTHON.match(word):
                is_first, is_python = False, True
            elif is_python and is_module:
                found += self._module(word, folder)
                is_python = is_module = False
            elif is_python and word.startswith("-"):
                is_module = word == "-m"
            else:
                # A script, or a file of the project that another program is told to run.
                path = os.path.normpath(os.path.join(folder, word))
                is_script = is_first or is_python or path.endswith((".py", ".sh"))
                if is_script and os.path.isfile(path) and self._roots.is_user(path):
                    found.append(path)
                is_first = is_python = False
        return found

    def _module(self, name: str, folder: str) -> list[str]:
        base = os.path.join(folder, *name.split("."))
        candidates = [
            os.path.join(base, "__main__.py"),
            os.path.join(base, "__init__.py"),
            base + ".py",
        ]
        # A package's own code runs before its `__main__`.
        found = [path for path in candidates if os.path.isfile(path) and self._roots.is_user(path)]
        self.scripts.absent.update(path for path in candidates if path not in found)
        return found


def _words(command: str) -> list[str]:
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:  # quotes that do not match: the shell will complain as well
        return command.split()

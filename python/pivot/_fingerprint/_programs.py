"""What the programs that a stage started have read: known by their words, not by watching them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ._commands import Commands
from ._record import Program
from ._roots import Roots
from ._scripts import SEPARATORS

__all__ = ["started"]


def started(programs: Iterable[Program], roots: Roots) -> dict[str, Any]:
    """What counts for a stage because of the programs that it started.

    ``scripts``
        The project's files that they executed, and what those import and start in turn.
    ``program_files``
        Other files that their words name.
    ``program_variables``
        Environment variables that the scripts read.
    """
    commands = Commands(roots)
    scripts: dict[str, None] = {}
    files: dict[str, None] = {}
    variables: set[str] = set()
    for program in programs:
        reached, names = commands.reached(
            program.command or "", program.folder, program.words, program.search
        )
        scripts.update(reached)
        variables |= names
        for word in [program.command or "", *program.words]:
            for part in {word, *SEPARATORS.split(word)}:
                path = os.path.normpath(os.path.join(program.folder, part))
                if part and len(path) < 4096 and "\0" not in path and os.path.isfile(path):
                    files[path] = None
    return {
        "scripts": list(scripts),
        "program_files": [path for path in files if path not in scripts],
        "program_variables": sorted(variables),
    }

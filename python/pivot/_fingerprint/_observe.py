"""What really ran: the code that started during a stage, beside what the recorder notes.

``sys.monitoring`` (Python 3.12) reports each code object once and is then switched off for it,
which costs nothing measurable. Before 3.12 there is only ``sys.setprofile``, which makes calls
several times slower, and in 3.11 a counter (`_starts`) that goes on from the import; so the code
that started in the stage is not known there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Container
from types import CodeType, FunctionType, ModuleType
from typing import Any

from . import _covered
from ._arrivals import Arrivals
from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there
from ._record import Recorder
from ._roots import Roots
from ._starts import report_starts

__all__ = ["Observer"]

# How far a lambda is looked for in tables and closures.
_HELD_MAX = 1_000
_DEPTH_MAX = 4


class Observer:
    """Notes user code that starts, and tells what a run did."""

    def __init__(self, roots: Roots, recorder: Recorder, sources: Container[str]) -> None:
        self.roots = roots
        self.sources = sources
        """The files of user modules: they are reported as modules."""
        self.recorder = recorder
        self.codes: list[CodeType] = []
        self._tool: int | None = None
        self._arrivals = self._later = Arrivals()

    def begin(self) -> None:
        """Start to watch."""
        self._later = self._arrivals.since()
        if self._tool is not None:
            # Code that ran during the import is reported again when it runs in the stage.
            self.codes.clear()
            sys.monitoring.restart_events()  # type: ignore[attr-defined]
            return
        self._tool = report_starts(self._started)

    def _started(self, code: CodeType) -> None:
        if not self.roots.is_user(code.co_filename):
            return
        self.codes.append(code)
        if self.recorder.children.is_child():  # there the list is a copy
            name: str = code.co_qualname  # type: ignore[attr-defined]
            told = {
                "file": self.roots.relative(code.co_filename),
                "name": name,
                "line": code.co_firstlineno,
                "token": _covered.token(code, self.roots.relative),
            }
            self.recorder.children.tell("code", name, told)

    def end(self) -> None:
        """Stop watching."""
        if self._tool is not None:
            sys.monitoring.set_events(self._tool, 0)  # type: ignore[attr-defined]
            sys.monitoring.free_tool_id(self._tool)  # type: ignore[attr-defined]
            self._tool = None

    def observed(self) -> dict[str, Any]:
        """What the run did, as JSON.

        ``complete``
            Whether the code that started is known (Python 3.12 and later).
        ``code``
            ``{file, module, name, line, token}`` of each function of the user that started;
            ``file`` is project-relative, ``token`` as in `_covered`. A lambda of the top level
            has the name that its module binds it, or the table that holds it, to.
        ``modules``, ``packages``
            User modules, and top-level names of other modules, that the run imported.
        ``files``
            Files that were opened for reading, project-relative where they lie in the project.
            Installed packages, the standard library and what the run itself wrote are left out.
        ``asked``
            Path -> how it was asked for (`_record`) and what was there, for what user code tried
            to open, listed or only asked for.
        ``listed``, ``missed``
            Folders that were listed; names of modules that user code looked for in vain.
        ``user_read``
            Files that were opened for the user's code, and not to load code.
        ``environment``, ``library_environment``
            Environment variables read by the user's code, and by libraries on its behalf.
        ``environment_all``
            Whether the user's code listed the whole environment.
        """
        names = self._names_of_files()
        code: list[dict[str, Any]] = []
        for item in self.codes:
            name = getattr(item, "co_qualname", item.co_name)
            if item.co_name == "<module>":
                continue
            if name.startswith("<"):
                # A lambda at the top level goes by the name that leads to it.
                module = sys.modules.get(names.get(item.co_filename, ""))
                name = _binding(module, item) or name
            code.append(
                {
                    "file": self.roots.relative(item.co_filename),
                    "module": names.get(item.co_filename),
                    "name": name,
                    "line": item.co_firstlineno,
                    "token": _covered.token(item, self.roots.relative),
                }
            )
        recorder = self.recorder
        recorder.merge_children()
        code += [told for told in recorder.child_codes if told["name"] != "<module>"]
        code.sort(key=lambda entry: (entry["file"], entry["line"], entry["name"]))
        modules, packages = [], set()
        for name in sorted(self._later.names()):
            module = sys.modules.get(name)
            kind = self.roots.module_kind(module) if module is not None else "none"
            if kind == "user":
                modules.append(name)
            elif kind == "site":
                packages.add(name.partition(".")[0])
        files = sorted(
            {
                self._shown(path)
                for path, before in recorder.opened.items()
                if path not in recorder.written
                and (path not in self.sources or path in recorder.read)
                and before is not None
            }
        )
        asked = {
            self.roots.relative(path): (recorder.checked.get(path, "kind"), before)
            for path, before in recorder.kinds.items()
            if path not in recorder.written and path.startswith(self.roots.root + os.sep)
        }
        missed = sorted(name for name in recorder.missed if name not in sys.modules)
        return {
            "complete": self._tool is not None,
            "code": code,
            "modules": modules,
            "asked": asked,
            "user_read": sorted(map(self._shown, recorder.read)),
            "listed": sorted(map(self._shown, recorder.listed)),
            "missed": missed,
            "packages": sorted(packages),
            "files": files,
            "environment": sorted(name for name, own in recorder.names.items() if own),
            "library_environment": sorted(name for name, own in recorder.names.items() if not own),
            "environment_all": recorder.all_names,
        }

    def _names_of_files(self) -> dict[str, str]:
        """The modules that the code that started belongs to, by their files."""
        wanted = {code.co_filename for code in self.codes}
        # The user's came since, but for those that Python itself imports at its start.
        for names in (self._arrivals.names(), sys.modules):
            files = ((getattr(sys.modules.get(n), "__file__", None), n) for n in list(names))
            found = {file: n for file, n in files if isinstance(file, str) and file in wanted}
            if len(found) == len(wanted):
                break
        return found

    def _shown(self, path: str) -> str:
        inside = path.startswith(self.roots.root + os.sep)
        return self.roots.relative(path) if inside else path


def _binding(module: ModuleType | None, code: CodeType) -> str | None:
    """The name in a module that leads to a function of this code, by itself or in containers."""
    for bound, value in list(vars(module).items()) if module is not None else ():
        pending: list[tuple[Any, int]] = [(value, 0)]
        for _ in range(_HELD_MAX):
            if not pending:
                break
            item, depth = pending.pop()
            kind = type(item)
            inner: list[Any] = []
            if kind is FunctionType:
                if item.__code__ is code or code in item.__code__.co_consts:
                    return bound
                inner = [*(item.__defaults__ or ()), getattr(item, "__wrapped__", None)]
                for cell in item.__closure__ or ():
                    with contextlib.suppress(ValueError):
                        inner.append(cell.cell_contents)
            elif kind is dict:
                inner = list(item.values())
            elif kind in (list, tuple, set, frozenset):
                inner = list(item)
            elif kind is functools.partial:
                inner = [item.func, *item.args, *item.keywords.values()]
            if depth < _DEPTH_MAX:
                pending += [(one, depth + 1) for one in inner[:_HELD_MAX]]
    return None

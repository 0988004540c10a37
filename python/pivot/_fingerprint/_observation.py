"""The session that runs one stage and tells what it did beyond its fingerprint."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from ._extras import extras
from ._observe import Observer
from ._packages import Packages
from ._programs import started
from ._record import Recorder, stat_tuple
from ._session import Session

__all__ = ["Observation"]


class Observation(Session):
    """Notes which code of the user's started in a run, and what it read."""

    def __init__(
        self, root: str, extra_roots: list[str] | None = None, compiled: str | None = None
    ) -> None:
        super().__init__(root, extra_roots, compiled)
        self._packages = Packages(self.roots)
        self._observer = Observer(self.roots, self._recorder, self._sources.by_path)

    def start(self) -> None:
        """Begin recording in this process."""
        self._observer.begin()
        super().start()

    def stop_recording(self) -> None:
        """The pipeline's import has ended: from here on only what the stage does is noted."""
        super().stop_recording()
        self._recorder = self._observer.recorder = Recorder(self.roots)
        self._recorder.children.begin()
        self._recorder.begin()
        self._observer.begin()

    def observed(self) -> dict[str, Any]:
        """What a run did; `_observe.Observer.observed` describes the fields."""
        with self._pristine.restored():
            self._recorder.end()
            found = self._observer.observed()
            self._observer.end()
        return found

    def end(self) -> None:
        """Take back all that this session has changed in the interpreter, for the next one."""
        self._recorder.end()
        self._recorder.children.end()
        self._observer.end()
        self._sources.uninstall()

    def is_user(self, module: ModuleType) -> bool:
        """Whether a module is the user's."""
        return self.roots.module_kind(module) == "user"

    def is_installed(self, name: str) -> bool:
        """Whether an imported module belongs to an installed package."""
        module = sys.modules.get(name)
        return module is not None and self.roots.module_kind(module) == "site"

    def package_of(self, name: str) -> str | None:
        """The name of the installed package that a module belongs to, imported or not."""
        plain, owners = self._packages.of_module(name)
        return plain or (owners[0].name if owners else None)

    def extras(
        self,
        manifest: list[list[str | None]],
        covered: str,
        artifacts: list[str],
        mentions: list[str],
        folder: str,
    ) -> list[dict[str, Any]]:
        """Components for what the run did beyond its manifest; see `_extras`.

        ``mentions`` are texts of the code that may name files, as seen from ``folder``.
        """
        observed = self.observed()
        files = (getattr(sys.modules.get(m), "__file__", None) for m in observed.get("modules", ()))
        observed["module_files"] = [self.roots.relative(file) for file in files if file]
        executed = self.sources()  # reading them to run them is not reading
        read = observed.get("user_read", ())
        observed["files"] = [f for f in observed.get("files", ()) if f not in executed or f in read]
        observed["executed"] = executed
        with self._pristine.restored():
            observed.update(started(self._recorder.programs, self.roots))
        folder = os.path.join(self.roots.root, folder)
        named = [os.path.join(folder, text) for text in mentions]
        observed["mentions"] = self._unchanged([*named, *observed["program_files"]])
        observed["scripts"] = self._unchanged(observed["scripts"])
        with self._pristine.restored():
            return extras(
                observed,
                {str(name) for name, _ in manifest},
                covered,
                artifacts,
                self.roots.root,
                self._began.environment if self._began else {},
            )

    def _unchanged(self, paths: Iterable[str]) -> list[str]:
        """Those files of the project that nothing has changed since the start."""
        found = []
        began = self._began.time_ns if self._began else 0
        for path in map(os.path.normpath, paths):
            before = stat_tuple(path)
            is_inside = path.startswith(self.roots.root + os.sep)
            if before is None or not is_inside or before[0] >= began:
                continue
            if path not in self._recorder.written:
                found.append(self.roots.relative(path))
        return found

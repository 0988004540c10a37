"""The session that imports a pipeline and tells what the code of each stage is."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator
from typing import Any

from ._commands import Commands
from ._edits import edits
from ._graph import Graph
from ._manifest import Fingerprint, Manifests
from ._packages import Packages
from ._preload import preload
from ._record import stat_tuple
from ._session import Session
from ._starts import Starts
from ._witness import Began, witness

__all__ = ["Inspection"]


class Inspection(Session):
    """Fingerprints of a pipeline's stages, and the witness of its import.

    ``packages`` says how much of an installed package's version counts: see `_packages`.
    """

    def __init__(
        self,
        root: str,
        extra_roots: list[str] | None = None,
        compiled: str | None = None,
        *,
        packages: str = "exact",
    ) -> None:
        super().__init__(root, extra_roots, compiled)
        self._starts = None if compiled is None else Starts()
        self._packages = Packages(self.roots)
        self._packages_setting = packages
        self._manifests: Manifests | None = None
        self._commands = Commands(self.roots)
        self._patched: dict[tuple[str, str], Any] | None = None
        self._loads = 0
        self._whole: set[str] = set()

    def start(self) -> None:
        """Begin recording in this process."""
        if self._starts is not None:
            self._starts.begin()
        super().start()

    @contextlib.contextmanager
    def undisturbed(self) -> Generator[None, None, None]:
        """For many fingerprints with none of the user's code between them, which saves time."""
        with self._pristine.restored() as patched:
            self._patched, self._loads = patched, self._sources.loads
            try:
                yield
            finally:
                self._patched = None

    def fingerprint(
        self, function: Any, stage_name: str, params_model: type | None = None
    ) -> Fingerprint:
        """What a stage's code is."""
        del stage_name  # the same function has the same code under any name
        if self._patched is not None and self._loads != self._sources.loads:
            # Modules that were imported for the stage before may have replaced something.
            self._loads = self._sources.loads
            self._pristine.again()
        with self._pristine.restored() as patched:
            patched = patched if self._patched is None else self._patched
            if self._manifests is None:
                # Syntax trees are many objects and no garbage: collecting would only walk them.
                gc.disable()
                graph = Graph(self.roots, self._sources, self._packages)
                graph.importing = self._importing
                graph.looked_up = self._recorder.lookup
                graph.listed = self._recorder.count_listing
                graph.reads_in = self._recorder.reads_in
                graph.patched = patched
                graph.freeze_user_modules()
                self._manifests = Manifests(graph, self._packages_setting)
            return self._manifests.of_stage(function, params_model)

    def count_whole(self, path: str) -> None:
        """All bytes of this file are part of a fingerprint."""
        self._whole.add(path)

    def witness(self) -> dict[str, Any]:
        """What the import read and looked for; `_witness.witness` describes the fields."""
        if self._began is None:
            raise RuntimeError("the session was not started")
        with self._pristine.restored():
            gc.freeze()  # what there is now stays, and is not walked
            gc.enable()
            return self._witness(self._began)

    def _witness(self, began: Began) -> dict[str, Any]:
        recording, self._recorder.on = self._recorder.on, False
        names = set(self._commands.variables)
        if self._manifests is not None:
            names |= self._manifests.environment_names()
            for path in self._manifests.scripts.files:
                self._recorder.opened.setdefault(path, stat_tuple(path))
            for path in self._manifests.scripts.absent:
                self._recorder.checked.setdefault(path, "kind")
        for path in self._commands.scripts.files:
            self._recorder.opened.setdefault(path, stat_tuple(path))
        for path in self._commands.scripts.absent:
            self._recorder.checked.setdefault(path, "kind")
        found = witness(began, self.roots, self._sources, self._recorder, self._packages, names)
        self._recorder.on = recording
        return found

    def command(self, text: str, cwd: str | None) -> list[dict[str, Any]]:
        """The components of a shell command: the scripts of the project that it executes."""
        with self._pristine.restored():
            return self._commands.components(text, cwd)

    def preload(self) -> list[str]:
        """The installed modules that a process for this pipeline's stages may import ahead."""
        with self._pristine.restored():
            return preload(self._sources, self.roots)

    def keep_compiled(self) -> None:
        """Keep what was compiled for the processes that come after; nothing is recorded then."""
        self._recorder.on = False
        with self._pristine.restored():
            self._sources.keep()

    def keep_edits(self) -> str | None:
        """Keep what decides whether an edit can be told without importing anything; its name."""
        compiled = self._sources.compiled
        if self._starts is None or self._manifests is None or compiled is None:
            return None
        with self._pristine.restored():
            manifests = self._manifests
            executed = {*manifests.scripts.files, *self._commands.scripts.files, *self._whole}
            found = edits(manifests.graph, self._recorder, self._starts, executed)
            if found is None:
                return None
            compiled.keep_note(self.roots.root, found)
            return found["name"]

    @contextlib.contextmanager
    def _importing(self) -> Generator[None, None, None]:
        """Record what is imported on behalf of code that will import it later."""
        self._loads = -1  # whatever it replaces is put back before the next fingerprint
        if self._recorder.on:
            yield
            return
        self._recorder.begin()
        try:
            yield
        finally:
            self._recorder.end()

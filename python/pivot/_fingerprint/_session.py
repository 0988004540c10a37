"""What the helper's main module calls: one session for one project."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Generator, Iterable
from types import ModuleType
from typing import Any

from ._commands import Commands
from ._compiled import Compiled
from ._edits import Watch, edits
from ._extras import extras
from ._graph import Graph
from ._loader import Sources
from ._manifest import Fingerprint, Manifests
from ._observe import Observer
from ._packages import Packages
from ._preload import preload
from ._pristine import Pristine
from ._programs import started
from ._record import Recorder, stat_tuple
from ._roots import Roots
from ._witness import Began, witness

__all__ = ["Session"]


class Session:
    """Loads a pipeline's modules, and tells what each stage's code is.

    Start it before any module of the user is imported. With ``observe`` it serves a run instead:
    it notes which code started and what was read. ``compiled`` is a folder of this user's for what
    was compiled; see `_compiled`.
    """

    def __init__(
        self,
        root: str,
        extra_roots: list[str] | None = None,
        *,
        observe: bool = False,
        packages: str = "exact",
        compiled: str | None = None,
    ) -> None:
        self.roots = Roots(root, extra_roots)
        self._sources = Sources(self.roots, None if compiled is None else Compiled(compiled))
        self._recorder = Recorder(self.roots)
        self._observer = (
            Observer(self.roots, self._recorder, self._sources.by_path) if observe else None
        )
        self._watch = Watch() if compiled is not None and not observe else None
        self._packages = Packages(self.roots)
        self._packages_setting = packages
        self._manifests: Manifests | None = None
        self._commands = Commands(self.roots)
        self._began: Began | None = None
        self._pristine = Pristine()
        self._patched: dict[tuple[str, str], Any] | None = None
        self._loads = 0

    def start(self) -> None:
        """Install the loader and begin recording."""
        self._began = Began(time.time_ns())
        self._sources.install()
        if self._watch is not None:
            self._watch.begin()
        if self._observer is not None:
            self._observer.begin()
        self._recorder.begin()

    def load_file(self, path: str) -> ModuleType:
        """Execute a pipeline file as a module named like it, with an entry in ``sys.modules``."""
        path = os.path.abspath(path)
        name = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot load `{path}` as a Python module", path=path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module

    def import_module(self, name: str) -> ModuleType:
        """Import a module by name."""
        return importlib.import_module(name)

    def stop_recording(self) -> None:
        """The pipeline's import has ended.

        A session that observes goes on to the stage: from here on it notes only what the stage
        does.
        """
        self._recorder.end()
        if self._observer is not None:
            self._recorder = self._observer.recorder = Recorder(self.roots)
            self._recorder.children.begin()
            self._recorder.begin()
            self._observer.begin()

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
        if self._watch is None or self._manifests is None or compiled is None:
            return None
        with self._pristine.restored():
            manifests = self._manifests
            executed = manifests.scripts.files | self._commands.scripts.files
            found = edits(manifests.graph, self._recorder, self._watch, executed)
            if found is None:
                return None
            compiled.keep_note(self.roots.root, found)
            return found["name"]

    def sources(self) -> dict[str, str]:
        """Project-relative path -> content hash of each user file that was executed."""
        with self._pristine.restored():
            return {
                self.roots.relative(source.path): source.digest
                for source in sorted(self._sources.by_path.values(), key=lambda s: s.path)
            }

    def observed(self) -> dict[str, Any]:
        """What a run did; `_observe.Observer.observed` describes the fields."""
        if self._observer is None:
            return {}
        with self._pristine.restored():
            self._recorder.end()
            found = self._observer.observed()
            self._observer.end()
        return found

    def end(self) -> None:
        """Take back all that this session has changed in the interpreter, for the next one."""
        self._recorder.end()
        self._recorder.children.end()
        if self._observer is not None:
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

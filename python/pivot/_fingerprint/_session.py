"""A process that executes code of the user's for Pivot, and notes what that code reads meanwhile.

There are two kinds: an :class:`~._inspection.Inspection` imports a pipeline to tell what its stages
depend on, an :class:`~._observation.Observation` runs one of them. What both need is here, so that
a process that runs a stage does not load what only fingerprints need.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterable
from types import ModuleType

from ._compiled import Compiled
from ._loader import Sources
from ._pristine import Pristine
from ._record import Recorder
from ._roots import Roots
from ._witness import Began

__all__ = ["Session"]


class Session:
    """Loads the user's modules, and notes what they read.

    Make and start it before any module of the user is imported. One that was made can be started in
    each process that is forked after that, where it costs less than a new one. ``compiled`` is a
    folder of this user's for what was compiled; see `_compiled`.
    """

    def __init__(
        self, root: str, extra_roots: list[str] | None = None, compiled: str | None = None
    ) -> None:
        self.roots = Roots(root, extra_roots)
        self._sources = Sources(self.roots, None if compiled is None else Compiled(compiled))
        self._recorder = Recorder(self.roots)
        self._began: Began | None = None
        self._pristine = Pristine()

    def prepare(self, files: Iterable[str] = ()) -> Began:
        """Do what can be done before it is known which process is to be recorded.

        Nothing of the user's is executed; ``files`` are those whose compiled code is wanted soon.
        """
        self._sources.install()
        if self._sources.compiled is not None:
            self._sources.compiled.look_ahead(files)
        self.roots.sites()  # once, for all: it looks at the folders of `sys.path`
        self._began = Began()
        # Last, as nothing after it can fail: who prepares once more would wrap what is wrapped.
        self._recorder.install()
        return self._began

    def start(self) -> None:
        """Begin recording in this process."""
        began = self._began or self.prepare()
        began.time_ns = time.time_ns()
        self._recorder.children.begin_here()
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
        """The pipeline's import has ended."""
        self._recorder.end()

    def sources(self) -> dict[str, str]:
        """Project-relative path -> content hash of each user file that was executed."""
        with self._pristine.restored():
            return {
                self.roots.relative(source.path): source.digest
                for source in sorted(self._sources.by_path.values(), key=lambda s: s.path)
            }

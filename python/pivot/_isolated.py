"""Runs one stage in an interpreter besides the main one, or tells that it needs more than that.

Compiled modules have to be made for such interpreters, and most are not; forks, daemon threads and
signal handlers are refused as well. A stage that comes upon one of these is refused as a whole: it
can run in a process, with the same outcome as all other stages.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import re
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.machinery import BuiltinImporter, ExtensionFileLoader
from typing import Any

from pivot._declare import DECLARED
from pivot._fingerprint._arrivals import Arrivals
from pivot._fingerprint._observation import Observation
from pivot._main import internal_result, send_result, set_up
from pivot._processes import flush_files
from pivot._protocol import Channel, Message
from pivot._run import run_stage

_MODULE = re.compile(r"module (\S+) does not support loading in subinterpreters")
_FEATURE = re.compile(r"[^\n:]*(?:sub\)?interpreter|main interpreter)[^\n]*")
_PACKAGE = "package:"


class Refused(BaseException):
    """A module cannot be loaded here, so nothing more of the stage is to run."""


def run_isolated(descriptor: int) -> None:
    """Answers the request that comes over the descriptor; raises ``SystemExit`` if it fails."""
    channel = Channel(descriptor)
    modules: list[str] = []
    session = None
    arrivals = Arrivals()
    try:
        request = channel.receive()
        session = set_up(request)
        _note_refused(modules)
        result = run_stage(request, session, check=lambda: _probe(request, session, modules))
    except Refused:
        result = {"type": "result", "ok": False}
    except BaseException as error:
        result = internal_result(error)
    refusal = _refusal(result, modules)
    if refusal is not None:
        result = {"type": "result", "ok": False, "refusal": refusal}
    _end(session, arrivals)
    status = send_result(result, channel)
    if status:
        raise SystemExit(status)


def _note_refused(modules: list[str]) -> None:
    """From now on adds modules that cannot be loaded here, also where code does without them."""

    def noting(create: Callable[..., Any]) -> Callable[..., Any]:
        def create_module(*arguments: Any) -> Any:
            try:
                return create(*arguments)
            except ImportError as error:
                found = _MODULE.search(str(error))
                if found is not None:
                    modules.append(found[1])
                raise

        return create_module

    ExtensionFileLoader.create_module = noting(ExtensionFileLoader.create_module)
    BuiltinImporter.create_module = staticmethod(noting(BuiltinImporter.create_module))


def _probe(request: Message, session: Observation, refused: list[str]) -> None:
    """Imports what the stage's functions are going to import, if that is possible."""
    packages = {
        name.removeprefix(_PACKAGE)
        for name, _ in request.get("manifest") or ()
        if name.startswith(_PACKAGE)
    }
    for name in _of_packages(request.get("probe") or (), packages, session):
        module, _, part = name.partition(":")
        with contextlib.suppress(Exception):
            getattr(import_module(module), part or "__name__", None)
    if refused:
        raise Refused


def _of_packages(names: Iterable[str], packages: set[str], session: Observation) -> list[str]:
    return [name for name in names if session.package_of(name.partition(":")[0]) in packages]


def _refusal(result: Message, modules: list[str]) -> Message | None:
    """What the stage needs and this interpreter does not have, as far as that was seen."""
    if modules:
        return {"what": "module", "name": modules[0]}
    error = result.get("error")
    if error is not None:
        # Also where an error of the user's hides it: the traceback shows both.
        found = _FEATURE.search(f"{error.get('message')}\n{error.get('traceback')}")
        if found is not None:
            return {"what": "feature", "why": found[0].strip()}
    return None


def _end(session: Observation | None, arrivals: Arrivals) -> None:
    """Does what the end of a process does, as long as there is somebody to tell of it."""
    if session is not None:
        session.end()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    flush_files()
    with contextlib.suppress(BaseException):
        DECLARED.clear()
        for name in arrivals.names():
            sys.modules.pop(name, None)
        gc.collect()
    flush_files()

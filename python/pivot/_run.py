"""Answers ``run``: imports what a stage needs and calls its function.

:func:`run_stage` expects a process that is set up (paths, streams, session) and leaves it to the
caller to end it, so a process that forks one child a stage can use it as well.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pivot._declare import DECLARED, Declaration, want
from pivot._errors import LoadError, PivotError
from pivot._failure import cut, relative, user_error
from pivot._load import load_file, load_target
from pivot._outs import Out
from pivot._protocol import Message, from_wire
from pivot._stages import Stage

if TYPE_CHECKING:
    from pivot._fingerprint._observation import Observation

_clock = time.perf_counter
_chdir = os.chdir


def join_threads() -> None:
    """Waits for threads as the interpreter's end does, executors' idle ones included."""
    threading = sys.modules.get("threading")
    shutdown = getattr(threading, "_shutdown", None)
    if shutdown is not None:
        shutdown()


def run_stage(
    request: Message,
    session: Observation,
    join: Callable[[], None] = join_threads,
    check: Callable[[], None] = lambda: None,
) -> Message:
    """Runs one stage and returns the ``result`` frame, whatever happens.

    ``check`` is called when the stage's modules have been imported, and may raise; ``join`` waits
    for the threads that the function has left.

    A stage has ended when its function has returned and its threads, apart from daemon threads,
    have ended, as for any Python program. ``sys.exit()`` and ``sys.exit(0)`` end it well.
    """
    root: str = request["root"]
    started = _clock()
    called = started
    # After the set-up: what counts as the stage's environment is the one that all stages share.
    os.environ.update(request.get("environment") or {})
    try:
        declaration = _declaration(request, session, root)
        deps, outs = _paths(request)
        arguments, named = Stage(declaration).arguments(
            from_wire(request.get("params") or {}), deps, outs
        )
        _chdir(os.path.join(root, request.get("cwd") or ""))
        check()
        session.stop_recording()
        called = _clock()
        try:
            _call(declaration.function, arguments, named)
        except SystemExit as error:
            if error.code not in (None, 0):
                raise
        join()
    except SystemExit as error:
        return _failed(_exit_error(error, root), started, called)
    except PivotError as error:
        return _failed(_declaration_error(error, root), started, called)
    except BaseException as error:
        return _failed(user_error(error, root), started, called)
    ended = _clock()
    flush_streams()
    return {
        "type": "result",
        "ok": True,
        **_times(started, called, ended),
        "sources": session.sources(),
        "extras": session.extras(
            request.get("manifest") or [],
            request.get("covered") or "",
            _artifacts(request),
            request.get("mentions") or [],
            request.get("cwd") or "",
        ),
    }


def flush_streams() -> None:
    """Writes out what was printed; a stage may have replaced or closed its streams."""
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        stream = getattr(sys, name, None)
        try:
            if stream is not None:
                stream.flush()
        except Exception:
            # Python would end with status 120 if it failed to flush it once more.
            setattr(sys, name, None)


def _declaration(request: Message, session: Observation, root: str) -> Declaration:
    entry = request["entry"]
    name: str = request["stage"]
    if "file" in entry:
        want(name)
        try:
            load_file(session, root, entry["file"])
        finally:
            want(None)
        for declaration in DECLARED:
            if declaration.name == name:
                return declaration
        raise LoadError(
            f"`{entry['file']}` no longer declares stage `{name}`",
            stage=name,
            hint="it changed after the run began; run again",
        )
    function = load_target(session, root, entry["python"])
    outs = [Out(_path_of(out)) for out in request.get("outs") or ()]
    found = Declaration(function, name, (entry["python"], 0), outs=outs)
    found.variant = request.get("variant") or found.variant
    return found


def _paths(request: Message) -> tuple[list[str], list[str]]:
    """The paths as the function shall open them: relative to the directory that it runs in."""
    deps: list[str] = list(request.get("deps") or ())
    outs = [_path_of(out) for out in request.get("outs") or ()]
    cwd = request.get("cwd")
    if not cwd:
        return deps, outs

    def seen_from_there(path: str) -> str:
        return os.path.relpath(path, cwd).replace(os.sep, "/")

    return [seen_from_there(path) for path in deps], [seen_from_there(path) for path in outs]


def _artifacts(request: Message) -> list[str]:
    """The stage's dependencies and outputs, relative to the project."""
    return [*(request.get("deps") or ()), *(_path_of(out) for out in request.get("outs") or ())]


def _path_of(out: Any) -> str:
    return out if isinstance(out, str) else out["path"]


def _call(function: Callable[..., Any], arguments: list[Any], named: dict[str, Any]) -> None:
    returned = function(*arguments, **named)
    if inspect.iscoroutine(returned):
        # Only now: importing it costs as much as starting Python does.
        import asyncio

        asyncio.run(returned)
    elif inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise PivotError(
            "the function returned a generator, and nothing in it has run",
            hint="write the outputs in the function, without `yield`",
        )


def _failed(error: Message, started: float, called: float) -> Message:
    ended = _clock()
    flush_streams()
    return {"type": "result", "ok": False, **_times(started, called, ended), "error": error}


def _times(started: float, called: float, ended: float) -> Message:
    if called == started:
        called = ended  # it never came to the call
    return {
        "import_ms": round((called - started) * 1000, 3),
        "run_ms": round((ended - called) * 1000, 3),
    }


def _exit_error(error: SystemExit, root: str) -> Message:
    told = user_error(error, root)
    code = error.code
    message = f"the stage called sys.exit({code})" if isinstance(code, int) else cut(str(code))
    return {**told, "message": message}


def _declaration_error(error: PivotError, root: str) -> Message:
    """An error of ours: words and hint, and the user's frames where they are the cause."""
    cause = error.__cause__
    told = user_error(cause, root) if isinstance(error, LoadError) and cause is not None else {}
    return {
        "type": "PivotError",
        "traceback": None,
        **told,
        "message": cut(error.message),
        "hint": error.hint,
        "file": None if error.file is None else relative(error.file, root),
        "line": error.line,
    }

"""The helper process: says hello, answers one request or serves many, ends.

The ``pivot`` program starts it as ``python DIR --fd N``, with a socket as descriptor N, user
code's prints on descriptors 1 and 2, and nothing to read on 0. Setting up the process happens
here; what a request means is in ``_inspect`` and ``_run``.
"""

from __future__ import annotations

import contextlib

# Now, where only some requests or errors need them: later, or in some processes and not in others,
# a project's module of such a name would be found first.
import datetime  # noqa: F401, ICN001  # pyright: ignore[reportUnusedImport]
import difflib  # noqa: F401  # pyright: ignore[reportUnusedImport]
import locale  # noqa: F401  # pyright: ignore[reportUnusedImport]
import os
import sys
import traceback

with contextlib.suppress(ImportError):  # Python can be built without
    import ctypes  # noqa: F401  # pyright: ignore[reportUnusedImport]
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn, TypeVar

from pivot._errors import InternalError, PivotError
from pivot._failure import failed, internal
from pivot._fingerprint._observation import Observation
from pivot._fingerprint._session import Session
from pivot._protocol import Channel, ChannelClosed, Message, hello
from pivot._run import flush_streams, run_stage

S = TypeVar("S", bound=Session)

_exit_now = os._exit
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


# What is imported for a request besides what all need: before the settings for byte code become
# those of the user, as otherwise it might be compiled anew each time.
_MODULES = {
    "inspect": ("pivot._fingerprint._inspection", "pivot._inspect"),
    "serve": ("pivot._serve",),
    "keep": ("pivot._keep",),
    "isolate": ("pivot._isolate",),
}


def main(bytecode: tuple[bool, str | None]) -> None:
    """Serves the request that comes over the socket; the process's ``__main__`` calls it.

    ``bytecode`` are the settings for code of the user's: ``sys.dont_write_bytecode`` and
    ``sys.pycache_prefix``.
    """
    channel = _channel(sys.argv)
    try:
        channel.send(hello())
        request = channel.receive()
    except ChannelClosed:
        return  # nobody needs an answer any more
    kind = request.get("type")
    for name in _MODULES.get(str(kind), ()):
        import_module(name)
    sys.dont_write_bytecode, sys.pycache_prefix = bytecode
    if kind == "inspect":
        _leave(channel, _answer_inspect(request))
    elif kind == "run":
        raise SystemExit(answer_run(request, channel))
    elif kind == "digest":
        _leave(channel, _answer_digest(request))
    elif kind == "serve":
        _serve(request, channel)
    elif kind == "keep":
        _keep(request, channel)
    elif kind == "isolate":
        _isolate(channel)
    else:
        told = InternalError(f"Pivot's helper does not know the request {kind!r}")
        _leave(channel, {"type": "failed", "error": failed(told, "")})


def _answer_digest(request: Message) -> Message:
    """The hashes of components by their names alone: nothing is imported."""
    from pivot._fingerprint._extras import digest

    root: str = request["root"]
    try:
        hashes = [digest(name, root, os.environ) for name in request["names"]]
    except BaseException as error:
        return {"type": "failed", "error": failed(internal(error), root)}
    return {"type": "digests", "hashes": hashes}


def _serve(request: Message, channel: Channel) -> None:
    """Forks a child for every stage until the connection ends; in a child, runs the stage."""
    from pivot._serve import Server, freeze, preload

    preload(request["preload"])
    server = Server(channel.detach())
    # Last, as from here on modules of the user's can be found.
    path, session = list(sys.path), None
    try:
        session = prepare(request, Observation)
    except Exception:  # a stage finds the same fault, and can tell it
        traceback.print_exc()
        sys.path[:] = path
    freeze()
    work = server.serve(session)
    if work is not None:
        work()


def _keep(request: Message, channel: Channel) -> None:
    """Runs one stage after the other until the connection ends or something is left of one."""
    from pivot._keep import Keeper
    from pivot._serve import preload

    preload(request["preload"])
    raise SystemExit(Keeper(channel.detach(), preloads=bool(request["preload"])).serve())


def _isolate(channel: Channel) -> None:
    """The same with an interpreter of its own for each stage."""
    from pivot._isolate import Isolator

    with contextlib.suppress(Exception):
        import faulthandler

        faulthandler.enable()
    raise SystemExit(Isolator(channel.detach(), preloads=False).serve())


def _answer_inspect(request: Message) -> Message:
    # Only here, as it is most of this package.
    from pivot._fingerprint._inspection import Inspection
    from pivot._inspect import inspect_project

    root: str = request["root"]
    settings: Message = request.get("settings") or {}
    try:
        session = prepare(request, Inspection, packages=settings.get("packages") or "exact")
        _begin(request, session)
        answer = inspect_project(request, session)
        session.keep_compiled()
        answer["edits"] = session.keep_edits()
        return answer
    except PivotError as error:
        return {"type": "failed", "error": failed(error, root)}
    except BaseException as error:
        return {"type": "failed", "error": failed(internal(error), root)}


def answer_run(request: Message, channel: Channel, prepared: Observation | None = None) -> int:
    """Sends the result and returns the exit status, leaving the interpreter to end by itself.

    Only that closes files which the stage left open and runs what it registered for the end.
    """
    try:
        result = run_stage(request, set_up(request, prepared))
    except BaseException as error:
        result = internal_result(error)
    return send_result(result, channel)


def internal_result(error: BaseException) -> Message:
    """The result of a stage when Pivot itself failed."""
    told = internal(error)
    error_frame = {"type": "PivotError", "message": told.message, "traceback": told.traceback}
    return {"type": "result", "ok": False, "error": error_frame}


def send_result(result: Message, channel: Channel) -> int:
    """Sends the result, closes the channel and returns the stage's exit status."""
    try:
        channel.send(result)
    except ChannelClosed:
        return 1
    channel.close()
    return 0 if result.get("ok") else 1


def set_up(request: Message, prepared: Observation | None = None) -> Observation:
    """Makes this process ready for a stage; from here on a session notes what happens.

    ``prepared`` is what :func:`prepare` has made in this process or in the one that it was forked
    from.
    """
    session = prepared or prepare(request, Observation)
    _begin(request, session)
    return session


def _begin(request: Message, session: Session) -> None:
    """Starts the session as the program that user code believes to be in."""
    sys.argv = [request["entry"].get("file") or str(request.get("stage") or "pivot.yaml")]
    session.start()


def prepare(request: Message, kind: Callable[..., S], **settings: str) -> S:
    """Makes this process find what ``python pipeline.py`` finds in the project's root.

    Returns a session of that kind, which is not started. All of it is the same for all stages of a
    pipeline, and executes nothing of the user's.
    """
    root: str = request["root"]
    entry: Message = request["entry"]
    os.chdir(root)
    # Without a standard error there is nothing to enable, and an interpreter besides the main one
    # cannot: that one has.
    with contextlib.suppress(Exception):
        import faulthandler

        faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)
    folders = [root]
    file = entry.get("file")
    if file is not None:
        folders.insert(0, os.path.dirname(os.path.join(root, *file.split("/"))))
    roots = list(dict.fromkeys(folders))
    # Behind our own folder: a `pivot.py` of the project must not take its place.
    sys.path[1:1] = roots
    others = [folder for folder in roots if folder != root]
    # Beside the package: as private as that, made by it and swept with it.
    session = kind(root, others, os.path.join(os.path.dirname(_PACKAGE), "code"), **settings)
    session.prepare(request.get("sources") or ())
    return session


def _leave(channel: Channel, answer: Message) -> NoReturn:
    """Sends the answer and ends at once: threads that an import started have nothing to say."""
    flush_streams()
    status = 0
    try:
        channel.send(answer)
    except ChannelClosed:
        status = 1
    _exit_now(status)


def _channel(arguments: list[str]) -> Channel:
    if len(arguments) != 3 or arguments[1] != "--fd" or not arguments[2].isdecimal():
        sys.exit("this is started by the `pivot` program")
    return Channel(int(arguments[2]))

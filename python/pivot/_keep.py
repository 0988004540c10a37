"""Runs one stage after the other in the same process, which is set back in between.

Frames from the ``pivot`` program: ``run`` with an ``id`` and three descriptors (the socket on which
the request comes and the result goes, standard output, standard error). Back comes ``exit`` with
the ``id``, the wait ``status``, the ``usage`` of this stage (seconds in user code and in the
kernel, kilobytes at the peak) and, where the process is not to be used again, ``retired``: why.

A stage that leaves threads or registers something for the end of the process has that end: the
process ends with it as if it had run this stage alone, and what it would have told is seen from
how it ended.
"""

from __future__ import annotations

import _thread
import atexit
import contextvars
import os
import resource
import signal
import sys
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING

from pivot._connection import Connection
from pivot._declare import DECLARED
from pivot._fingerprint._arrivals import Arrivals
from pivot._main import internal_result, send_result, set_up
from pivot._processes import SUBREAPER, flush_c, flush_files, prctl
from pivot._protocol import Channel, ChannelClosed, Message
from pivot._run import flush_streams, join_threads, run_stage
from pivot._serve import end
from pivot._state import State

if TYPE_CHECKING:
    from pivot._fingerprint._observation import Observation

_INTERRUPTS = {signal.SIGINT}
_DESCRIPTORS = ("result", "stdout", "stderr")
_STAGES = 100  # after so many a process is not used again, whatever it looks like
_SETTLING_SECONDS = 0.05  # how long a thread that has been joined may still be seen


class Keeper:
    """The stages of one process, one at a time."""

    def __init__(self, fd: int, *, preloads: bool) -> None:
        self._connection = Connection(fd)
        self._own = [os.dup(number) for number in range(3)]  # nothing to read, and a log
        self._preloads = preloads
        self._session: Observation | None = None
        self._count = 0
        self._has_joined = False
        weakref.finalize(self, int)  # the first of these registers something for the end
        self._streams = [(s.encoding, s.errors) for s in (sys.stdout, sys.stderr)]
        # What a stage leaves behind becomes a child of this process, wherever it has hidden.
        prctl()(SUBREAPER, 1)
        os.register_at_fork(after_in_child=self._connection.close)
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        self._arrivals = Arrivals()
        self.state = State()
        self._callbacks = atexit._ncallbacks()

    def serve(self) -> int:
        """Runs stages until the connection ends, or one has to end together with the process.

        Returns the status to end with, where no stage has said how it ended.
        """
        while True:
            try:
                self._prepare()
                frame, descriptors = self._connection.hear()
                if frame["type"] != "run" or len(descriptors) != len(_DESCRIPTORS):
                    return 1
                self._count += 1
                used = _used()
                status = self._run(descriptors)
                if self._has_to_end():
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
                    end(status, self._arrivals)
                ended = self._ended(status, used)
                self._connection.tell({"type": "exit", "id": frame["id"], **ended})
                self._silence()
            except ChannelClosed:
                return 0

    def _prepare(self) -> None:
        """What can be done before it is known which stage is next."""

    def _run(self, descriptors: list[int]) -> int:
        """Runs one stage with these descriptors as its own."""
        result, *streams = descriptors
        for number, stream in enumerate(streams, start=1):
            os.dup2(stream, number)
            os.close(stream)
        self._open_streams()
        return self._execute(result)

    def _execute(self, result: int) -> int:
        """Answers the request that comes over this descriptor; the status of the stage."""
        channel = Channel(result)
        self._session = None
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        try:
            request = channel.receive()
            session = self._session = set_up(request)
            # A context of its own: decimals, the error state of numpy and the user's variables.
            with warnings.catch_warnings():
                found = contextvars.Context().run(run_stage, request, session, self._join)
        except ChannelClosed:
            return 1
        except BaseException as error:
            found = internal_result(error)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        return send_result(found, channel)

    def _open_streams(self) -> None:
        """Makes Python's streams anew: the last stage may have closed or replaced them."""
        sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
        for number, (encoding, errors) in enumerate(self._streams, start=1):
            stream = open(number, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
            name = ("stdout", "stderr")[number - 1]
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    def _join(self) -> None:
        # Afterwards Python makes no more threads: only a process that ends may do this.
        if _has_threads():
            self._has_joined = True
            join_threads()

    def _has_to_end(self) -> bool:
        has_callbacks = atexit._ncallbacks() > self._callbacks
        return self._has_joined or _has_threads() or has_callbacks

    def _ended(self, status: int, before: tuple[float, float]) -> Message:
        """Sets the process back and tells how the stage ended."""
        try:
            why = self._reset()
            if why is None and self._count >= _STAGES:
                why = "it has run many stages"
        except BaseException as error:
            why = f"it could not be set back: {type(error).__name__}: {error}"
        user, system = (now - then for now, then in zip(_used(), before, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"status": status << 8, "usage": [user, system, peak], "retired": why}

    def _reset(self) -> str | None:
        """Takes back what the stage has changed, or tells why that cannot be done."""
        DECLARED.clear()
        session = self._session
        if session is None:
            return "it never began"
        session.end()
        imported = self._arrivals.names()
        # The pipeline may prepare what it imports, each module for itself.
        prepared = not self._preloads and any(map(session.is_installed, imported))
        # Before the modules are let go: the collector may close a file before the buffer above it.
        flush_streams()
        flush_files()
        flush_c()
        why = self.state.restore(session.is_user)
        flush_files()
        if prepared:
            return "it imported packages"
        return why

    def _silence(self) -> None:
        """Lets go of the last stage's pipes: their end shows that nobody can write any more.

        A stage may have closed these, and the next one's descriptors must not take their places.
        """
        for number, own in enumerate(self._own):
            os.dup2(own, number)


def _used() -> tuple[float, float]:
    """The seconds that this process and its ended children have spent, in user code and kernel."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime for used in both), sum(used.ru_stime for used in both)


def _has_threads() -> bool:
    """Whether Python threads run besides this one, also such that are made without `threading`."""
    others = threading.active_count() > 1 or _thread._count() > 0
    deadline = time.monotonic() + _SETTLING_SECONDS
    while others and threading.active_count() == 1 and time.monotonic() < deadline:
        time.sleep(0.001)  # one that has been joined is about to end
        others = _thread._count() > 0
    return others

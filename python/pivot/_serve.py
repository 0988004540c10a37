"""Forks one child a stage from a process that has imported third-party packages.

The user's own modules are imported in the child, so an edit needs no restart and nothing that a
stage does can reach the next one; what is prepared here is the same for all stages. Libraries are
imported here but not used, apart from the seed of numpy's generator: many of them survive a fork
after an import and hang after they have run something.

Frames from the ``pivot`` program: ``run`` with an ``id`` and three descriptors (the socket on which
the child gets its request and sends its result, standard output, standard error), and ``cancel``
with an ``id`` and a ``signal``. Back comes ``started`` with the ``id`` and the ``pid`` of each
child, and ``exit`` with the ``id``, the wait ``status`` and the ``usage`` (seconds in user code and
in the kernel, kilobytes at the peak); an ``error`` in it says why there never was a child.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import NoReturn

from pivot._connection import Connection
from pivot._declare import DECLARED
from pivot._fingerprint._arrivals import Arrivals
from pivot._fingerprint._observation import Observation
from pivot._processes import SUBREAPER, children, end_children, flush_c, flush_files, prctl
from pivot._protocol import Channel, ChannelClosed, Message
from pivot._run import flush_streams

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in <linux/prctl.h>
_INTERRUPTS = {signal.SIGINT}
_NOT_STARTED = os.EX_OSERR << 8  # the wait status of a child that could not be made


class Server:
    """The children that run now, and the connection that asks for more."""

    def __init__(self, fd: int) -> None:
        self._session: Observation | None = None
        self._connection = connection = Connection(fd)
        self._children: dict[int, tuple[int, int]] = {}  # id -> process, descriptor of its end
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._prctl = prctl()
        self._arrivals = Arrivals()

    def serve(self, session: Observation | None) -> Callable[[], NoReturn] | None:
        """Forks until the connection ends; each child starts the session that is prepared here.

        In a child it returns what the child has to do, so that the child's stack holds nothing
        of this loop; in the parent it returns ``None``.
        """
        self._session = session
        # What a stage leaves behind becomes a child of this process, wherever it has hidden.
        self._prctl(SUBREAPER, 1)
        self._own = children()  # a library may have started some when it was imported
        while True:
            try:
                for descriptor, _ in self._poll.poll():
                    if descriptor != self._connection.fileno():
                        self._reap(descriptor)
                        continue
                    work = self._answer(*self._connection.hear())
                    if work is not None:
                        return work
            except ChannelClosed:
                for process, _ in self._children.values():
                    _kill_group(process, signal.SIGKILL)
                return None

    def _answer(self, frame: Message, descriptors: list[int]) -> Callable[[], NoReturn] | None:
        if frame["type"] == "run":
            work = self._fork(frame["id"], descriptors)
            if work is None:
                for descriptor in descriptors:
                    os.close(descriptor)
            return work
        if frame["type"] == "cancel" and frame["id"] in self._children:
            _kill_group(self._children[frame["id"]][0], frame["signal"])
        return None

    def _fork(self, number: int, fds: list[int]) -> Callable[[], NoReturn] | None:
        if len(fds) != 3:
            # The system leaves out the descriptors that this process has no room for.
            self._refuse(number, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            return None
        parent = os.getpid()
        reseed()  # here, as that much of a library's state is then copied by no child
        # A child forgets the signals that come before Python has seen that it is one. Blocked, they
        # wait until somebody can tell that the stage was interrupted.
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            process = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
            self._refuse(number, error)
            return None
        if process:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
            self._watch(number, process)
            return None
        os.setpgid(0, 0)
        self._prctl(_DEATH_SIGNAL, signal.SIGKILL)
        # Until this child ends, what it leaves behind is its own, and not that of another stage.
        self._prctl(SUBREAPER, 1)
        if os.getppid() != parent:
            os._exit(1)  # nobody would ever reap or kill this child
        self._connection.close()
        for _, ended in self._children.values():
            os.close(ended)
        result, stdout, stderr = fds
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)

        def work() -> NoReturn:
            from pivot._main import answer_run

            channel = Channel(result)
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
                request = channel.receive()
            except (ChannelClosed, KeyboardInterrupt):
                os._exit(1)
            end(answer_run(request, channel, self._session), self._arrivals)

        return work

    def _watch(self, number: int, process: int) -> None:
        """Takes a new child in, or ends it where its end could not be noticed."""
        with contextlib.suppress(OSError):
            os.setpgid(process, process)  # the child does the same: whoever is first
        try:
            ended = os.pidfd_open(process)
        except OSError as error:
            _kill_group(process, signal.SIGKILL)
            os.waitpid(process, 0)
            self._refuse(number, error)
            return
        self._children[number] = (process, ended)
        self._poll.register(ended, select.POLLIN)
        self._connection.tell({"type": "started", "id": number, "pid": process})

    def _refuse(self, number: int, error: OSError) -> None:
        """Tells that there is no child; the others run on."""
        why = error.strerror or str(error)
        self._connection.tell({"type": "exit", "id": number, "status": _NOT_STARTED, "error": why})

    def _reap(self, ended: int) -> None:
        number = next(n for n, (_, descriptor) in self._children.items() if descriptor == ended)
        process, _ = self._children.pop(number)
        self._poll.unregister(ended)
        os.close(ended)
        # What the stage left behind would go on writing to its outputs. The leader is not reaped
        # yet, so the group's number still belongs to it.
        _kill_group(process, signal.SIGKILL)
        _, status, used = os.wait4(process, 0)
        self._end_strays()
        usage = [used.ru_utime, used.ru_stime, used.ru_maxrss]
        self._connection.tell({"type": "exit", "id": number, "status": status, "usage": usage})

    def _end_strays(self) -> None:
        """Ends what stages have left behind outside of their groups."""
        known = self._own.union(process for process, _ in self._children.values())
        self._own |= end_children(known)


def preload(names: Iterable[str]) -> None:
    """Imports packages; one that cannot be imported shows its error in the stage that needs it.

    ``module:name`` also asks for the name: some packages load their parts only then.
    """
    for name in names:
        module, _, part = name.partition(":")
        with contextlib.suppress(BaseException):
            getattr(import_module(module), part or "__name__", None)
    # Python warns of every fork beside another thread, and numpy alone has one. What makes such
    # forks harmless is that libraries were only imported.
    warnings.filterwarnings("ignore", r".*fork\(\) may lead to deadlocks", DeprecationWarning)
    # What the imports have printed is not to be printed by each child.
    flush_streams()
    flush_c()


def freeze() -> None:
    """Takes what there is now out of the collector's sight: it stays as long as the process."""
    gc.collect()
    gc.freeze()


def end(status: int, arrivals: Arrivals) -> NoReturn:
    """Ends a child as the interpreter would end, without taking down the libraries.

    That alone would cost more than a small stage. What the stage registered for the end runs, and
    what it left open is written out: before its modules are let go, as the collector may close a
    file before the buffer above it, and after, as their objects are finalized.
    """
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # the interpreter's end, but for the rest of it
    flush_files()
    flush_c()
    with contextlib.suppress(BaseException):
        DECLARED.clear()
        for name in arrivals.names():
            sys.modules.pop(name, None)
        gc.collect()
    flush_files()
    os._exit(status)


def _kill_group(process: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process, number)


def reseed() -> None:
    """Gives the next stage random numbers of its own; Python does so for its own generator."""
    random = sys.modules.get("numpy.random")
    with contextlib.suppress(Exception):  # it may be no more than half imported
        if random is not None:
            random.seed()

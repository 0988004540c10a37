"""What a process was like before its first stage, and how it gets like that again.

A process that runs one stage after the other has to take back what each has changed. What is plain
is put back; where that cannot be told or done, the reason is returned, and the process is not used
again. State inside of libraries and of the interpreter's own C code is beyond this.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import linecache
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from operator import is_
from types import FunctionType, ModuleType
from typing import Any

from pivot._processes import children, end_children
from pivot._serve import reseed

_LIMITS = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]
_LISTS = ("path", "argv", "meta_path", "path_hooks", "warnoptions")
_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_SETTLING_SECONDS = 0.05  # how long a thread that has been joined may still be seen
_GROWTH = 2  # how many times its memory after the first stage a process may use
_FREE_BYTES = 100 << 20  # growth below this does not count
_PAGE = resource.getpagesize()
_OWN_FILES = (0, 1, 2)  # set anew for every stage

IsUser = Callable[[ModuleType], bool]


class State:
    """Everything that can be looked at, as it was when this was made."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        self._modules = dict(sys.modules)
        self._callables: dict[str, dict[str, Any]] = {}
        self._namespaces = [
            (module, dict(vars(module))) for module in (sys, builtins, sys.modules["__main__"])
        ]
        self._lists = [(value := getattr(sys, name), list(value)) for name in _LISTS]
        self._environ, self._environment = os.environ, dict(os.environ)
        self._folder = os.getcwd()
        self._mask = os.umask(0o022)
        os.umask(self._mask)
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self._limits = {limit: resource.getrlimit(limit) for limit in _LIMITS}
        self._gc = gc.isenabled(), gc.get_threshold(), gc.get_debug(), list(gc.callbacks)
        self._interpreter = sys.getrecursionlimit(), sys.getswitchinterval()
        self._logging = _Logging()
        self._identity = _identity()
        self._children = children()
        self._tasks = _tasks()
        self._memory: int | None = None
        self._values: dict[str, list[Any]] = {}
        for name, module in self._modules.items():
            self._callables[name] = _callables(module)
            self._values[name] = _values(module)
        self._files = _files()

    def restore(self, is_user: IsUser) -> str | None:
        """Takes back what a stage has done, or tells why the process is not as it was."""
        gc.enable()
        for module, before in self._namespaces:
            _restore(vars(module), before)
        for value, before in self._lists:
            value[:] = before
        self._restore_process()
        self._logging.restore()
        why = self._restore_modules(is_user)
        sys.path_importer_cache.clear()
        importlib.invalidate_caches()
        linecache.clearcache()
        gc.collect()
        reseed()
        random = sys.modules.get("random")
        if random is not None:
            random.seed()
        return why or self._left()

    def _restore_process(self) -> None:
        os.environ = self._environ  # noqa: B003 - a stage may have put another one there
        # What C code and other interpreters have set is seen only then (Python 3.14).
        getattr(os, "reload_environ", lambda: None)()
        if dict(os.environ) != self._environment:
            for name in os.environ.keys() - self._environment.keys():
                del os.environ[name]
            os.environ.update(self._environment)
        time.tzset()
        os.chdir(self._folder)
        os.umask(self._mask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            # None is a handler that Python knows nothing of.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        for limit, before in self._limits.items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, before)
        enabled, thresholds, debug, callbacks = self._gc
        gc.set_threshold(*thresholds)
        gc.set_debug(debug)
        gc.callbacks[:] = callbacks
        if not enabled:
            gc.disable()
        limit, interval = self._interpreter
        sys.setrecursionlimit(limit)
        sys.setswitchinterval(interval)
        sys.settrace(None)
        sys.setprofile(None)

    def _restore_modules(self, is_user: IsUser) -> str | None:
        """Takes out the user's modules, and puts back functions of others that were replaced."""
        for name, module in list(sys.modules.items()):
            known = self._modules.get(name)
            if known is not None:
                if module is not known:
                    sys.modules[name] = known
            elif _is_gone(name, module, is_user):
                del sys.modules[name]
        sys.modules.update(self._modules)
        why = None
        for name, module in list(sys.modules.items()):
            before = self._callables.get(name)
            if before is not None:
                if _is_same(module, self._values[name]):
                    continue
                namespace = vars(module)
                for key, value in before.items():
                    if namespace.get(key) is not value:
                        namespace[key] = value
                continue
            self._modules[name] = module
            self._callables[name] = found = _callables(module)
            self._values[name] = _values(module)
            # It was imported by this stage, so what it was like before is not known.
            if any(_is_patch(value, is_user) for value in found.values()):
                why = f"it changed `{name}`"
        return why

    def _left(self) -> str | None:
        """What a stage has left outside of the interpreter."""
        had_children = children() != self._children
        end_children(self._children)
        if had_children:
            return "it left processes behind"
        if _identity() != self._identity:
            return "it changed the priority, the user or the group of its process"
        if any(resource.getrlimit(limit) != before for limit, before in self._limits.items()):
            return "it changed the limits of its process"
        if _files() != self._files:
            return "it left files open, or closed some that are not its own"
        deadline = time.monotonic() + _SETTLING_SECONDS
        while _tasks() > self._tasks:
            if time.monotonic() > deadline:
                return "it left threads behind"
            time.sleep(0.001)
        memory = _memory()
        if self._memory is None:
            self._memory = memory
        if memory > self._memory * _GROWTH + _FREE_BYTES:
            return "its process has grown"
        return None


class _Logging:
    """The loggers, as far as `logging` is there; without it there is nothing to restore."""

    def __init__(self) -> None:
        import logging

        self._logging = logging
        self._manager = logging.Logger.manager
        self._before = {logger: _settings(logger) for logger in self._loggers()}
        self._disabled = self._manager.disable
        self._levels = dict(logging._levelToName), dict(logging._nameToLevel)
        self._others = [
            (holder, name, getattr(holder, name))
            for holder, names in (
                (logging, ("_loggerClass", "_logRecordFactory", "lastResort", "raiseExceptions")),
                (self._manager, ("loggerClass", "logRecordFactory")),
            )
            for name in names
        ]

    def restore(self) -> None:
        """Puts the settings of all loggers back; those that are new get the usual ones."""
        logging = self._logging
        for logger in self._loggers():
            before = self._before.get(logger)
            if before is None:
                kept = [h for h in logger.handlers if isinstance(h, logging.NullHandler)]
                before = (logging.NOTSET, True, False, kept, [])
            level, propagates, is_disabled, handlers, filters = before
            for handler in logger.handlers:
                if handler not in handlers:
                    with contextlib.suppress(Exception):
                        handler.flush()
                        handler.close()
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagates, is_disabled
            logger.handlers[:] = handlers
            logger.filters[:] = filters
        self._manager.disable = self._disabled
        for table, before in zip(
            (logging._levelToName, logging._nameToLevel), self._levels, strict=True
        ):
            table.clear()
            table.update(before)  # pyright: ignore[reportArgumentType, reportCallIssue]
        for holder, name, value in self._others:
            setattr(holder, name, value)

    def _loggers(self) -> list[Any]:
        named = list(self._manager.loggerDict.values())
        return [self._manager.root, *(x for x in named if isinstance(x, self._logging.Logger))]


def _settings(logger: Any) -> tuple[int, bool, bool, list[Any], list[Any]]:
    return (
        logger.level,
        logger.propagate,
        logger.disabled,
        list(logger.handlers),
        list(logger.filters),
    )


def _restore(namespace: dict[str, Any], before: dict[str, Any]) -> None:
    for name in namespace.keys() - before.keys():
        del namespace[name]
    for name, value in before.items():
        if namespace.get(name, before) is not value:
            namespace[name] = value


def _is_gone(name: str, module: Any, is_user: IsUser) -> bool:
    """Whether a module that was not there before is the user's."""
    if not isinstance(module, ModuleType):
        return False
    try:
        if not is_user(module):
            return False
    except Exception:
        return True
    if getattr(module, "__file__", None) is None:
        # One that a library makes by hand has no file, either.
        owner = sys.modules.get(name.partition(".")[0])
        return owner is None or owner is module or is_user(owner)
    return True


def _callables(module: Any) -> dict[str, Any]:
    """The functions and classes in a module's namespace."""
    if not isinstance(module, ModuleType):
        return {}
    return {name: value for name, value in vars(module).items() if callable(value)}


def _values(module: Any) -> list[Any]:
    return list(vars(module).values()) if isinstance(module, ModuleType) else []


def _is_same(module: Any, before: list[Any]) -> bool:
    """Whether a module has the same values in the same order: nothing in it was replaced."""
    now = _values(module)
    return len(now) == len(before) and all(map(is_, now, before))


def _is_patch(value: Any, is_user: IsUser) -> bool:
    if not isinstance(value, FunctionType):
        return False
    file = ModuleType("_")
    file.__file__ = value.__code__.co_filename
    return is_user(file)


def _identity() -> tuple[Any, ...]:
    return (
        os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups(), os.getsid(0),
        os.getpgrp(), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0),
    )  # fmt: skip


def _files() -> dict[int, tuple[int, int]]:
    """The open descriptors with what they are; those that each stage gets anew are left out."""
    found: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        with contextlib.suppress(OSError):  # that of the listing is closed again
            if number not in _OWN_FILES:
                status = os.fstat(number)
                found[number] = status.st_dev, status.st_ino
    return found


def _tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def _memory() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE

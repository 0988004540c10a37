"""Notes what code reads from outside while it runs: files, folders, environment, look-ups.

The interpreter's audit events show files and folders. There is none for the environment nor for
existence checks, so ``os.environ`` and ``os.stat`` are wrapped, and note something while recording
is on. An audit hook cannot be removed again, so one is installed once and switched by a flag.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from os.path import isabs, join, normpath
from types import FrameType
from typing import Any, NamedTuple

from ._children import Children
from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there
from ._roots import Roots

__all__ = ["Program", "Recorder", "StatTuple", "kind_of", "stat_tuple"]

StatTuple = list[int]
_Environ = type(os.environ)
_get_item = _Environ.__getitem__
_iterate = _Environ.__iter__
_stat, _lstat, _readlink = os.stat, os.lstat, os.readlink
_UNREPLAYABLE = {
    "subprocess.Popen": "starts a program",
    "os.system": "starts a program",
    "os.exec": "starts a program",
    "os.posix_spawn": "starts a program",
    "os.spawn": "starts a program",
    "socket.connect": "connects to the network",
}
_SPLITTING = frozenset({"os.fork", "os.forkpty", "cpython.PyInterpreterState_New"})
_NO_FILES = re.compile(r"/(proc|sys|dev(?!/shm/))/")

_active: Recorder | None = None
_hooked = False


def stat_tuple(path: str) -> StatTuple | None:
    """``[mtime_ns, ctime_ns, size, inode, device]``; None where nothing is."""
    try:
        found = _stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev]


def kind_of(path: str) -> str:
    """``file``, ``dir``, ``other``, ``link:TARGET`` or ``absent``."""
    try:
        mode = _lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return "link:" + _readlink(path)
    except (OSError, ValueError):
        return "absent"
    return "file" if stat.S_ISREG(mode) else "dir" if stat.S_ISDIR(mode) else "other"


class Program(NamedTuple):
    """A program that was started."""

    command: str | None
    """A text for the shell; None where there are words."""
    words: tuple[str, ...]
    folder: str
    search: str
    """``PYTHONPATH``, if it was given one of its own."""


class Recorder:
    """What was read while recording was on."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.on = False
        self.opened: dict[str, StatTuple | None] = {}
        """Files opened for reading -> their stat just before."""
        self.written: set[str] = set()
        self.listed: dict[str, StatTuple | None] = {}
        self.scanned: set[str] = set()
        """Of the listed folders those of whose entries sizes and times may be known."""
        self.checked: dict[str, str] = {}
        """Paths asked for -> ``kind`` or ``stat``: how much of the answer could be used."""
        self.names: dict[str, bool] = {}
        """Environment names read -> whether the user's own code read them."""
        self.all_names = False
        self.kinds: dict[str, str] = {}
        """Paths asked for, opened or listed -> what was there; see `kind_of`."""
        self.read: set[str] = set()
        """Of the opened files those that the user's code opened, not the import system."""
        self.missed: set[str] = set()
        """Names that user code looked for on ``sys.path``."""
        self.children = Children()
        self.child_codes: list[dict[str, Any]] = []
        """Code that started in children, as `_observe` describes it."""
        self.reasons: dict[str, None] = {}
        self.programs: dict[Program, None] = {}
        """The programs that were started."""
        self.looked_into: dict[int, Any] = {}
        """Functions whose code was read, by their ids."""
        self.is_split = False
        """Whether code may have run where nobody sees it: in a forked process, say."""
        self.lookups: dict[tuple[str, ...] | None, set[str]] = {}
        """Search path (None: ``sys.path``) -> names of modules looked for."""
        self._reads_in: dict[str, dict[tuple[int, str, str], None]] = {}
        self._muted = 0
        self._wrapped: list[tuple[Any, str, Any, Any]] = []
        self._finder = _LookupRecorder(self)

    def begin(self) -> None:
        """Switch recording on."""
        global _active
        _active = self
        if not self._wrapped:
            self.install()
        self.on = True

    def install(self) -> None:
        """Put in place what will note things; it notes nothing as long as recording is off."""
        global _hooked
        if not _hooked:
            _hooked = True
            sys.addaudithook(_audit)
            _Environ.__getitem__ = _recorded_get_item  # type: ignore[method-assign]
            _Environ.__iter__ = _recorded_iterate  # type: ignore[method-assign]
        if self._finder not in sys.meta_path:
            sys.meta_path.insert(0, self._finder)
        for name, how in (
            ("stat", "stat"),
            ("lstat", "stat"),
            ("access", "kind"),
            ("readlink", "link"),
        ):
            self._wrap(os, name, how)
        # Python 3.10 has `os.stat` in a class, where `pathlib` took it when it was imported.
        accessor = getattr(sys.modules.get("pathlib"), "_NormalAccessor", None)
        if accessor is not None:
            self._wrap(accessor, "stat", "stat")
            self._wrap(accessor, "readlink", "link")

    def end(self) -> None:
        """Switch recording off; wrapped functions that user code kept become transparent."""
        self.on = False
        for holder, name, original, wrapper in self._wrapped:
            if getattr(holder, name) is wrapper:
                setattr(holder, name, original)
            for group in _groups():
                group.discard(wrapper)
        self._wrapped.clear()
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)

    def _wrap(self, holder: Any, name: str, how: str) -> None:
        original = getattr(holder, name, None)
        if original is None or isinstance(original, _Recorded):
            return
        wrapper = _Recorded(self, original, how)
        # `shutil` asks what the functions can do by looking them up in these sets.
        for group in _groups():
            if original in group:
                group.add(wrapper)
        setattr(holder, name, wrapper)
        self._wrapped.append((holder, name, original, wrapper))

    # ------------------------------------------------------------------ events

    def check(self, path: Any, how: str) -> None:
        """User code asks whether a path exists, or what it is."""
        text = _text_path(path)
        if text is None:
            return
        frame = sys._getframe(2)
        if how == "stat" and frame.f_code.co_name in (
            "exists",
            "lexists",
            "isfile",
            "isdir",
            "islink",
            "is_file",
            "is_dir",
            "is_symlink",
            "ismount",
        ):
            how = "kind"
        elif how == "stat" and frame.f_code.co_name in ("realpath", "_joinrealpath"):
            how = "link"
        if not self._by_user(frame):
            return
        self._attribute("kind" if how != "stat" else "read", text, frame)
        if text not in self.kinds:
            self.kinds[text] = kind_of(text)
            self.children.tell("checked", text, how)
        if self.checked.get(text) != "stat":
            self.checked[text] = how

    def open(self, path: Any, mode: Any, flags: Any) -> None:
        """A file is about to be opened."""
        text = _text_path(path)
        if text is None or text.endswith(".pyc") or _NO_FILES.match(text):
            return
        writes = (
            any(letter in mode for letter in "wax+")
            if isinstance(mode, str)
            else bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR))
        )
        if self.roots.kind(text) in ("site", "stdlib", "pivot"):
            return
        if writes:
            self.written.add(text)
            self.children.tell("written", text)
            return
        if text not in self.opened:
            self.opened[text] = stat_tuple(text)
            self.kinds.setdefault(text, kind_of(text))
            self.children.tell("opened", text)
        frame = sys._getframe(2)
        if self._reads(frame):
            self._attribute("read", text, frame)
            if text not in self.read:
                self.read.add(text)
                self.children.tell("read", text)

    def list(self, path: Any, *, with_stats: bool) -> None:
        """A folder is about to be listed, perhaps with sizes and times of what is in it."""
        text = _text_path(os.curdir if path is None else path)
        if text is None or _NO_FILES.match(text):
            return
        frame = sys._getframe(2)
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return  # the import system fills its cache; look-ups are recorded on their own
        inside = text == self.roots.root or text.startswith(self.roots.root + os.sep)
        if self._by_user(frame) or (inside and self.roots.kind(join(text, "x")) == "user"):
            self._attribute("listing", text, frame)
            if with_stats:
                self.scanned.add(text)
            if text in self.listed:
                return
            self.listed[text] = stat_tuple(text)
            self.kinds.setdefault(text, kind_of(text))
            self.children.tell("listed", text)

    def count_listing(self, folder: str) -> None:
        """The entries of this folder are part of a fingerprint."""
        self.listed.setdefault(folder, stat_tuple(folder))

    def unreplayable(self, event: str) -> None:
        """Something happened whose result cannot be checked by looking at files."""
        frame = sys._getframe(2)
        place = self._user_frame(frame)
        if place is not None:
            where = "a thread"
            if self.roots.is_user(place.f_code.co_filename):
                where = f"{self.roots.relative(place.f_code.co_filename)}:{place.f_lineno}"
            self.reasons[f"{where} {_UNREPLAYABLE[event]} at import"] = None

    def program(self, words: Any, folder: Any, environment: Any) -> None:
        """A program is about to be started: its words, or a text for the shell."""
        try:
            folder = os.path.abspath(os.fsdecode(folder or os.curdir))
            names = ("PYTHONPATH", b"PYTHONPATH")
            search = [environment[name] for name in names if name in (environment or ())]
            started = Program(
                os.fsdecode(words) if isinstance(words, (str, bytes)) else None,
                () if isinstance(words, (str, bytes)) else tuple(map(os.fsdecode, words)),
                folder,
                os.fsdecode(search[0]) if search else "",
            )
        except (TypeError, ValueError, OSError):
            return
        self.programs[started] = None
        self.children.tell("program", folder, started)

    def name(self, name: str) -> None:
        """An environment variable is read."""
        if self._muted:
            return
        frame = sys._getframe(2)
        by_user = self._by_user(frame)
        if by_user:
            self._attribute("environment", name, frame)
        if not self.names.get(name):
            self.names[name] = by_user
            self.children.tell("name", name, by_user)

    def everything(self) -> bool:
        """All of the environment is read; whether by the user's own code."""
        by_user = self._by_user(sys._getframe(2))
        if by_user:
            self.all_names = True
            self.children.tell("all_names", "")
        return by_user

    def look_into(self, function: Any) -> None:
        """The code of a function is read, other than by the engine itself."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            found = self.roots.kind(frame.f_code.co_filename)
            if found == "pivot":
                return
            if found in ("user", "site"):
                break
            frame = frame.f_back
        self.looked_into[id(function)] = function

    def lookup(self, name: str, path: Any) -> None:
        """A module is looked for."""
        try:
            key = None if path is None else tuple(path)
        except TypeError:
            return
        self.lookups.setdefault(key, set()).add(name.rpartition(".")[2])
        if key is None and name not in self.missed and self._imports(sys._getframe(2)):
            self.missed.add(name)
            self.children.tell("missed", name)

    def merge_children(self) -> None:
        """Take in what processes that were forked while recording was on have noted."""
        for what, text, detail in self.children.told():
            if what == "checked":
                self.checked.setdefault(text, detail)
                self.kinds.setdefault(text, kind_of(text))
            elif what == "opened":
                self.opened.setdefault(text, stat_tuple(text))
                self.kinds.setdefault(text, kind_of(text))
            elif what == "listed":
                self.listed.setdefault(text, stat_tuple(text))
                self.kinds.setdefault(text, kind_of(text))
            elif what == "name":
                self.names[text] = self.names.get(text) or bool(detail)
            elif what == "all_names":
                self.all_names = True
            elif what == "program":
                command, words, folder, search = detail
                self.programs[Program(command, tuple(words), folder, search)] = None
            elif what == "code":
                self.child_codes.append(detail)
            else:
                {"written": self.written, "read": self.read, "missed": self.missed}[what].add(text)

    def reads_in(self, path: str) -> Collection[tuple[int, str, str]]:
        """Line, kind and name of what was read while a file's top level was executed."""
        return self._reads_in.get(path, ())

    def _attribute(self, what: str, text: str, frame: FrameType | None) -> None:
        """Note which statements of modules' top levels have led to reading something."""
        while frame is not None:
            code = frame.f_code
            if code.co_name == "<module>" and self.roots.is_user(code.co_filename):
                reads = self._reads_in.setdefault(code.co_filename, {})
                reads[frame.f_lineno, what, text] = None
            frame = frame.f_back

    def _reads(self, frame: FrameType | None) -> bool:
        """Whether a file is opened for the user's code, not to load or to show code."""
        kind = self.roots.kind
        while frame is not None:
            code = frame.f_code
            found = kind(code.co_filename)
            if found == "user":
                return True
            # Where messages show a line of code, nothing follows from it.
            if code.co_filename.endswith(("/traceback.py", "/warnings.py", "/_py_warnings.py")):
                return False
            # What is loaded is read by our own loader; others may ask a loader for a text.
            if found not in ("stdlib", "none"):
                return found == "site"
            frame = frame.f_back
        return True  # see `_user_frame`

    def _imports(self, frame: FrameType | None) -> bool:
        """Whether the user's code asked for the import, not a library."""
        while frame is not None:
            found = self.roots.kind(frame.f_code.co_filename)
            if found == "user":
                return True
            if found in ("site", "pivot"):
                return False
            frame = frame.f_back
        return True  # see `_user_frame`

    def _by_user(self, frame: FrameType | None) -> bool:
        return self._user_frame(frame) is not None

    def _user_frame(self, frame: FrameType | None) -> FrameType | None:
        """The user's frame that called, with only the standard library in between.

        A thread without any frame but those of the standard library does what user code has given
        to it: a pool that maps ``Path.read_text``. Its outermost frame stands for the user's.
        """
        kind, last = self.roots.kind, None
        while frame is not None:
            found = kind(frame.f_code.co_filename)
            if found == "user":
                return frame
            if found not in ("stdlib", "none"):
                return None
            if found == "none" and frame.f_code.co_filename.startswith("<frozen importlib"):
                return None
            last, frame = frame, frame.f_back
        return last


class _Recorded:
    """A function of ``os`` that notes what it is asked.

    It is no Python function, so that as a class attribute it stays what the builtin is: no method.
    """

    def __init__(self, recorder: Recorder, original: Callable[..., Any], how: str) -> None:
        self._recorder = recorder
        self._original = original
        self._how = how
        self.__name__ = self.__qualname__ = original.__name__
        self.__doc__ = original.__doc__

    def __call__(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        if self._recorder.on:
            self._recorder.check(path, self._how)
        return self._original(path, *args, **kwargs)


class _LookupRecorder:
    """Stands first on ``sys.meta_path``, sees every look-up and never finds anything."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Note the look-up."""
        del target
        if self._recorder.on:
            self._recorder.lookup(name, path)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    recorder = _active
    if recorder is None or not recorder.on:
        return
    if event == "open":
        recorder.open(*args)
    elif event == "os.listdir" or event == "os.scandir":
        recorder.list(args[0], with_stats=event == "os.scandir")
    elif event == "sqlite3.connect":
        recorder.open(args[0], "r", 0)
    elif event == "ctypes.dlopen":
        if isinstance(args[0], str) and os.sep in args[0]:
            recorder.open(args[0], "r", 0)
    elif event == "object.__getattr__":
        if args[1] == "__code__":
            recorder.look_into(args[0])
    elif event in _SPLITTING:
        recorder.is_split = True
    elif event in _UNREPLAYABLE:
        recorder.unreplayable(event)
        if event == "subprocess.Popen":
            recorder.program(args[1], args[2], args[3])
        elif event == "os.system":
            recorder.program(args[0], None, None)
        elif event in ("os.exec", "os.posix_spawn"):
            recorder.program([args[0], *args[1][1:]], None, args[2])


def _recorded_get_item(self: Any, key: Any) -> Any:
    recorder = _active
    if recorder is not None and recorder.on and type(key) in (str, bytes):
        recorder.name(os.fsdecode(key))
    return _get_item(self, key)


def _recorded_iterate(self: Any) -> Iterator[Any]:
    recorder = _active
    if recorder is not None and recorder.on:
        recorder.everything()
        # What follows is one reading of everything, not a reading of each name.
        return _muted_names(recorder, list(_iterate(self)))
    return _iterate(self)


def _muted_names(recorder: Recorder, names: list[Any]) -> Iterator[Any]:
    recorder._muted += 1
    try:
        yield from names
    finally:
        recorder._muted -= 1


def _text_path(path: Any) -> str | None:
    """The absolute path; None for file descriptors and other things that are no path."""
    if isinstance(path, int) or path is None:
        return None
    try:
        text = os.fsdecode(path)
        return normpath(text if isabs(text) else join(os.getcwd(), text))
    except (TypeError, ValueError, OSError):
        return None


def _groups() -> Iterator[set[Callable[..., Any]]]:
    for name in (
        "supports_dir_fd",
        "supports_fd",
        "supports_follow_symlinks",
        "supports_effective_ids",
    ):
        group = getattr(os, name, None)
        if isinstance(group, set):
            yield group

"""What was derived from a user file's bytes alone, kept between processes: code and outline.

One entry a file, beside the unpacked package, so that it belongs to this very engine and goes
when that goes. It is Python's own format for code, and whoever can write an entry decides what
runs, as with the package itself: an entry counts only in a folder and a file that are the user's
own and that nobody else may write to. It never travels. An entry says which bytes it was made
from, and other bytes than those that were just read make it no entry; so does damage.

Deleting any of it, at any time, costs the time to compile again.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
import time
from types import CodeType

from ._hashing import content_hash
from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there

TYPE_CHECKING = False  # without `typing`, whose import takes long; see `_edited`
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Compiled"]

_DAY_SECONDS = 24 * 3600
_UNUSED_SECONDS = 30 * _DAY_SECONDS
_SIZE_MAX = 256 << 20  # bytes of all entries, after a sweep
_HASH = 32  # hexadecimal digits of a content hash
_SUFFIX = ".pyc"  # what is opened under this name is not noted as read
_SWEPT = "swept"

_close, _fstat, _open, _read = os.close, os.fstat, os.open, os.read
_loads, _dumps = marshal.loads, marshal.dumps
_time, _ticks = time.time, time.monotonic_ns


class Compiled:
    """The entries of one interpreter, in one folder."""

    def __init__(self, parent: str) -> None:
        flags = sys.flags
        ranges = "no_debug_ranges" in sys._xoptions or "PYTHONNODEBUGRANGES" in os.environ
        made_by = repr((sys.version, sys.implementation.cache_tag, flags.optimize, ranges))
        self.folder = os.path.join(parent, content_hash(made_by.encode())[:16])
        self.is_safe = _is_own_folder(parent) and _is_own_folder(self.folder)
        self._ahead: dict[str, tuple[str, int, CodeType, Any]] = {}

    def look_ahead(self, paths: Iterable[str]) -> None:
        """Takes in the entries of these files, for all processes that are forked after that."""
        for path in paths:
            found = self._entry(path)
            if found is not None:
                self._ahead[path] = found

    def read(self, path: str, data: bytes, digest: str) -> tuple[CodeType, Any] | None:
        """The code and the outline of a file with these bytes, of which ``digest`` is the hash."""
        # Once only: two modules made of one file must not share code objects (`Source.also`).
        found = self._ahead.pop(path, None)
        if found is None or found[0] != digest:
            found = self._entry(path, digest)
        if found is None or found[:2] != (digest, len(data)):
            return None
        return found[2:]

    def _entry(self, path: str, digest: str | None = None) -> tuple[str, int, CodeType, Any] | None:
        """Hash and length of the bytes that a file's entry was made from, their code and outline.

        With a ``digest`` only an entry of such bytes is read.
        """
        if not self.is_safe:
            return None
        try:
            entry = _contents(self._place(path))
        except OSError:
            return None
        # The hash of the source, then that of what follows it, then what was put in.
        if entry is None or (digest is not None and entry[:_HASH] != digest.encode()):
            return None
        body = entry[2 * _HASH :]
        if content_hash(body).encode() != entry[_HASH : 2 * _HASH]:
            return None
        try:
            size, code, outline = _loads(body)
        except (EOFError, ValueError, TypeError):
            return None
        if type(code) is not CodeType or code.co_filename != path:
            return None
        return entry[:_HASH].decode("latin-1"), size, code, outline

    def write(self, path: str, data: bytes, digest: str, code: CodeType, outline: Any) -> None:
        """Keeps them for the next process; what cannot be written is not kept."""
        if not self.is_safe and not self._make():
            return
        try:
            body = _dumps((len(data), code, outline))
        except ValueError:
            return
        self._put(self._place(path), digest.encode() + content_hash(body).encode() + body)

    @staticmethod
    def _put(place: str, content: bytes) -> None:
        staging = f"{place[: -len(_SUFFIX)]}.{os.getpid()}-{_ticks():x}{_SUFFIX}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            fd = _open(staging, flags, 0o600)
            try:
                with open(fd, "wb") as file:
                    file.write(content)
                os.replace(staging, place)
            except OSError:
                os.unlink(staging)
        except OSError:
            pass

    def note(self, about: str) -> Any:
        """What was kept under a name with :meth:`keep_note`; None where there is nothing whole."""
        if not self.is_safe:
            return None
        try:
            entry = _contents(self._place("note of " + about))
            if entry is None or content_hash(entry[_HASH:]).encode() != entry[:_HASH]:
                return None
            return _loads(entry[_HASH:])
        except (OSError, EOFError, ValueError, TypeError):
            return None

    def keep_note(self, about: str, note: Any) -> None:
        """Keeps plain data for the next process; what cannot be written is not kept."""
        if self.is_safe or self._make():
            body = _dumps(note)
            self._put(self._place("note of " + about), content_hash(body).encode() + body)

    def sweep(self) -> None:
        """Once a day: removes what was not used for a month, and the oldest of too much."""
        if not self.is_safe:
            return
        marker = os.path.join(self.folder, _SWEPT)
        now = _time()
        try:
            if now - os.stat(marker).st_mtime < _DAY_SECONDS:
                return
        except OSError:
            pass
        try:
            with open(marker, "wb"):
                pass
            os.utime(marker)
            _remove_old(self.folder, now)
        except OSError:
            return

    def _place(self, path: str) -> str:
        name = content_hash(path.encode("utf-8", "surrogateescape"))
        return os.path.join(self.folder, name + _SUFFIX)

    def _make(self) -> bool:
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
        except OSError:
            return False
        self.is_safe = _is_own_folder(os.path.dirname(self.folder)) and _is_own_folder(self.folder)
        return self.is_safe


def _contents(place: str) -> bytes | None:
    fd = _open(place, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        found = _fstat(fd)
        if not stat.S_ISREG(found.st_mode) or not _is_own(found) or found.st_size < 2 * _HASH:
            return None
        if _time() - found.st_mtime > _DAY_SECONDS:
            os.utime(fd)  # it is in use
        parts = []
        left = found.st_size
        while left:
            part = _read(fd, left)
            if not part:
                return None
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        _close(fd)


def _is_own(found: os.stat_result) -> bool:
    """Whether it is this user's, and nobody else may write to it."""
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _is_own_folder(folder: str) -> bool:
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and _is_own(found)


def _remove_old(folder: str, now: float) -> None:
    entries: list[tuple[float, int, str]] = []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name != _SWEPT:
                about = entry.stat(follow_symlinks=False)
                entries.append((about.st_mtime, about.st_size, entry.path))
    entries.sort(reverse=True)
    total = 0
    for modified, size, path in entries:
        total += size
        if now - modified > _UNUSED_SECONDS or total > _SIZE_MAX:
            try:
                os.unlink(path)
            except OSError:
                continue

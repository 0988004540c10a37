"""Frames between the ``pivot`` program and this process.

A frame is a little-endian ``u32`` of bytes and one JSON object in UTF-8. Everything needed here
is bound before user code is imported, since that may replace ``json.dumps`` or ``os.write``, and
the descriptor lies high up and close-on-exec, where programs that tidy up do not find it.

JSON has no word for some values that params may have; they travel as an object with one key:
``{"$float": "inf"}`` (also ``"-inf"`` and ``"nan"``) and ``{"$int": "18446744073709551616"}`` for
integers beyond 64 bits.
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from typing import Any, TypeAlias

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

Message: TypeAlias = dict[str, Any]

MAX_FRAME_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20

_read = os.read
_write = os.write
_fstat = os.fstat
_close = os.close
_isfinite = math.isfinite
_INTEGERS = (-(1 << 63), (1 << 63) - 1)
_NOT_FINITE = ("inf", "-inf", "nan")


class _Encoder(json.JSONEncoder):
    """The standard encoder with its methods of now, whatever is done to them later."""

    encode = json.JSONEncoder.encode
    iterencode = json.JSONEncoder.iterencode
    default = json.JSONEncoder.default


_encode = _Encoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


def encode(message: Message) -> bytes:
    """The JSON of a frame, without its length."""
    # A lone surrogate has no UTF-8; one in a message of the user's becomes a question mark.
    return _encode(message).encode("utf-8", "replace")


def decode(body: bytes) -> Message:
    """The inverse of :func:`encode`."""
    message = _decode(body.decode("utf-8"))
    if not isinstance(message, dict):
        raise ValueError("a message is not a JSON object")
    return message


class ChannelClosed(Exception):
    """The other side is gone, or user code closed our descriptor."""


class Channel:
    """One end of the connection to the ``pivot`` program."""

    def __init__(self, fd: int) -> None:
        self._fd = _move_up(fd)
        self._identity = self._who()
        # A child that user code forks must not keep the connection open past our own end.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.close)

    def send(self, message: Message) -> None:
        """Sends one frame, or raises :class:`ChannelClosed`."""
        body = encode(message)
        if len(body) > MAX_FRAME_BYTES:
            raise ValueError(f"a message of {len(body)} bytes is too large")
        self._check()
        rest = memoryview(len(body).to_bytes(4, "little") + body)
        while rest:
            try:
                rest = rest[_write(self._fd, rest) :]
            except OSError as error:
                raise ChannelClosed from error

    def receive(self) -> Message:
        """Waits for the next frame, or raises :class:`ChannelClosed` at the connection's end."""
        self._check()
        length = int.from_bytes(self._exactly(4), "little")
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a message of {length} bytes is too large")
        return decode(self._exactly(length))

    def detach(self) -> int:
        """Gives the descriptor away; this end is then closed."""
        self._check()
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Closes the descriptor, unless it has become somebody else's."""
        if self._fd >= 0 and self._who() == self._identity:
            _close(self._fd)
        self._fd = -1

    def _exactly(self, count: int) -> bytes:
        # In chunks: an announced length is no reason to allocate as much.
        parts: list[bytes] = []
        while count:
            try:
                part = _read(self._fd, min(count, _CHUNK_BYTES))
            except OSError as error:
                raise ChannelClosed from error
            if not part:
                raise ChannelClosed
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _who(self) -> tuple[int, int, int] | None:
        try:
            found = _fstat(self._fd)
        except OSError:
            return None
        return stat.S_IFMT(found.st_mode), found.st_dev, found.st_ino

    def _check(self) -> None:
        """Refuses a number that now belongs to a file which user code opened."""
        if self._identity is None or self._who() != self._identity:
            raise ChannelClosed


def _move_up(fd: int) -> int:
    """A close-on-exec duplicate with a high number; ``fd`` itself is closed."""
    if fcntl is None:
        os.set_inheritable(fd, False)
        return fd
    for lowest in (900, 200, 50):  # the usual limit is 1024 descriptors
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:
            continue
        _close(fd)
        return high
    os.set_inheritable(fd, False)
    return fd


def hello() -> Message:
    """The first frame: who we are."""
    return {"type": "hello", "proto": 1, "py": list(sys.version_info[:3])}


def to_wire(value: Any) -> Any:
    """JSON data with the numbers that JSON lacks in their own form."""
    if isinstance(value, float):
        return value if _isfinite(value) else {"$float": str(value)}
    if isinstance(value, int) and not isinstance(value, bool):
        fits = _INTEGERS[0] <= value <= _INTEGERS[1]
        return value if fits else {"$int": str(value)}
    if isinstance(value, dict):
        return {key: to_wire(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_wire(item) for item in value]
    return value


def _is_integer(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal()


def from_wire(value: Any) -> Any:
    """The inverse of :func:`to_wire`; a mapping that it never writes is just a mapping."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, item),) = value.items()
            if key == "$float" and isinstance(item, str) and item in _NOT_FINITE:
                return float(item)
            if key == "$int" and isinstance(item, str) and _is_integer(item):
                return int(item)
        return {key: from_wire(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_wire(item) for item in value]
    return value

"""The walk over live objects that turns one component into a digest.

Handlers are generators: what they yield is encoded before they go on. The walk keeps them on a
list, so data may be nested to any depth. An object met again is written as the number of its
first visit, which makes cycles finite and keeps sharing visible.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from struct import pack
from typing import TYPE_CHECKING, Any

from ._component import Component, Key, Mode
from ._hashing import new_hash
from ._scripts import SCRIPT

if TYPE_CHECKING:
    from ._graph import Graph

__all__ = ["Encoder", "Steps", "Task", "is_scalar", "type_name"]

Steps = Generator[Any, None, None]
Handler = Callable[["Encoder", Any], Steps]

# Library objects are looked into, but not without end: a logger leads to every logger there is.
_LIBRARY_OBJECTS_MAX = 20_000
_VISITED_MAX = 10_000  # objects of one component that are compared with those of others
_SCRIPT_TEXT_MAX = 500  # longer texts name no script


class Task:
    """Work to be done in place, as opposed to an object to be encoded."""

    __slots__ = ("steps",)

    def __init__(self, steps: Steps) -> None:
        self.steps = steps


class Encoder:
    """Writes the digest of one component."""

    def __init__(self, graph: Graph, component: Component, mode: Mode) -> None:
        self.graph = graph
        self.component = component
        self.mode = mode
        self.hash = new_hash()
        self.write = self.hash.update
        self.library_objects = 0
        self.visited: list[tuple[int, Any]] = []
        """The first objects that were met, each with its number, or -1 where there is no order."""
        self._unordered = [False]
        self._count = 0
        self._seen: list[dict[int, tuple[int, Any]]] = [{}]
        self._outer: list[tuple[Any, int, int]] = []
        self._lowest = 1 << 60
        self._closed: dict[int, tuple[bytes, Any]] = {}

    def run(self, steps: Steps) -> bytes:
        """Encode everything that ``steps`` yields; the digest of the whole."""
        stack = [steps]
        while stack:
            for item in stack[-1]:
                inner = item.steps if type(item) is Task else self._start(item)
                if inner is not None:
                    stack.append(inner)
                    break
            else:
                stack.pop()
        return self.hash.digest()

    def _start(self, item: Any) -> Steps | None:
        # Never `item.__class__`: a proxy answers for another object, or fails.
        kind = type(item)
        try:
            writer = _SCALARS.get(kind)
        except TypeError:  # a metaclass whose instances cannot be hashed
            return self.graph.handler_for(item)(self, item)
        if writer is not None:
            writer(self, item)
            return None
        handler = HANDLERS.get(kind)
        if handler is not None:
            return handler(self, item)
        return self.graph.handler_for(item)(self, item)

    def text(self, text: str) -> None:
        """Write a text with its length."""
        data = text.encode("utf-8", "surrogatepass")
        self.write(b"s%d:" % len(data))
        self.write(data)

    def mark(self, tag: str) -> None:
        """Write what kind of thing follows."""
        self.write(b"<" + tag.encode() + b">")

    def reference(self, key: Key) -> None:
        """Refer to a component instead of writing it here."""
        self.component.edges[key] = None
        self.mark("ref")
        self.text(key.full_label if self.mode.full else key.label)

    def library(self, dotted: str) -> None:
        """Refer to an object of the standard library or of an installed package."""
        self.component.libraries[dotted] = None
        self.mark("lib")
        self.text(dotted)

    def met(self, item: Any) -> bool:
        """Whether the object was written before; if so, its number is written."""
        key = id(item)
        for seen in reversed(self._seen):
            known = seen.get(key)
            if known is not None:
                number = known[0]
                self._lowest = min(self._lowest, number)
                self.write(b"<again>%d;" % number)
                return True
        if len(self.visited) < _VISITED_MAX:
            self.visited.append((-1 if self._unordered[-1] else len(self.visited), item))
        self._seen[-1][key] = (self._count, item)
        self._count += 1
        return False

    def isolate(self, *, ordered: bool = True) -> None:
        """Begin a part with a digest of its own, in which siblings are not remembered."""
        self._unordered.append(not ordered or self._unordered[-1])
        self._outer.append((self.hash, self._count, self._lowest))
        self._seen.append({})
        self._lowest = 1 << 60
        self.hash = new_hash()
        self.write = self.hash.update

    def close(self, item: Any = None) -> bytes:
        """End the part; its digest. A part without references to outside is kept for reuse."""
        digest = self.hash.digest()
        self._unordered.pop()
        self.hash, self._count, lowest = self._outer.pop()
        self.write = self.hash.update
        self._seen.pop()
        if item is not None and self._lowest >= self._count:
            self._closed[id(item)] = (digest, item)
        self._lowest = min(lowest, self._lowest)
        return digest

    def reuse(self, item: Any) -> bool:
        """Write the digest of an immutable object that was written before as a whole."""
        known = self._closed.get(id(item))
        if known is None:
            return False
        self.write(known[0])
        return True

    def opaque(self, item: Any) -> None:
        """An object without a value: what counts is the code that made it."""
        self.component.opaque[type_name(type(item))] = None
        self.mark("opaque")
        self.text(type_name(type(item)))
        path = self.graph.file_behind(item)
        if path is not None:
            # An open file or database: what it will read is its value.
            self.reference(Key("file", "", path))

    def sorted_items(self, items: Iterable[tuple[str, Any]]) -> Steps:
        """Named parts, whatever the order they come in."""
        pairs = sorted(items, key=lambda pair: pair[0])
        self.write(b"{%d" % len(pairs))
        for name, value in pairs:
            self.text(name)
            yield value

    def enter_library_object(self) -> bool:
        """Count one more object of a library; False when it has been enough."""
        self.library_objects += 1
        return self.library_objects <= _LIBRARY_OBJECTS_MAX


def type_name(kind: type) -> str:
    """Module and qualified name of a type."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _write_none(encoder: Encoder, _: None) -> None:
    encoder.write(b"N")


def _write_bool(encoder: Encoder, value: bool) -> None:
    encoder.write(b"T" if value else b"F")


def _write_int(encoder: Encoder, value: int) -> None:
    encoder.write(b"i%x;" % value)


def _write_float(encoder: Encoder, value: float) -> None:
    encoder.write(b"f" + pack("<d", value))


def _write_complex(encoder: Encoder, value: complex) -> None:
    encoder.write(b"c" + pack("<dd", value.real, value.imag))


def _write_str(encoder: Encoder, value: str) -> None:
    if len(value) > 2:
        value = encoder.graph.roots.mask(value)
        if len(value) < _SCRIPT_TEXT_MAX and SCRIPT.search(value):
            encoder.component.strings.append(value)
    encoder.text(value)


def _write_bytes(encoder: Encoder, value: bytes) -> None:
    for needle in encoder.graph.roots.mask_needles():
        raw = needle.encode("utf-8", "surrogateescape")
        if raw in value:
            text = encoder.graph.roots.mask(value.decode("utf-8", "surrogateescape"))
            value = text.encode("utf-8", "surrogateescape")
    encoder.write(b"b%d:" % len(value))
    encoder.write(value)


def _write_word(encoder: Encoder, value: Any) -> None:
    encoder.mark(repr(value))


_SCALARS: dict[type, Callable[[Encoder, Any], None]] = {
    type(None): _write_none,
    bool: _write_bool,
    int: _write_int,
    float: _write_float,
    complex: _write_complex,
    str: _write_str,
    bytes: _write_bytes,
    type(...): _write_word,
    type(NotImplemented): _write_word,
}
SCALARS = frozenset(_SCALARS)


def is_scalar(kind: type) -> bool:
    """Whether values of this exact type have no parts."""
    try:
        return kind in SCALARS
    except TypeError:  # a class that cannot be hashed, thanks to its metaclass
        return False


HANDLERS: dict[Any, Handler] = {}
"""Handlers by exact type; the modules that define them fill this table."""

"""Objects with a state: of the user's classes, of libraries' classes, and those without a value.

The state of an object is its class, its attributes and slots, and what it holds as a container.
Objects of libraries give what they would give to pickle where they say so. Locks, loggers, open
files and generators have no value that could be compared: the code that made them stands for them.
"""

from __future__ import annotations

import collections
import functools
import itertools
import sys
import types
from typing import Any

from ._encoder import HANDLERS, Encoder, Steps, Task, type_name
from ._values import dict_items, reduction, set_items

__all__ = ["instance", "library_instance", "referents"]


def _opaque(encoder: Encoder, value: Any) -> Steps:
    encoder.opaque(value)
    yield from ()


def instance(encoder: Encoder, value: Any) -> Steps:
    """An object of a user's class: the class, and its state."""
    if encoder.met(value):
        return
    encoder.mark("instance")
    kind = type(value)
    hook = getattr(kind, "__pivot_fingerprint__", None)
    yield kind
    if hook is not None:
        # The author of the class says what its value is.
        yield hook(value)
        return
    yield Task(_builtin_content(encoder, value))
    state = _state(value)
    if encoder.mode.order:
        yield list(state)
    yield Task(encoder.sorted_items(state.items()))


def library_instance(encoder: Encoder, value: Any) -> Steps:
    """An object of a library's class: its state, as far as it has one that can be seen."""
    kind = type(value)
    encoder.component.libraries[type_name(kind)] = None
    if encoder.met(value):
        return
    encoder.mark("object")
    encoder.text(type_name(kind))
    if not encoder.enter_library_object():
        encoder.component.opaque[type_name(kind)] = None  # it holds more than is looked at
        return
    top = kind.__module__.partition(".")[0]
    if top in _OPAQUE_MODULES:
        encoder.opaque(value)
        return
    own_form = any(
        name in vars(base)
        for base in kind.__mro__[:-1]
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
        if base is not object
    )
    if own_form or not _has_python_state(kind):
        try:
            parts = value.__reduce_ex__(4)
        except Exception:
            encoder.opaque(value)
            if not own_form:
                yield from referents(value)
                return
        else:
            yield from reduction(encoder, parts)
            if not _has_python_state(kind):
                # What it says to pickle may be a name alone, as that of a ufunc over a function.
                yield from referents(value)
            return
    yield Task(_builtin_content(encoder, value))
    yield Task(encoder.sorted_items(_state(value).items()))


def referents(value: Any) -> Steps:
    """User functions that an object implemented in C holds on to."""
    import gc

    found = [
        item
        for item in gc.get_referents(value)
        if isinstance(item, (types.FunctionType, types.MethodType, functools.partial))
    ]
    found.sort(key=_qualname)
    yield from found


def _qualname(value: Any) -> str:
    return getattr(value, "__qualname__", "")


def _has_python_state(kind: type) -> bool:
    """Whether all of an object's state lies in ``__dict__``, slots and builtin content."""
    size = object.__basicsize__
    for base in kind.__mro__:
        if base is object:
            continue
        if _content_of(base) is not None:
            size = max(size, base.__basicsize__)
            continue
        if not base.__flags__ & (1 << 9):  # not a heap type: implemented in C
            return False
        module = sys.modules.get(base.__module__)
        file = getattr(module, "__file__", None)
        if module is not None and not (isinstance(file, str) and file.endswith((".py", ".pyc"))):
            return False
        size += sum(type(e) is types.MemberDescriptorType for e in vars(base).values()) * 8
    # A type made in C has room for more than it shows.
    shown = [name for name in ("__dict__", "__weakref__") if _has(kind, name)]
    return kind.__basicsize__ <= size + 8 * len(shown)


def _has(kind: type, name: str) -> bool:
    return any(name in vars(base) for base in kind.__mro__)


def _state(value: Any) -> dict[str, Any]:
    """``__dict__`` and all slots."""
    found: dict[str, Any] = {}
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            if slot in ("__dict__", "__weakref__"):
                continue
            name = slot
            if slot.startswith("__") and not slot.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{slot}"
            member = vars(base).get(name)
            if type(member) is types.MemberDescriptorType:
                try:
                    found[name] = member.__get__(value)
                except AttributeError:
                    continue
    namespace = getattr(value, "__dict__", None)
    if isinstance(namespace, dict):
        for name, item in list(namespace.items()):
            if name not in _NOT_STATE:
                found[str(name)] = item
    return found


def _builtin_content(encoder: Encoder, value: Any) -> Steps:
    """What an object of a subclass of a builtin type holds beside its attributes."""
    for base in type(value).__mro__:
        if base is object:
            break
        if base.__module__ == "_ctypes":
            yield Task(_memory(encoder, value, base.__name__))
            break
        convert = _content_of(base)
        if convert is None:
            continue
        encoder.mark(base.__name__)
        if convert is set:
            yield Task(set_items(encoder, value))
        elif convert is dict:
            if base is collections.defaultdict:
                yield value.default_factory
            yield Task(dict_items(encoder, dict(dict.items(value))))
        elif convert is list:
            yield from list(base.__iter__(value))
        else:
            yield convert(value)
        break
    else:
        return
    yield from ()


def _memory(encoder: Encoder, value: Any, kind: str) -> Steps:
    """What an object of `ctypes` holds; an address says nothing."""
    encoder.mark(kind)
    if kind in ("Structure", "Union"):
        for base in reversed(type(value).__mro__):
            for field in vars(base).get("_fields_", ()):
                yield (field[0], getattr(value, field[0]))
    elif kind == "Array":
        yield list(value)
    elif kind == "_SimpleCData" and getattr(value, "_type_", "P") not in "PO":
        yield value.value
    else:
        encoder.opaque(value)


def _content_of(base: type) -> Any:
    """How to get at the content of a builtin type; None for all other types."""
    try:
        return _CONTENT.get(base)
    except TypeError:  # a class that cannot be hashed, thanks to its metaclass
        return None


def _exception_content(value: BaseException) -> Any:
    return value.args


def _bytes_content(value: bytes) -> bytes:
    return bytes.__getitem__(value, slice(None))


def _bytearray_content(value: bytearray) -> bytes:
    return bytes(value)


def _complex_content(value: complex) -> tuple[float, float]:
    return (value.real, value.imag)


# How to get at the content of a builtin base class. The generic ones are never overridden ones.
_CONTENT: dict[type, Any] = {
    list: list,
    tuple: list,
    collections.deque: list,
    dict: dict,
    collections.OrderedDict: dict,
    collections.defaultdict: dict,
    set: set,
    frozenset: set,
    str: str.__str__,
    bytes: _bytes_content,
    bytearray: _bytearray_content,
    bool: int.__int__,
    int: int.__int__,
    float: float.__float__,
    complex: _complex_content,
    BaseException: _exception_content,
}

_NOT_STATE = frozenset({"__weakref__", "__orig_class__"})
_OPAQUE_MODULES = frozenset(
    {
        "_asyncio",
        "_contextvars",
        "_io",
        "_queue",
        "_random",
        "_socket",
        "_sqlite3",
        "_ssl",
        "_thread",
        "_weakref",
        "asyncio",
        "concurrent",
        "contextvars",
        "io",
        "logging",
        "multiprocessing",
        "queue",
        "random",
        "selectors",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "weakref",
        "_weakrefset",
        "itertools",
        "_csv",
        "_struct_iter",
        "select",
        "mmap",
        "zipfile",
        "_ctypes",
        "ctypes",
        "_abc",
    }
)
_OPAQUE_TYPES: set[type] = {
    object,
    type(iter([])),
    type(iter(())),
    type(iter({})),
    type(iter({}.values())),
    type(iter({}.items())),
    type(iter(set())),
    type(iter("")),
    type(iter(b"")),
    type(iter(range(0))),
    type(iter(range(1 << 70))),
    type(reversed([])),
    zip,
    map,
    filter,
    enumerate,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
    type(itertools.count()),
}

for _kind in _OPAQUE_TYPES:
    HANDLERS[_kind] = _opaque

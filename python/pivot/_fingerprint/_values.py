"""Data: how each kind of value is written, by exact type and with a type tag.

Equal digests mean equal behavior, so ``1``, ``1.0`` and ``True`` differ, and so do ``0.0`` and
``-0.0``, a list and a tuple, two orders of one dict. Sets have no order.
"""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import functools
import itertools
import marshal
import operator
import re
import sys
import types
from typing import Any

from ._encoder import HANDLERS, Encoder, Handler, Steps, Task, is_scalar, type_name

__all__ = ["instance", "library_instance"]

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_FAST_FROM = 8  # below this, one call to `marshal` costs more than it saves


def _plain_bytes(encoder: Encoder, items: list[Any]) -> bytes | None:
    """A fast encoding of many scalars at once; None where something needs a closer look."""
    try:
        if not set(map(type, items)) <= _PLAIN:
            return None
    except TypeError:  # a class that cannot be hashed, thanks to its metaclass
        return None
    # Version 2 has neither references nor interned strings: equal items give equal bytes.
    data = marshal.dumps(items, 2)
    for needle in encoder.graph.roots.mask_needles():
        if needle.encode("utf-8", "surrogateescape") in data:
            return None
    return data


def _list(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    encoder.write(b"[%d" % len(value))
    if len(value) >= _FAST_FROM:
        data = _plain_bytes(encoder, value if type(value) is list else list(value))
        if data is not None:
            encoder.write(data)
            return
    yield from value


def _tuple(encoder: Encoder, value: tuple[Any, ...]) -> Steps:
    encoder.write(b"(%d" % len(value))
    if all(map(is_scalar, map(type, value))):
        yield from value
        return
    if encoder.reuse(value):
        return
    if encoder.met(value):
        return
    encoder.isolate()
    yield from value
    digest = encoder.close(value)
    encoder.write(digest)


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Steps:
    if encoder.met(value):
        return
    yield Task(_dict_items(encoder, value))


def _dict_items(encoder: Encoder, value: dict[Any, Any]) -> Steps:
    encoder.write(b"{%d" % len(value))
    if len(value) >= _FAST_FROM:
        keys = _plain_bytes(encoder, list(value))
        values = None if keys is None else _plain_bytes(encoder, list(value.values()))
        if keys is not None and values is not None:
            encoder.write(keys)
            encoder.write(values)
            return
    for key, item in list(value.items()):
        if type(key) is str and key == "__builtins__":
            continue  # `exec` puts it into the namespace it is given
        yield key
        yield item


def _set(encoder: Encoder, value: Any) -> Steps:
    encoder.mark(type(value).__name__)
    if encoder.reuse(value):
        return
    if encoder.met(value):
        return
    yield Task(_set_items(encoder, value))


def _set_items(encoder: Encoder, value: Any) -> Steps:
    digests = []
    for item in list(value):
        encoder.isolate()
        yield item
        digests.append(encoder.close())
    encoder.write(b"%d" % len(digests))
    for digest in sorted(digests):
        encoder.write(digest)


def _range(encoder: Encoder, value: Any) -> Steps:
    encoder.mark(type(value).__name__)
    yield (value.start, value.stop, value.step)


def _deque(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    encoder.mark("deque")
    yield value.maxlen
    yield from list(value)


def _ordered_dict(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("OrderedDict")
    yield Task(_dict(encoder, value))


def _defaultdict(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("defaultdict")
    yield value.default_factory
    yield Task(_dict(encoder, value))


def _counter(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("Counter")
    yield Task(_dict(encoder, value))


def _mapping_proxy(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("mappingproxy")
    yield Task(_dict_items(encoder, dict(value)))


def _namespace(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    encoder.mark("SimpleNamespace")
    yield Task(encoder.sorted_items(vars(value).items()))


def _bytearray(encoder: Encoder, value: Any) -> Steps:
    encoder.mark(type(value).__name__)
    yield bytes(value)


def _memoryview(encoder: Encoder, value: memoryview) -> Steps:
    encoder.mark("memoryview")
    yield (value.format, value.shape, value.readonly)
    encoder.write(value.tobytes())


def _pattern(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("Pattern")
    yield (value.pattern, value.flags)


def _reduced(encoder: Encoder, value: Any) -> Steps:
    """Values of the standard library whose pickle form is the value."""
    encoder.mark(type_name(type(value)))
    try:
        parts = value.__reduce_ex__(2)
    except Exception:
        encoder.opaque(value)
        return
    yield from _reduction(encoder, parts)


def _reduction(encoder: Encoder, parts: Any) -> Steps:
    if isinstance(parts, str):
        encoder.text(parts)
        return
    factory, arguments = parts[0], parts[1]
    state = parts[2] if len(parts) > 2 else None
    if factory is copyreg.__newobj__:  # type: ignore[attr-defined]
        arguments = arguments[1:]
    encoder.text(getattr(factory, "__qualname__", ""))
    yield from arguments
    if isinstance(state, dict):
        yield Task(encoder.sorted_items((str(k), v) for k, v in state.items()))
    else:
        yield state
    for index in (3, 4):
        if len(parts) > index and parts[index] is not None:
            yield from parts[index]


def _path(encoder: Encoder, value: Any) -> Steps:
    encoder.mark(type(value).__name__.replace("Posix", "").replace("Windows", ""))
    yield str(value)


def _decimal(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("Decimal")
    encoder.component.libraries["decimal.Decimal"] = None
    yield str(value)  # exact, with sign, exponent and kind of NaN


def _datetime(encoder: Encoder, value: Any) -> Steps:
    encoder.mark(type(value).__name__)
    yield value.isoformat()
    yield getattr(value, "fold", 0)
    zone = getattr(value, "tzinfo", None)
    if zone is not None:
        yield zone


def _partial(encoder: Encoder, value: functools.partial[Any]) -> Steps:
    if encoder.met(value):
        return
    encoder.mark("partial")
    yield value.func
    yield value.args
    yield Task(encoder.sorted_items(value.keywords.items()))
    yield Task(encoder.sorted_items(vars(value).items()))


def _union(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("type")
    yield getattr(value, "__origin__", None)
    yield getattr(value, "__args__", ())


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
    yield Task(encoder.sorted_items(_state(value).items()))


def library_instance(encoder: Encoder, value: Any) -> Steps:
    """An object of a library's class: its state, as far as it has one that can be seen."""
    kind = type(value)
    encoder.component.libraries[type_name(kind)] = None
    if encoder.met(value):
        return
    encoder.mark("object")
    encoder.text(type_name(kind))
    if not encoder.enter_library_object():
        encoder.component.opaque = True
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
                yield from _referents(value)
                return
        else:
            yield from _reduction(encoder, parts)
            return
    yield Task(_builtin_content(encoder, value))
    yield Task(encoder.sorted_items(_state(value).items()))


def _referents(value: Any) -> Steps:
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
    return kind.__basicsize__ <= size + 16  # `__dict__` and `__weakref__`


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
        convert = _content_of(base)
        if convert is None:
            continue
        encoder.mark(base.__name__)
        if convert is set:
            yield Task(_set_items(encoder, value))
        elif convert is dict:
            if base is collections.defaultdict:
                yield value.default_factory
            yield Task(_dict_items(encoder, dict(dict.items(value))))
        elif convert is list:
            yield from list(base.__iter__(value))
        else:
            yield convert(value)
        break
    else:
        return
    yield from ()


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

_BY_TYPE: tuple[tuple[Any, Handler], ...] = (
    (list, _list),
    (tuple, _tuple),
    (dict, _dict),
    (set, _set),
    (frozenset, _set),
    (range, _range),
    (slice, _range),
    (collections.deque, _deque),
    (collections.OrderedDict, _ordered_dict),
    (collections.defaultdict, _defaultdict),
    (collections.Counter, _counter),
    (types.MappingProxyType, _mapping_proxy),
    (types.SimpleNamespace, _namespace),
    (bytearray, _bytearray),
    (memoryview, _memoryview),
    (re.Pattern, _pattern),
    (dt.datetime, _datetime),
    (dt.date, _datetime),
    (dt.time, _datetime),
    (dt.timedelta, _reduced),
    (dt.timezone, _reduced),
    (operator.itemgetter, _reduced),
    (operator.attrgetter, _reduced),
    (operator.methodcaller, _reduced),
    (functools.partial, _partial),
    (types.GenericAlias, _union),
    (types.UnionType, _union),
)
for _kind, _handler in _BY_TYPE:
    HANDLERS[_kind] = _handler
for _kind in _OPAQUE_TYPES:
    HANDLERS[_kind] = _opaque

BY_NAME = {
    "decimal.Decimal": _decimal,
    "array.array": _reduced,
    "uuid.UUID": _path,
    "pathlib.PosixPath": _path,
    "pathlib.PurePosixPath": _path,
    "pathlib.WindowsPath": _path,
    "pathlib.PureWindowsPath": _path,
    "pathlib._local.PosixPath": _path,
    "pathlib._local.PurePosixPath": _path,
    "typing._GenericAlias": _union,
    "typing._UnionGenericAlias": _union,
    "typing.Union": _union,
}
"""Handlers of types whose module the engine does not import."""

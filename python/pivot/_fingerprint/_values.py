"""Data: how each kind of value is written, by exact type and with a type tag.

Equal digests mean equal behavior, so ``1``, ``1.0`` and ``True`` differ, and so do ``0.0`` and
``-0.0``, a list and a tuple, two orders of one dict. Sets have no order.
"""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import functools
import marshal
import operator
import re
import types
from typing import Any

from ._encoder import HANDLERS, Encoder, Handler, Steps, Task, is_scalar, type_name

__all__ = ["BY_NAME", "dict_items", "reduction", "set_items"]

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
    yield Task(dict_items(encoder, value))


def dict_items(encoder: Encoder, value: dict[Any, Any]) -> Steps:
    """The items of a dict, in their order."""
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
    yield Task(set_items(encoder, value))


def set_items(encoder: Encoder, value: Any) -> Steps:
    """The items of a set, in no order."""
    digests = []
    for item in list(value):
        encoder.isolate(ordered=False)
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
    yield Task(dict_items(encoder, dict(value)))


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
    yield from reduction(encoder, parts)


def reduction(encoder: Encoder, parts: Any) -> Steps:
    """What an object gives to pickle, without the place of its factory."""
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

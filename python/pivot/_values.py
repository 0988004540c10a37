"""Values of params as JSON data: converting, merging, comparing."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]

MAX_DEPTH = 64


class NotJson(ValueError):
    """A value that has no form in JSON; ``loc`` are the keys that lead to it."""

    def __init__(self, message: str, loc: tuple[object, ...]) -> None:
        super().__init__(message)
        self.loc = loc


def to_json(value: Any, loc: tuple[object, ...] = ()) -> Json:
    """``value`` as JSON data, or :class:`NotJson`.

    Beside JSON's own kinds it knows tuples, mappings, enumerations, paths, dates, dataclasses,
    namespaces, models, and numbers of NumPy and the standard library.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return to_json(value.value, loc)
    if isinstance(value, str):
        return _checked_text(value, loc)
    # Subclasses, such as `IntEnum` and `numpy.float64`, become the plain kind.
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if len(loc) > MAX_DEPTH:
        raise NotJson(f"is nested more than {MAX_DEPTH} levels deep", loc[:3])
    if isinstance(value, Mapping):
        items: Mapping[Any, Any] = value
        return {_key(key, loc): to_json(item, (*loc, key)) for key, item in items.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, (*loc, index)) for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return to_json(os.fspath(value), loc)
    return _object_to_json(value, loc)


def _object_to_json(value: Any, loc: tuple[object, ...]) -> Json:
    kind = type(value)
    if not isinstance(value, type):
        fields = getattr(kind, "__dataclass_fields__", None)
        if fields is not None:
            return {name: to_json(getattr(value, name), (*loc, name)) for name in fields}
        for method, arguments in (("model_dump", {"mode": "json"}), ("isoformat", {})):
            if hasattr(kind, method):
                return to_json(getattr(value, method)(**arguments), loc)
        if kind.__name__ == "SimpleNamespace":
            return to_json(vars(value), loc)
        # NumPy's scalars and arrays of no dimension hand out the Python object.
        if hasattr(kind, "item") and getattr(value, "shape", None) == ():
            return to_json(value.item(), loc)
        if kind.__name__ in ("Decimal", "UUID", "Fraction"):
            return str(value)
    what = f"the class `{value.__name__}`" if isinstance(value, type) else f"`{kind.__name__}`"
    raise NotJson(f"has no form in JSON ({what})", loc)


def _key(key: object, loc: tuple[object, ...]) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return str(_checked_text(key, loc))
    # YAML has such keys as well, and its JSON form has them as text.
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, (int, float)):
        return str(key)
    raise NotJson(f"has a key that is not a string: {key!r:.80}", loc)


def _checked_text(text: str, loc: tuple[object, ...]) -> str:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise NotJson("holds text that is not Unicode", loc) from None
    return str(text)


def merge(base: Json, override: Json) -> Json:
    """``override`` laid over ``base``: mappings merge key by key, everything else replaces."""
    if not isinstance(base, dict) or not isinstance(override, dict):
        return override
    merged: JsonObject = dict(base)
    for key, value in override.items():
        merged[key] = merge(merged[key], value) if key in merged else value
    return merged


def difference(base: Json, target: JsonObject) -> JsonObject:
    """The smallest override that makes ``target`` out of ``base``, as :func:`merge` applies it.

    A key that only ``base`` has cannot be removed by an override and is left alone.
    """
    if not isinstance(base, dict):
        return target
    changed: JsonObject = {}
    for key, value in target.items():
        if key not in base:
            changed[key] = value
        elif not same(base[key], value):
            both = isinstance(base[key], dict) and isinstance(value, dict)
            changed[key] = difference(base[key], value) if both else value
    return changed


def same(left: Json, right: Json) -> bool:
    """Equality of JSON data in which ``1``, ``1.0`` and ``True`` differ and NaN equals itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right or (left != left and right != right)

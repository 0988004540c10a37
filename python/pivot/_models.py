"""What a params model is: Pydantic's, a dataclass or a namespace, behind one interface.

Models are recognized by their methods and never imported, so this works with Pydantic 2 and 1,
and without it. A model's *source* is the class (its defaults count) or an instance (its values
count); :class:`Model` builds an instance from a source and overrides in JSON data.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from pivot._errors import Detail, did_you_mean
from pivot._values import Json, JsonObject, NotJson, merge, to_json

_dumps = json.dumps
_loads = json.loads
_MISSING: Any = object()


class Invalid(Exception):
    """The values do not fit the model."""

    def __init__(self, details: Iterable[Detail]) -> None:
        self.details = tuple(details)
        super().__init__("; ".join(f"{'.'.join(d.loc)}: {d.message}" for d in self.details))


class Model:
    """A class that params are instances of."""

    def __init__(self, model_class: Any) -> None:
        self.model_class = model_class
        self.name: str = model_class.__name__

    # What differs between the kinds of models.

    def field_names(self) -> list[str]:
        """The names of the fields, in order."""
        raise NotImplementedError

    def allows_unknown(self) -> bool:
        """Whether the model takes values for fields that it does not declare."""
        return False

    def default(self, field: str) -> Any:
        """The default of a field, or ``_MISSING``."""
        raise NotImplementedError

    def annotation(self, field: str) -> Any:
        """The declared type of a field."""
        raise NotImplementedError

    def input_key(self, field: str) -> str:
        """The key under which the constructor takes a field."""
        return field

    def construct(self, values: dict[str, Any]) -> Any:
        """An instance from values by input key; raises the library's own errors."""
        raise NotImplementedError

    def dump(self, instance: Any) -> JsonObject:
        """The instance as JSON data."""
        return to_json({name: getattr(instance, name) for name in self.field_names()})

    # What they share.

    def build(self, source: Any, overrides: JsonObject) -> Any:
        """An instance: the values of ``source`` with ``overrides`` laid over them.

        Raises :class:`Invalid` with one finding for each value that does not fit.
        """
        is_class = isinstance(source, type)
        if not is_class and not overrides:
            return source
        values = {} if is_class else self._values_of(source)
        findings: list[Detail] = []
        for key, value in overrides.items():
            field = self._field(key)
            if field is None:
                if self.allows_unknown():
                    values[key] = value
                else:
                    hint = did_you_mean(key, self.field_names())
                    findings.append(Detail((key,), f"`{self.name}` has no field `{key}`{hint}"))
                continue
            input_key = self.input_key(field)
            current = values.get(input_key, _MISSING)
            if current is _MISSING:
                current = self._default_or_missing(field)
            try:
                values[input_key] = self._overridden(field, current, value)
            except Invalid as invalid:
                findings += [Detail((field, *d.loc), d.message) for d in invalid.details]
            except NotJson as error:
                findings.append(Detail((field, *error.loc), str(error)))
        if findings:
            raise Invalid(findings)
        return self._validated(values)

    def required(self, source: Any) -> set[str]:
        """The fields for which ``source`` has no value."""
        if not isinstance(source, type):
            return set()
        return {n for n in self.field_names() if self._default_or_missing(n) is _MISSING}

    def _values_of(self, source: Any) -> dict[str, Any]:
        return {self.input_key(name): getattr(source, name) for name in self.field_names()}

    def _field(self, key: str) -> str | None:
        names = self.field_names()
        if key in names:
            return key
        return next((name for name in names if self.input_key(name) == key), None)

    def _default_or_missing(self, field: str) -> Any:
        try:
            return self.default(field)
        except Exception:
            # A factory that fails will fail again, with its own words, when it is needed.
            return _MISSING

    def _overridden(self, field: str, current: Any, value: Json) -> Any:
        """The value of ``field`` after ``value`` was laid over ``current``."""
        if not isinstance(value, dict):
            return value
        nested = model_of_instance(current)
        if nested is not None:
            return nested.build(current, value)
        if isinstance(current, dict) and current:
            return merge(to_json(current), value)
        nested = model_in_annotation(self.annotation(field))
        if nested is not None and current is _MISSING:
            unknown = nested.unknown_keys(value)
            if unknown:
                raise Invalid(unknown)
        return value

    def unknown_keys(self, values: JsonObject) -> list[Detail]:
        """Findings for keys that name no field, here and in the models of fields."""
        if self.allows_unknown():
            return []
        findings: list[Detail] = []
        for key, value in values.items():
            field = self._field(key)
            if field is None:
                hint = did_you_mean(key, self.field_names())
                findings.append(Detail((key,), f"`{self.name}` has no field `{key}`{hint}"))
            elif isinstance(value, dict):
                nested = model_in_annotation(self.annotation(field))
                if nested is not None:
                    inner = nested.unknown_keys(value)
                    findings += [Detail((key, *d.loc), d.message) for d in inner]
        return findings

    def _validated(self, values: dict[str, Any]) -> Any:
        try:
            return self.construct(values)
        except Exception as error:
            findings = _findings(error)
            if findings is None:
                raise
            raise Invalid(findings) from None


class _Pydantic2(Model):
    def field_names(self) -> list[str]:
        return list(self.model_class.model_fields)

    def allows_unknown(self) -> bool:
        return self.model_class.model_config.get("extra") == "allow"

    def default(self, field: str) -> Any:
        info = self.model_class.model_fields[field]
        return _MISSING if info.is_required() else info.get_default(call_default_factory=True)

    def annotation(self, field: str) -> Any:
        return self.model_class.model_fields[field].annotation

    def input_key(self, field: str) -> str:
        info = self.model_class.model_fields[field]
        alias = info.validation_alias or info.alias
        # `AliasChoices` lists several; any of them will do.
        alias = next(iter(getattr(alias, "choices", [])), alias)
        return alias if isinstance(alias, str) else field

    def _values_of(self, source: Any) -> dict[str, Any]:
        values = super()._values_of(source)
        return values | dict(getattr(source, "model_extra", None) or {})

    def construct(self, values: dict[str, Any]) -> Any:
        try:
            return self.model_class.model_validate(values)
        except Exception as error:
            # Overrides are JSON: a strict model takes `"2024-01-31"` for a date only from JSON.
            if _findings(error) is None:
                raise
            try:
                return self.model_class.model_validate_json(_dumps(values))
            except Exception:
                raise error from None

    def dump(self, instance: Any) -> JsonObject:
        # A round trip leaves out computed fields, which nobody could pass in again.
        return to_json(instance.model_dump(mode="json", round_trip=True))


class _Pydantic1(Model):
    def field_names(self) -> list[str]:
        return list(self.model_class.__fields__)

    def allows_unknown(self) -> bool:
        extra = self.model_class.__config__.extra
        return getattr(extra, "value", extra) == "allow"

    def default(self, field: str) -> Any:
        info = self.model_class.__fields__[field]
        return _MISSING if info.required else info.get_default()

    def annotation(self, field: str) -> Any:
        return self.model_class.__fields__[field].outer_type_

    def input_key(self, field: str) -> str:
        return self.model_class.__fields__[field].alias

    def construct(self, values: dict[str, Any]) -> Any:
        return self.model_class.parse_obj(values)

    def dump(self, instance: Any) -> JsonObject:
        return to_json(_loads(instance.json()))


class _Dataclass(Model):
    def field_names(self) -> list[str]:
        fields = self.model_class.__dataclass_fields__
        # `ClassVar` and `InitVar` are listed as well, and are no fields.
        return [n for n, f in fields.items() if f._field_type.name == "_FIELD" and f.init]

    def default(self, field: str) -> Any:
        info = self.model_class.__dataclass_fields__[field]
        if type(info.default).__name__ != "_MISSING_TYPE":
            return info.default
        if type(info.default_factory).__name__ != "_MISSING_TYPE":
            return info.default_factory()
        return _MISSING

    def annotation(self, field: str) -> Any:
        declared = self.model_class.__dataclass_fields__[field].type
        return resolve_annotation(declared, _module_namespace(self.model_class))

    def construct(self, values: dict[str, Any]) -> Any:
        missing = [
            name
            for name in self.field_names()
            if name not in values and self._default_or_missing(name) is _MISSING
        ]
        if missing:
            raise Invalid(Detail((name,), "has no value and no default") for name in missing)
        built = dict(values)
        for name, value in values.items():
            nested = model_in_annotation(self.annotation(name)) if isinstance(value, dict) else None
            if nested is not None:
                try:
                    built[name] = nested.build(nested.model_class, value)
                except Invalid as invalid:
                    raise Invalid(
                        Detail((name, *d.loc), d.message) for d in invalid.details
                    ) from None
        return self.model_class(**built)


class _Namespace(Model):
    """``types.SimpleNamespace``: an instance is its own declaration."""

    def __init__(self, source: types.SimpleNamespace) -> None:
        super().__init__(type(source))
        self._source = source

    def field_names(self) -> list[str]:
        return list(vars(self._source))

    def default(self, field: str) -> Any:
        return getattr(self._source, field)

    def annotation(self, field: str) -> Any:
        return None

    def construct(self, values: dict[str, Any]) -> Any:
        return type(self._source)(**values)

    def dump(self, instance: Any) -> JsonObject:
        return to_json(vars(instance))


def model_of(source: Any) -> Model | None:
    """The model of a class or an instance, if it is one."""
    return model_of_class(source) if isinstance(source, type) else model_of_instance(source)


def model_of_class(candidate: Any) -> Model | None:
    """The model that ``candidate`` is, if it is one."""
    if not isinstance(candidate, type):
        return None
    if hasattr(candidate, "model_validate") and hasattr(candidate, "model_fields"):
        return _Pydantic2(candidate) if candidate.__name__ != "BaseModel" else None
    if hasattr(candidate, "parse_obj") and hasattr(candidate, "__fields__"):
        return _Pydantic1(candidate) if candidate.__name__ != "BaseModel" else None
    if hasattr(candidate, "__dataclass_fields__"):
        return _Dataclass(candidate)
    return None


def model_of_instance(candidate: Any) -> Model | None:
    """The model that ``candidate`` is an instance of, if it is one."""
    if candidate is None or isinstance(candidate, (type, str, int, float, dict, list)):
        return None
    if isinstance(candidate, types.SimpleNamespace):
        return _Namespace(candidate)
    return model_of_class(type(candidate))


def model_in_annotation(annotation: Any) -> Model | None:
    """The model in a type: ``M``, ``Annotated[M, ...]``, ``Optional[M]`` or ``M | None``."""
    for _ in range(8):
        if hasattr(annotation, "__metadata__"):
            annotation = annotation.__origin__
        elif _is_union(annotation):
            inner = [part for part in annotation.__args__ if part is not type(None)]
            if len(inner) != 1:
                return None
            annotation = inner[0]
        else:
            break
    return model_of_class(annotation)


def _is_union(annotation: Any) -> bool:
    if isinstance(annotation, types.UnionType):
        return True
    return getattr(annotation, "__origin__", None) is typing.Union


def resolve_annotation(annotation: Any, namespace: dict[str, Any]) -> Any:
    """An annotation that was written or kept as text, evaluated; the text where that fails."""
    text = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(text, str):
        return annotation
    try:
        return eval(text, namespace)
    except Exception:
        # Names that exist only for type checkers are usual.
        return text


def _module_namespace(owner: Any) -> dict[str, Any]:
    module = sys.modules.get(getattr(owner, "__module__", None) or "")
    return dict(vars(module)) if module is not None else {}


def _findings(error: BaseException) -> list[Detail] | None:
    """The single findings of a validation error, if it is one."""
    if isinstance(error, Invalid):
        return list(error.details)
    errors: Callable[[], Iterable[Any]] | None = getattr(error, "errors", None)
    if not callable(errors):
        return None
    try:
        return [Detail(finding["loc"], str(finding["msg"])) for finding in errors()]
    except Exception:
        return None

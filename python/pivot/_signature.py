"""The arguments that a stage's function takes, seen through decorators."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

from pivot._models import resolve_annotation

_MAX_WRAPPERS = 100


class Parameter:
    """One named argument of a function."""

    __slots__ = ("_annotation", "_namespace", "default", "is_keyword_only", "name", "pass_by_name")

    def __init__(self, parameter: inspect.Parameter, namespace: dict[str, Any]) -> None:
        self.name = parameter.name
        self.default: Any = parameter.default
        self.is_keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        self.pass_by_name = parameter.kind is not parameter.POSITIONAL_ONLY
        self._annotation: Any = parameter.annotation
        self._namespace = namespace

    @property
    def has_default(self) -> bool:
        """Whether the function can be called without it."""
        return self.default is not inspect.Parameter.empty

    @property
    def annotation(self) -> Any:
        """Its declared type, evaluated where possible, else as text; ``None`` if there is none."""
        if self._annotation is inspect.Parameter.empty:
            return None
        return resolve_annotation(self._annotation, self._namespace)


class Signature:
    """The named arguments of a function, and whether it takes more by name."""

    __slots__ = ("function_name", "parameters", "takes_any_name")

    def __init__(
        self, function_name: str, parameters: list[Parameter], takes_any_name: bool
    ) -> None:
        self.function_name = function_name
        self.parameters = parameters
        self.takes_any_name = takes_any_name

    def names(self) -> list[str]:
        """The names of all arguments."""
        return [parameter.name for parameter in self.parameters]


def signature_of(function: Any) -> Signature:
    """The arguments of ``function``.

    A decorator's ``(*args, **kwargs)`` is taken to hand on to the function that it wraps, if
    ``functools.wraps`` tells which; a decorator with arguments of its own is taken at its word.
    """
    found: list[Parameter] = []
    takes_any_name = False
    by_position_only = False
    current = function
    for _ in range(_MAX_WRAPPERS):
        wrapped = getattr(current, "__wrapped__", None)
        own = _own_signature(current)
        kinds = [p.kind for p in own.parameters.values()] if own is not None else []
        if own is not None:
            namespace = _namespace(current)
            known = {parameter.name for parameter in found}
            for parameter in own.parameters.values():
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    continue
                if parameter.name not in known:
                    found.append(Parameter(parameter, namespace))
        takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds
        hands_on = own is None or takes_any_name or inspect.Parameter.VAR_POSITIONAL in kinds
        if wrapped is None or not hands_on:
            break
        by_position_only = by_position_only or (own is not None and not takes_any_name)
        current = wrapped
    if by_position_only:
        # `*args` without `**kwargs` in between: names would not get through.
        for parameter in found:
            parameter.pass_by_name = parameter.is_keyword_only
    # Positional arguments first: a wrapper's keyword-only ones come before what it wraps.
    found.sort(key=lambda parameter: parameter.is_keyword_only)
    return Signature(name_of(function), found, takes_any_name)


def name_of(function: Any) -> str:
    """The name of a function for messages."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def innermost(function: Any) -> Any:
    """The function inside partials, methods and decorators that tell what they wrap."""
    for _ in range(_MAX_WRAPPERS):
        if isinstance(function, functools.partial):
            function = function.func
            continue
        inner = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
        if inner is None:
            break
        function = inner
    return function


def _own_signature(function: Any) -> inspect.Signature | None:
    try:
        if sys.version_info >= (3, 14):
            # Without this, a name that exists only for type checkers would be an error.
            from annotationlib import Format

            return inspect.signature(
                function, follow_wrapped=False, annotation_format=Format.FORWARDREF
            )
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None  # written in C, such as what `lru_cache` returns


def _namespace(function: Any) -> dict[str, Any]:
    """The names that annotations of ``function`` may use."""
    function = innermost(function)
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "__call__", function)  # noqa: B004
    names: dict[str, Any] = dict(getattr(function, "__globals__", {}))
    code = getattr(function, "__code__", None)
    cells: tuple[Any, ...] = getattr(function, "__closure__", None) or ()
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return names

"""Checks of the arguments that declare a stage: types and shapes, with words for what is wrong.

Every function returns the value in the form that a declaration keeps, or raises a
:class:`DeclarationError` that names the argument; the caller adds the stage and the place.
"""

from __future__ import annotations

# `collections.abc` under the name that the interpreter has loaded anyway: importing the package
# `collections` would double the cost of `from pivot import stage`.
from _collections_abc import Iterable, Mapping

from pivot._errors import DeclarationError
from pivot._outs import Metric, Out, Plot, checked_path, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_NAME_LENGTH = 200


def function(value: object, stage: object) -> None:
    """Refuses what cannot be a stage's function."""
    if isinstance(value, type):
        raise DeclarationError(
            f"`{value.__name__}` is a class, and a stage is a function",
            stage=stage if isinstance(stage, str) else value.__name__,
            hint="declare a function, or one of the class's static methods",
        )
    if not callable(value):
        raise DeclarationError(f"a stage must be a function, not {describe(value)}")


def name(value: object) -> str:
    """A stage's name, with its variant where it has one."""
    if value is None or value == "<lambda>":
        raise DeclarationError(
            "a function without a name of its own needs `name=...` to be a stage", argument="name"
        )
    if not isinstance(value, str):
        raise DeclarationError(f"`name` must be a string, not {describe(value)}", argument="name")
    base, at, variant = value.partition("@")
    allowed = all(c.isascii() and (c.isalnum() or c in "_@.-") for c in value)
    if not allowed or not base or value[0] in ".-" or len(value) > MAX_NAME_LENGTH:
        raise DeclarationError(
            f"`{value}` cannot be a stage's name",
            argument="name",
            hint="a name has up to 200 letters from A to Z, digits, `_`, `-` and `.`, and does not"
            " start with `-` or `.`; give one with `name=...`",
        )
    if (at and not variant) or "@" in variant:
        raise DeclarationError(
            f"`{value}` cannot be a stage's name",
            argument="name",
            hint="an `@` stands between a name and its variant",
        )
    return value


def items(argument: str, value: object, noun: str = "paths") -> list[Any]:
    """The list that an argument is."""
    if value is None:
        return []
    if type(value) is list or type(value) is tuple:  # at once: there may be thousands of stages
        return list(value)
    if isinstance(value, (str, bytes, Out)) or hasattr(value, "__fspath__"):
        text = repr(str(value.path if isinstance(value, Out) else value))
        raise DeclarationError(
            f"`{argument}` must be a list of {noun}, not {describe(value)}",
            argument=argument,
            hint=f"write `{argument}=[{text}]`",
        )
    unordered = isinstance(value, (set, frozenset))
    if unordered or isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise DeclarationError(
            f"`{argument}` must be a list of {noun}, not {describe(value)}",
            argument=argument,
            hint="use a list: the order says which argument of the function receives which path"
            if unordered
            else None,
        )
    return list(value)


def paths(argument: str, value: object) -> list[str]:
    """A list of paths."""
    return [checked_path(path, argument) for path in items(argument, value)]


def outs(arguments: Mapping[str, object]) -> list[Out]:
    """The arguments ``outs``, ``metrics`` and ``plots`` as one list."""
    found: list[Out] = []
    kinds: tuple[tuple[str, type[Out]], ...] = (("outs", Out), ("metrics", Metric), ("plots", Plot))
    for argument, kind in kinds:
        given = arguments.get(argument)
        for item in () if given is None else items(argument, given):
            out = item if isinstance(item, Out) else kind(checked_path(item, argument))
            if not isinstance(out, kind):
                raise DeclarationError(
                    f"`{argument}` takes paths and objects of `{kind.__name__}`, not {out!r}",
                    argument=argument,
                    hint=f"move it to `outs`, or write `{kind.__name__}({out.path!r})`",
                )
            found.append(out)
    return found


def params(value: object) -> object:
    """A model or a mapping; what kind it is shows when it is used."""
    if isinstance(value, (str, bytes, int, float, list, tuple, set, frozenset)):
        raise DeclarationError(
            f"`params` must be a model or a mapping, not {describe(value)}",
            argument="params",
            hint="write `params={'name': value}`, or `params=Model` with a Pydantic model",
        )
    return value


def mutex(value: object) -> list[str]:
    """A list of names. A single string is one name: nobody means a list of its letters."""
    names = [value] if isinstance(value, str) else items("mutex", value, "names")
    for item in names:
        if not isinstance(item, str) or not item:
            raise DeclarationError(f"`mutex` takes names, not {describe(item)}", argument="mutex")
    return names


def cwd(value: object) -> str | None:
    """A directory or nothing."""
    return None if value is None else checked_path(value, "cwd")


def resources(value: object) -> dict[str, int | float | str]:
    """Amounts by name."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DeclarationError(
            f"`resources` must be a mapping, not {describe(value)}",
            argument="resources",
            hint="write `resources={'cpus': 2}`",
        )
    amounts: dict[str, Any] = dict(value)
    for key, amount in amounts.items():
        if not isinstance(key, str) or not isinstance(amount, (int, float, str)):
            raise DeclarationError(
                f"`resources` maps names to amounts, not {describe(key)} to {describe(amount)}",
                argument="resources",
            )
    return amounts


def timeout(value: object) -> float | str | None:
    """Seconds or a text; which texts are times is known where they are read."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, type(None))):
        raise DeclarationError(
            f"`timeout` must be seconds or a text, not {describe(value)}",
            argument="timeout",
            hint="write `timeout=90` or `timeout='15m'`",
        )
    return value


def are_mappings(*values: object) -> bool:
    """Whether all of ``values`` are mappings."""
    return all(isinstance(value, Mapping) for value in values)

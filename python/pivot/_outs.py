"""The kinds of outputs that a stage declares.

All of them are values: they compare by content, never change, and stand for their path wherever
Python takes one (``open(MODEL)``, ``deps=[MODEL]``).
"""

from __future__ import annotations

import os

from pivot._errors import DeclarationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Literal, TypeAlias

    PathLike: TypeAlias = str | os.PathLike[str]
    OutKind: TypeAlias = Literal["out", "metric", "plot", "incremental"]


class Out:
    """A file or directory that a stage writes.

    ``cache=False`` leaves it out of the cache: it is then kept by other means, such as git.
    """

    __slots__ = ("cache", "path")
    kind: ClassVar[OutKind] = "out"
    path: str
    cache: bool

    def __init__(self, path: PathLike, *, cache: bool = True) -> None:
        set_field = object.__setattr__  # the object's own refuses
        set_field(self, "path", checked_path(path, type(self).__name__))
        if not isinstance(cache, bool):
            raise DeclarationError(
                f"`cache` of `{self.path}` must be True or False, not {cache!r}", argument="cache"
            )
        set_field(self, "cache", cache)

    def _fields(self) -> tuple[object, ...]:
        return (self.path, self.cache)

    def __fspath__(self) -> str:
        return self.path

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._fields()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an output cannot be changed: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an output cannot be changed: {name}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), self._state()))

    def _state(self) -> dict[str, object]:
        return {"path": self.path, "cache": self.cache}


class Metric(Out):
    """Numbers that tell how well a stage did, in JSON, YAML or TOML.

    Metrics are small and meant to be read in reviews, so they stay in git: ``cache`` is off.
    """

    __slots__ = ()
    kind = "metric"

    def __init__(self, path: PathLike, *, cache: bool = False) -> None:
        super().__init__(path, cache=cache)


class Plot(Out):
    """Data or an image to be drawn.

    ``x`` and ``y`` name the fields of the axes, ``template`` the template that draws them.
    """

    __slots__ = ("template", "x", "y")
    kind = "plot"
    x: str | None
    y: str | None
    template: str | None

    def __init__(
        self,
        path: PathLike,
        x: str | None = None,
        y: str | None = None,
        template: str | None = None,
        *,
        cache: bool = True,
    ) -> None:
        super().__init__(path, cache=cache)
        for name, value in (("x", x), ("y", y), ("template", template)):
            if value is not None and not isinstance(value, str):
                raise DeclarationError(
                    f"`{name}` of plot `{self.path}` must be a string, not {value!r}",
                    argument=name,
                )
            object.__setattr__(self, name, value)

    def _fields(self) -> tuple[object, ...]:
        return (*super()._fields(), self.x, self.y, self.template)

    def _state(self) -> dict[str, object]:
        return super()._state() | {"x": self.x, "y": self.y, "template": self.template}


class IncrementalOut(Out):
    """An output that a stage updates: its last version is there when the stage starts.

    The stage gets a private, writable copy, so it can append to it or change it in place.
    """

    __slots__ = ()
    kind = "incremental"


def _restore(kind: type[Out], state: dict[str, object]) -> Out:
    return kind(**state)  # pyright: ignore[reportArgumentType]


def checked_path(path: object, owner: str) -> str:
    """``path`` as a string; ``owner`` names the argument in the error."""
    try:
        text = os.fspath(path)  # pyright: ignore[reportArgumentType, reportCallIssue]
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise DeclarationError(
            f"`{owner}` needs paths, not {describe(path)}",
            argument=owner,
            hint="a path is a string or a `pathlib.Path`",
        )
    if not text:
        raise DeclarationError(f"`{owner}` has an empty path", argument=owner)
    if any(character in text for character in "\0\n\r"):
        raise DeclarationError(
            f"`{owner}` has a path with a NUL or a line break: {text!r}", argument=owner
        )
    return str(text)


def describe(value: object) -> str:
    """``value`` for a message: short, and with its type where that says more."""
    if value is None or isinstance(value, (str, bytes, int, float)):
        text = repr(value)
        return text if len(text) <= 80 else text[:77] + "..."
    if isinstance(value, type):
        return f"the class `{value.__name__}`"
    return f"an object of type `{type(value).__name__}`"

"""What can be wrong with a pipeline's definition, as exceptions that name stage and argument.

They are raised where a pipeline declares something wrong, also under plain ``python pipeline.py``,
and the helper turns them into the ``failed`` frame of the protocol.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import ClassVar


class Detail:
    """One finding of a params model: the keys that lead to the value, and what is wrong with it."""

    __slots__ = ("loc", "message")

    def __init__(self, loc: Sequence[object], message: str) -> None:
        self.loc = tuple(str(part) for part in loc)
        self.message = message

    def __repr__(self) -> str:
        return f"Detail({'.'.join(self.loc)}: {self.message})"


class PivotError(Exception):
    """A pipeline, stage or params declaration that Pivot cannot use.

    ``stage`` and ``argument`` name what is concerned, ``hint`` says what to do about it, and
    ``file`` and ``line`` are the place of the declaration; each is ``None`` where unknown.
    """

    kind: ClassVar[str] = "declare"

    def __init__(
        self,
        message: str,
        *,
        stage: str | None = None,
        argument: str | None = None,
        hint: str | None = None,
        file: str | None = None,
        line: int | None = None,
        details: Iterable[Detail] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage
        self.argument = argument
        self.hint = hint
        self.file = file
        self.line = line
        self.details = tuple(details)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class DeclarationError(PivotError, TypeError):
    """An argument of a declaration has the wrong type or value."""


class BindingError(PivotError, TypeError):
    """A stage's function has an argument for which there is no value."""

    kind = "bind"


class ParamsError(PivotError, ValueError):
    """A stage's params do not fit their model, or an override names nothing."""

    kind = "params"


class LoadError(PivotError):
    """The pipeline, or a function that ``pivot.yaml`` names, cannot be imported.

    ``traceback`` holds the user's own frames where an exception of theirs is the cause.
    """

    kind = "import"
    traceback: str | None = None


class InternalError(PivotError):
    """A fault of Pivot's own; ``traceback`` is for the report of it."""

    kind = "internal"
    traceback: str | None = None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean `x`?)`` where one of ``known`` is close to ``name``, else nothing."""
    import difflib

    # A key typed in another case is the likeliest slip, and difflib would not see `LR` as `lr`.
    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()
    close = difflib.get_close_matches(folded, list(by_folded), n=1, cutoff=0.6)
    return f"; did you mean `{by_folded[close[0]]}`?" if close else ""

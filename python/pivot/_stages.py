"""A declared stage put together: its function, its params, and where its arguments come from.

Inspecting and running both go through :class:`Stage`, so a stage runs with what was inspected.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

from pivot._binding import Plan, plan
from pivot._declare import Declaration
from pivot._errors import DeclarationError, PivotError
from pivot._failure import bases
from pivot._params import StageParams, overrides_for, resolve
from pivot._signature import Signature, innermost, signature_of
from pivot._values import JsonObject


class Stage:
    """One stage with the signature of its function."""

    __slots__ = ("declaration", "signature")

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        function = declaration.function
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise self._placed(
                DeclarationError(
                    f"stage `{declaration.name}` is a generator function, and calling it would run"
                    " nothing",
                    stage=declaration.name,
                    hint="write the outputs in the function, without `yield`",
                )
            )
        self.signature: Signature = signature_of(function)

    def effective_params(self, overrides: JsonObject) -> tuple[JsonObject, StageParams]:
        """The params with the overrides of all stages, by stage name, laid over them.

        Raises an error when they do not fit or an argument of the function has no value.
        """
        declaration = self.declaration
        try:
            own = overrides_for(declaration.name, declaration.base, overrides)
            params = resolve(declaration.name, declaration.params, self.signature, own)
            effective, _ = params.effective(own)
            self._plan(params, effective, len(declaration.deps), len(declaration.outs))
        except PivotError as error:
            raise self._placed(error) from None
        return effective, params

    def arguments(
        self, effective: JsonObject, deps: Sequence[str], outs: Sequence[str]
    ) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with, from params that were effective at the inspection."""
        declaration = self.declaration
        params = resolve(declaration.name, declaration.params, self.signature, effective)
        bound = self._plan(params, effective, len(deps), len(outs))
        return bound.arguments(deps, outs, declaration.variant, params.received(effective))

    def _plan(self, params: StageParams, effective: JsonObject, deps: int, outs: int) -> Plan:
        variant = self.declaration.variant
        name = self.declaration.name
        return plan(name, self.signature, params, effective, deps=deps, outs=outs, variant=variant)

    def _placed(self, error: PivotError) -> PivotError:
        if error.file is None:
            error.file, error.line = self.declaration.file, self.declaration.line
        return error


def check_names(declarations: Sequence[Declaration], root: str) -> None:
    """Refuses two stages of one name."""
    first: dict[str, Declaration] = {}
    for declaration in declarations:
        other = first.setdefault(declaration.name, declaration)
        if other is not declaration:
            place = f"{project_path(other.file, root) or other.file}:{other.line}"
            raise DeclarationError(
                f"two stages are called `{declaration.name}`; the first is declared at `{place}`",
                stage=declaration.name,
                hint="give one of them another name with `name=...`",
                file=declaration.file,
                line=declaration.line,
            )


def project_path(path: str, root: str) -> str | None:
    """``path`` relative to the project's root if it is absolute and lies inside, else ``None``."""
    for base in bases(root):
        relative = os.path.relpath(os.path.normpath(path), base)
        if os.path.isabs(path) and relative.partition(os.sep)[0] != os.pardir:
            return relative.replace(os.sep, "/")
    return None


def function_name(function: Callable[..., Any]) -> dict[str, str]:
    """Module and qualified name of the function inside wrappers."""
    inner = innermost(function)
    inner = inner if hasattr(inner, "__qualname__") else type(inner)
    return {"module": str(inner.__module__), "qualname": str(inner.__qualname__)}

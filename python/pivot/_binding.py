"""Which value each argument of a stage's function receives.

In this order, for each argument:

1. the argument that is annotated with the params model, or called ``params``: all params;
2. the name of a param: its value;
3. ``variant``, where the stage is one: the variant's name;
4. a default: it is kept;
5. otherwise, if it can be passed by position: the next of the dependencies, then of the outputs.

``*args`` and ``**kwargs`` are tolerated; params without an argument of their own go to the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from pivot._errors import BindingError
from pivot._params import StageParams
from pivot._signature import Parameter, Signature
from pivot._values import JsonObject

Source: TypeAlias = tuple[Literal["params", "param", "variant", "default", "dep", "out"], Any]


class Plan:
    """The source of each argument. Made by :func:`plan`."""

    __slots__ = ("_extra", "_sources")

    def __init__(
        self, sources: list[tuple[Parameter, Source]], extra: list[tuple[str, Source]]
    ) -> None:
        self._sources = sources
        self._extra = extra

    def arguments(
        self, deps: Sequence[str], outs: Sequence[str], variant: str | None, params: Any
    ) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the named arguments to call the function with."""

        def value(source: Source) -> Any:
            kind, which = source
            if kind == "params":
                return params
            if kind == "param":
                return params[which] if isinstance(params, dict) else getattr(params, which)
            if kind == "variant":
                return variant
            return (deps if kind == "dep" else outs)[which]

        positional: list[Any] = []
        named = {name: value(source) for name, source in self._extra}
        pending: list[Any] = []
        for parameter, source in self._sources:
            if parameter.pass_by_name:
                if source[0] != "default":
                    named[parameter.name] = value(source)
            elif source[0] == "default":
                # Needed only if a later argument is passed by position.
                pending.append(parameter.default)
            else:
                positional += [*pending, value(source)]
                pending = []
        return positional, named

    def described(self) -> dict[str, str]:
        """Argument -> where it comes from, for messages and tests."""
        return {parameter.name: kind for parameter, (kind, _) in self._sources}


def plan(
    stage: str,
    signature: Signature,
    params: StageParams,
    effective: JsonObject,
    *,
    deps: int,
    outs: int,
    variant: str | None,
) -> Plan:
    """Finds a source for every argument, or raises :class:`BindingError`.

    ``effective`` are the stage's params, ``deps`` and ``outs`` say how many it has of each.
    """
    free: list[Source] = [("out", index) for index in reversed(range(outs))]
    free.extend(("dep", index) for index in reversed(range(deps)))
    sources: list[tuple[Parameter, Source]] = []
    for parameter in signature.parameters:
        source: Source
        if parameter.name == params.receiver:
            source = ("params", None)
        elif parameter.name in effective:
            source = ("param", parameter.name)
        elif parameter.name == "variant" and variant is not None:
            source = ("variant", None)
        elif parameter.has_default:
            source = ("default", None)
        elif parameter.name not in ("params", "variant") and not parameter.is_keyword_only and free:
            source = free.pop()
        else:
            raise _unbound(stage, signature, parameter, deps + outs)
        sources.append((parameter, source))
    extra = _extra(signature, params, effective)
    receives = any(source[0] in ("params", "param") for _, source in sources) or extra
    if params.model is not None and not receives:
        name = params.model.name
        raise BindingError(
            f"stage `{stage}`: no argument of `{signature.function_name}` receives the params",
            stage=stage,
            argument="params",
            hint=f"add an argument `params: {name}` to `{signature.function_name}`",
        )
    return Plan(sources, extra)


def _extra(
    signature: Signature, params: StageParams, effective: JsonObject
) -> list[tuple[str, Source]]:
    """What is passed to ``**kwargs``."""
    if not signature.takes_any_name or params.receiver is not None:
        return []
    if params.model is not None:
        return [("params", ("params", None))]
    names = signature.names()
    return [(key, ("param", key)) for key in effective if key not in names]


def _unbound(stage: str, signature: Signature, parameter: Parameter, paths: int) -> BindingError:
    name = parameter.name
    if name == "params":
        hint = "declare the params: `params=Model`, or `params={...}`"
    elif name == "variant":
        hint = "only a stage with variants has one; give the argument a default or another name"
    elif parameter.is_keyword_only:
        hint = f"give it a default, or declare a param `{name}`; paths are passed by position"
    else:
        have = "no dependency or output" if paths == 0 else f"only {paths} of them"
        hint = (
            f"dependencies and outputs are passed in order, and the stage declares {have};"
            f" add one, or give `{name}` a default, or declare a param `{name}`"
        )
    return BindingError(
        f"stage `{stage}`: argument `{name}` of `{signature.function_name}` has no value",
        stage=stage,
        argument=name,
        hint=hint,
    )

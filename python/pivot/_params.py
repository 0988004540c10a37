"""A stage's params: where they come from, what overrides them, what the function receives.

The values are, from weakest to strongest: the model's defaults or the declared mapping, then
``params.yaml`` for the stage (for ``base@variant`` first those of ``base``), then ``-S`` options;
mappings merge, everything else replaces. The result in JSON, the *effective* params, is part of
the stage's identity. A key that nothing receives is an error, so a typo never passes silently.

A stage that declares no params may still have overrides: those of its function's arguments.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pivot._errors import Detail, ParamsError, did_you_mean
from pivot._models import (
    Invalid,
    Model,
    model_in_annotation,
    model_of,
    model_of_instance,
)
from pivot._outs import describe
from pivot._signature import Parameter, Signature
from pivot._values import JsonObject, NotJson, difference, merge, to_json

_MAX_FINDINGS_IN_MESSAGE = 5


class StageParams:
    """How one stage gets its params. Made by :func:`resolve`."""

    __slots__ = ("_declared", "_signature", "_stage", "model", "receiver", "source")

    def __init__(
        self,
        stage: str,
        signature: Signature,
        declared: JsonObject | None,
        model: Model | None = None,
        source: Any = None,
        receiver: str | None = None,
    ) -> None:
        self._stage = stage
        self._signature = signature
        self._declared = declared
        self.model = model
        """The model, if the params are one."""
        self.source = source
        """The model's class, or the instance whose values are the defaults."""
        self.receiver = receiver
        """The argument that receives all params as one object."""

    def effective(self, overrides: JsonObject) -> tuple[JsonObject, Any]:
        """The effective params as JSON, and as what the function receives."""
        if self.model is None:
            known = self._declared or {}
            self._check_keys(known)
            self._check_keys(overrides)
            merged = merge(known, overrides)
            return merged, copy.deepcopy(merged)
        values = merge(self._declared or {}, overrides)
        instance = self._build(values)
        return self._dump(instance), instance

    def received(self, effective: JsonObject) -> Any:
        """What the function receives for params that :meth:`effective` made earlier."""
        if self.model is None:
            return copy.deepcopy(effective)
        # Only what differs from the defaults is set, so what JSON cannot carry (secrets, excluded
        # fields, objects) is the model's own.
        required = {key: effective[key] for key in self.model.required(self.source) & {*effective}}
        try:
            defaults = self.model.dump(self.model.build(self.source, required))
        except Exception:
            return self._build(effective)  # two defaults that only together with others are valid
        return self._build({**required, **difference(defaults, effective)})

    def _build(self, values: JsonObject) -> Any:
        assert self.model is not None
        try:
            return self.model.build(self.source, values)
        except Invalid as invalid:
            raise _params_error(self._stage, invalid.details) from None

    def _dump(self, instance: Any) -> JsonObject:
        assert self.model is not None
        try:
            return self.model.dump(instance)
        except Exception as error:
            loc = error.loc if isinstance(error, NotJson) else ()
            text = str(error) if isinstance(error, NotJson) else f"cannot be written: {error}"
            raise _params_error(self._stage, [Detail(loc, text)]) from None

    def _check_keys(self, values: JsonObject) -> None:
        """Refuses keys that no argument receives."""
        if self.receiver is not None or self._signature.takes_any_name:
            return
        names = self._signature.names()
        findings = [
            Detail(
                (key,), f"`{self._signature.function_name}` has no argument `{key}`"
                f"{did_you_mean(key, names)}"
            )
            for key in values
            if key not in names
        ]  # fmt: skip
        if findings:
            raise _params_error(self._stage, findings)


def resolve(
    stage: str, declared: Any, signature: Signature, overrides: JsonObject | None = None
) -> StageParams:
    """Finds out what a stage's params are.

    ``declared`` is what the stage gave as ``params=``: a model class, an instance of one, a
    mapping, or nothing, in which case an argument that is annotated with a model says it.
    """
    model = model_of(declared)
    if model is not None:
        receiver = _receiver_of(model, signature)
        return StageParams(stage, signature, None, model, declared, receiver)
    if declared is not None and not isinstance(declared, Mapping):
        raise ParamsError(
            f"stage `{stage}`: `params` is {describe(declared)}, which is neither a model nor a"
            " mapping",
            stage=stage,
            argument="params",
            hint="use a Pydantic model, a dataclass or a dict",
        )
    try:
        mapping = None if declared is None else to_json(declared)
    except NotJson as error:
        raise _params_error(stage, [Detail(error.loc, str(error))]) from None
    keys = {*(mapping or {}), *(overrides or {})}
    implied = _implied_model(signature, keys)
    if implied is None:
        receiver = "params" if "params" in signature.names() else None
        if mapping is None and not overrides:
            receiver = None
        return StageParams(stage, signature, mapping, receiver=receiver)
    parameter, model, source = implied
    params = StageParams(stage, signature, mapping, model, source, parameter.name)
    if parameter.has_default and not keys:
        # Nobody called this default params: if it cannot be written down, it stays a default.
        try:
            model.dump(model.build(source, {}))
        except Exception:
            return StageParams(stage, signature, None)
    return params


def overrides_for(stage: str, base: str, overrides: Mapping[str, Any]) -> JsonObject:
    """The overrides of a stage: those of its base name, then its own."""
    found: JsonObject = {}
    for name in dict.fromkeys((base, stage)):
        given = overrides.get(name)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise ParamsError(
                f"stage `{stage}`: its params must be a mapping, not {describe(given)}",
                stage=stage,
                hint=f"write `{name}:` with one indented `key: value` a line below it",
            )
        found = merge(found, given)
    return found


def _receiver_of(model: Model, signature: Signature) -> str | None:
    """The argument that takes an instance of ``model``: by its type, else by the name `params`."""
    for parameter in signature.parameters:
        annotation = parameter.annotation
        found = model_in_annotation(annotation)
        if found is not None and issubclass(model.model_class, found.model_class):
            return parameter.name
        if isinstance(annotation, str) and annotation.rpartition(".")[2] == model.name:
            return parameter.name
    return "params" if "params" in signature.names() else None


def _implied_model(signature: Signature, keys: set[str]) -> tuple[Parameter, Model, Any] | None:
    """The argument whose type or default is a model, if the stage's params are meant for it."""
    candidates: list[tuple[Parameter, Model, Any]] = []
    for parameter in signature.parameters:
        default = parameter.default if parameter.has_default else None
        by_default = model_of_instance(default)
        model = by_default or model_in_annotation(parameter.annotation)
        if model is None or (by_default is None and parameter.has_default and not keys):
            continue
        source = default if by_default is not None else model.model_class
        candidates.append((parameter, model, source))
    candidates.sort(key=lambda found: (found[0].name != "params", found[0].has_default))
    if not candidates:
        return None
    chosen = candidates[0]
    parameter = chosen[0]
    # Decided by names that are no fields, so that the effective params, which a run starts from,
    # lead to the same answer as the overrides did.
    others = set(signature.names()) - {parameter.name} - set(chosen[1].field_names())
    if parameter.name != "params" and parameter.has_default and keys & others:
        return None  # the keys are arguments of their own
    return chosen


def _params_error(stage: str, details: list[Detail] | tuple[Detail, ...]) -> ParamsError:
    shown = [
        f"param `{'.'.join(detail.loc)}`: {detail.message}" if detail.loc else detail.message
        for detail in details[:_MAX_FINDINGS_IN_MESSAGE]
    ]
    more = len(details) - len(shown)
    if more:
        shown.append(f"and {more} more")
    return ParamsError(f"stage `{stage}`: {'; '.join(shown)}", stage=stage, details=details)

"""The decorator ``stage``, ``Variant`` and ``Pipeline``, and the list of what they declared.

Declaring records and checks types, nothing else: functions stay as they are, no file is looked
at, and nothing runs. The ``pivot`` program reads :data:`DECLARED` after it imported the pipeline.
"""

from __future__ import annotations

import sys

from pivot import _arguments as check
from pivot._errors import DeclarationError, PivotError, did_you_mean
from pivot._outs import IncrementalOut, Metric, Out, Plot, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType
    from typing import Any, TypeAlias, TypeVar, overload

    from pivot._outs import PathLike

    AnyFunction: TypeAlias = Callable[..., Any]
    F = TypeVar("F", bound=AnyFunction)
    Paths: TypeAlias = Iterable[PathLike]
    Outs: TypeAlias = Iterable[PathLike | Out]
    Metrics: TypeAlias = Iterable[PathLike | Metric]
    Plots: TypeAlias = Iterable[PathLike | Plot]
    Params: TypeAlias = Any  # a model class, a model instance or a mapping
    CodeDeps: TypeAlias = Iterable[Any]  # paths, functions, classes and modules
    Resources: TypeAlias = Mapping[str, int | float | str]
else:

    def overload(function):
        """Stands in for ``typing.overload``: importing ``typing`` would cost more than all this."""
        return function


__all__ = ["DECLARED", "IncrementalOut", "Metric", "Out", "Pipeline", "Plot", "Variant", "stage"]


class Declaration:
    """One declared stage; the paths in it are as written, the name is complete."""

    __slots__ = (
        "base", "code_deps", "cwd", "deps", "file", "function", "line", "mutex", "name", "outs",
        "params", "resources", "timeout", "variant",
    )  # fmt: skip

    def __init__(
        self,
        function: AnyFunction,
        name: str,
        place: tuple[str, int],
        *,
        deps: Sequence[str] = (),
        outs: Sequence[Out] = (),
        params: Params = None,
        mutex: Sequence[str] = (),
        cwd: str | None = None,
        resources: Mapping[str, int | float | str] | None = None,
        timeout: float | str | None = None,
        code_deps: Sequence[Any] = (),
    ) -> None:
        self.function = function
        self.name = name
        self.base, _, variant = name.partition("@")
        self.variant = variant or None
        self.file, self.line = place
        self.deps = tuple(deps)
        self.outs = tuple(outs)
        self.params = params
        self.mutex = tuple(mutex)
        self.cwd = cwd
        self.resources = dict(resources or {})
        self.timeout = timeout
        self.code_deps = tuple(code_deps)

    def __repr__(self) -> str:
        return f"<stage {self.name} at {self.file}:{self.line}>"


DECLARED: list[Declaration] = []
"""All stages declared in this process, in order."""

_wanted: str | None = None


class Variant:
    """One of several stages that share a function; see ``stage.matrix``.

    The stage is called ``function@name``. What a variant leaves out it takes from the arguments
    that ``stage.matrix`` was given for all variants.
    """

    __slots__ = ("cwd", "deps", "metrics", "mutex", "name", "outs", "params", "plots")

    def __init__(
        self,
        name: str,
        deps: Paths | None = None,
        outs: Outs | None = None,
        metrics: Metrics | None = None,
        plots: Plots | None = None,
        params: Params = None,
        mutex: str | Iterable[str] | None = None,
        cwd: PathLike | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise DeclarationError(
                f"a variant's name must be a string, not {describe(name)}", argument="name"
            )
        if "@" in name:
            raise DeclarationError(
                f"variant `{name}` has an `@` in its name", argument="name",
                hint="the stage will be called `function@name` by itself",
            )  # fmt: skip
        self.name = name
        self.deps = deps
        self.outs = outs
        self.metrics = metrics
        self.plots = plots
        self.params = params
        self.mutex = mutex
        self.cwd = cwd

    def __repr__(self) -> str:
        return f"Variant({self.name!r})"


class _Stage:
    """Declare a function as a stage of the pipeline.

    Use it bare or with arguments; the function itself is returned as it was::

        @stage(deps=["data.csv"], outs=["model.pkl"], metrics=["scores.json"], params=TrainParams)
        def train(data, model, params: TrainParams):
            ...

    ``deps``
        files and directories that the stage reads
    ``outs``
        files and directories that it writes: paths, or objects of ``Out``, ``Metric``, ``Plot``
        and ``IncrementalOut``
    ``metrics``, ``plots``
        the same as ``Metric(path)`` and ``Plot(path)`` in ``outs``
    ``params``
        a Pydantic model or a dataclass (the class or an instance) or a mapping; ``params.yaml``
        overrides its values
    ``mutex``
        names of things that only one stage may use at a time
    ``cwd``
        the directory that the function runs in
    ``name``
        the stage's name, if it is not to be the function's
    ``resources``
        what the stage needs, such as ``{"cpus": 2, "memory": "8GB"}``
    ``timeout``
        how long the stage may run before it is stopped: seconds, or a text such as ``"15m"``
    ``code_deps``
        code that the stage depends on though nothing in the function shows it: files of the
        project, functions, classes, modules

    Paths are relative to the project's root.
    """

    __slots__ = ()

    @overload
    def __call__(self, function: F, /) -> F: ...

    @overload
    def __call__(  # noqa: F811
        self,
        /,
        *,
        deps: Paths = ...,
        outs: Outs = ...,
        metrics: Metrics = ...,
        plots: Plots = ...,
        params: Params = ...,
        mutex: str | Iterable[str] = ...,
        cwd: PathLike | None = ...,
        name: str | None = ...,
        resources: Resources | None = ...,
        timeout: float | str | None = ...,
        code_deps: CodeDeps = ...,
    ) -> Callable[[F], F]: ...

    def __call__(self, /, *positional: Any, **arguments: Any) -> Any:  # noqa: F811
        frame = sys._getframe(1)
        if not positional:
            _known(arguments, "stage")
            return _Decorator(arguments, frame)
        function, *more = positional
        if arguments or more or not callable(function):
            raise _placed(
                DeclarationError(
                    f"`stage` takes its arguments by name, not {describe(function)}",
                    hint="write `@stage(deps=[...], outs=[...])`",
                ),
                _frame_place(frame),
            )
        # Python 3.10 counts the call of a bare decorator to the line of the `def`.
        _declare(function, {}, _function_place(function) or _frame_place(frame))
        return function

    def matrix(
        self,
        variants: Iterable[Variant],
        *,
        deps: Paths = (),
        outs: Outs = (),
        metrics: Metrics = (),
        plots: Plots = (),
        params: Params = None,
        mutex: str | Iterable[str] = (),
        cwd: PathLike | None = None,
        name: str | None = None,
        resources: Resources | None = None,
        timeout: float | str | None = None,
        code_deps: CodeDeps = (),
    ) -> Callable[[F], F]:
        """Declare a function as several stages, ``function@variant`` each.

        The keyword arguments are those of ``stage`` and hold for all variants. What a variant
        gives itself replaces them, only mappings of params are merged::

            @stage.matrix(
                [Variant("small", outs=["small.pkl"], params={"depth": 2}),
                 Variant("large", outs=["large.pkl"], params={"depth": 8})],
                deps=["data.csv"], params={"seed": 1},
            )
            def train(data, model, depth, seed): ...

        An argument of the function called ``variant`` receives the variant's name.
        """
        shared: dict[str, Any] = {
            "deps": deps, "outs": outs, "metrics": metrics, "plots": plots, "params": params,
            "mutex": mutex, "cwd": cwd, "name": name, "resources": resources,
            "timeout": timeout, "code_deps": code_deps,
        }  # fmt: skip
        frame = sys._getframe(1)
        if isinstance(variants, (Variant, str)) or not hasattr(variants, "__iter__"):
            raise _placed(
                DeclarationError(
                    f"`stage.matrix` takes a list of variants, not {describe(variants)}",
                    hint="write `@stage.matrix([Variant('name', ...), ...])`",
                ),
                _frame_place(frame),
            )
        # Iterators are read once, though every variant needs the shared values.
        for key in ("deps", "outs", "metrics", "plots", "mutex", "code_deps"):
            if hasattr(shared[key], "__next__"):
                shared[key] = list(shared[key])
        return _Decorator(shared, frame, list(variants))

    def __repr__(self) -> str:
        return "pivot.stage"


stage = _Stage()


class Pipeline:
    """Declares stages by calls instead of decorators, for pipelines that are built by code.

    All pipelines of a process declare into one list, so it does not matter how many there are
    and whether they are kept.
    """

    __slots__ = ()

    def add_stage(
        self,
        func: AnyFunction,
        name: str | None = None,
        deps: Paths = (),
        outs: Outs = (),
        metrics: Metrics = (),
        plots: Plots = (),
        params: Params = None,
        mutex: str | Iterable[str] = (),
        cwd: PathLike | None = None,
        resources: Resources | None = None,
        timeout: float | str | None = None,
        code_deps: CodeDeps = (),
    ) -> None:
        """Declare ``func`` as a stage; the arguments are those of ``stage``."""
        if _is_unwanted(name):  # before its place is looked for: there may be thousands
            return
        place = _frame_place(sys._getframe(1))
        arguments = {
            "deps": deps, "outs": outs, "metrics": metrics, "plots": plots, "params": params,
            "mutex": mutex, "cwd": cwd, "name": name, "resources": resources,
            "timeout": timeout, "code_deps": code_deps,
        }  # fmt: skip
        _declare(func, arguments, place)


class _Decorator:
    """What ``stage(...)`` and ``stage.matrix(...)`` return: declares what it is applied to."""

    __slots__ = ("_arguments", "_at_top_level", "_place", "_variants")

    def __init__(
        self, arguments: dict[str, Any], frame: FrameType, variants: list[Any] | None = None
    ) -> None:
        self._arguments = arguments
        self._place = _frame_place(frame)
        self._at_top_level = frame.f_code.co_name == "<module>"
        self._variants = variants

    def __call__(self, function: F, /) -> F:
        # Inside a function of the user's own that applies `stage`, the decorated function says
        # better which stage is meant than the one line they all share.
        place = self._place
        if not self._at_top_level:
            place = _function_place(function) or place
        if self._variants is None:
            _declare(function, self._arguments, place)
            return function
        if not self._variants:
            raise _placed(
                DeclarationError(
                    f"stage `{_name_of(function) or '?'}` has no variants",
                    hint="give `stage.matrix` at least one `Variant`",
                ),
                place,
            )
        for variant in self._variants:
            _declare(function, *_of_variant(function, self._arguments, variant, place))
        return function


def _of_variant(
    function: AnyFunction, shared: dict[str, Any], variant: object, place: tuple[str, int]
) -> tuple[dict[str, Any], tuple[str, int]]:
    base = shared["name"] or _name_of(function)
    if not isinstance(variant, Variant):
        raise _placed(
            DeclarationError(
                f"`stage.matrix` of stage `{base}` takes objects of `Variant`,"
                f" not {describe(variant)}",
                stage=base,
            ),
            place,
        )
    arguments = dict(shared)
    for key in ("deps", "outs", "metrics", "plots", "mutex", "cwd", "params"):
        own = getattr(variant, key)
        if own is None:
            continue
        if key == "params" and check.are_mappings(own, shared["params"]):
            own = {**shared["params"], **own}
        arguments[key] = own
    # Without a base the declaration fails for that, with the better message.
    arguments["name"] = f"{base}@{variant.name}" if base else None
    return arguments, place


ARGUMENTS = (
    "deps", "outs", "metrics", "plots", "params", "mutex", "cwd", "name", "resources", "timeout",
    "code_deps",
)  # fmt: skip


def _known(arguments: dict[str, Any], owner: str) -> None:
    for key in arguments:
        if key not in ARGUMENTS:
            error = DeclarationError(
                f"`{owner}` has no argument `{key}`{did_you_mean(key, ARGUMENTS)}", argument=key
            )
            raise _placed(error, _frame_place(sys._getframe(2)))


def want(name: str | None) -> None:
    """From now on only this stage is recorded, or with ``None`` all: who runs it needs no other.

    The others were checked when the pipeline was inspected, and there may be thousands.
    """
    global _wanted
    _wanted = name


def _is_unwanted(name: object) -> bool:
    return _wanted is not None and isinstance(name, str) and name != _wanted


def _declare(function: AnyFunction, arguments: dict[str, Any], place: tuple[str, int]) -> None:
    """Checks one stage's arguments and records the stage."""
    name = arguments.get("name")
    if name is None and not isinstance(function, type):
        name = _name_of(function)
    if _is_unwanted(name):
        return
    try:
        check.function(function, name)
        declaration = Declaration(
            function,
            check.name(name),
            place,
            deps=check.paths("deps", arguments.get("deps")),
            outs=check.outs(arguments),
            params=check.params(arguments.get("params")),
            mutex=check.mutex(arguments.get("mutex")),
            cwd=check.cwd(arguments.get("cwd")),
            resources=check.resources(arguments.get("resources")),
            timeout=check.timeout(arguments.get("timeout")),
            code_deps=check.items("code_deps", arguments.get("code_deps")),
        )
    except PivotError as error:
        # The bare name stands in for the stage where the name itself is at fault.
        error.stage = error.stage or (name if isinstance(name, str) else None)
        if error.stage is not None and f"`{error.stage}`" not in error.message:
            error.message = f"stage `{error.stage}`: {error.message}"
        raise _placed(error, place) from None
    DECLARED.append(declaration)


def _name_of(function: object) -> str | None:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else None


def _frame_place(frame: FrameType) -> tuple[str, int]:
    return frame.f_code.co_filename, frame.f_lineno


def _function_place(function: object) -> tuple[str, int] | None:
    """Where the innermost of wrapped functions is defined."""
    for _ in range(100):  # a hostile `__wrapped__` may name itself
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    code = getattr(function, "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno)


def _placed(error: PivotError, place: tuple[str, int]) -> PivotError:
    error.file, error.line = place
    error.args = (error.message,)
    return error

"""Functions and other callables.

A function is its body (a normalized syntax tree, or its instructions where there is no text),
the values it carries (defaults, cells, attributes) and what the names in it mean. Wrappers are
followed by the objects they hold, never by what they pretend to be.
"""

from __future__ import annotations
import __future__

import functools
import gc
import types
from typing import TYPE_CHECKING, Any

from . import _bytecode
from ._encoder import HANDLERS, Encoder, Steps, Task, type_name
from ._resolve import Environment, Resolver
from ._scripts import SCRIPT

if TYPE_CHECKING:
    from ._source import FunctionNode

__all__ = ["function_inside", "wrapper_inside"]


CO_FUTURE_ANNOTATIONS = __future__.annotations.compiler_flag


def _function(encoder: Encoder, value: types.FunctionType) -> Steps:
    """A function met anywhere: by reference where it has a name, else written here."""
    owner = encoder.graph.function_owner(value)
    if owner == "pivot":
        encoder.mark("pivot")
        encoder.text(value.__qualname__)
        return
    if owner == "library":
        yield Task(_library_function(encoder, value))
        return
    key = encoder.graph.named(value)
    if key is not None:
        encoder.reference(key)
        return
    yield Task(function_inside(encoder, value))


def function_inside(encoder: Encoder, value: types.FunctionType) -> Steps:
    """All that decides what a user's function does."""
    if encoder.met(value):
        return
    graph, component, texts = encoder.graph, encoder.component, encoder.mode.texts
    code = value.__code__
    encoder.mark("function")
    source = graph.sources.of_code(code)
    component.codes.append(code)
    node: FunctionNode | None = source.node(code) if source is not None else None
    is_own = graph.payload(component.key) is value
    if node is not None and source is not None:
        form = graph.form_digest(node, texts)
        if is_own:
            component.form = form  # so that it can be exchanged; see `_edited`
        else:
            encoder.text(form)
        names = graph.names(node, texts)
    else:
        if encoder.library_objects == 0 and graph.roots.is_user(code.co_filename):
            component.note(
                f"compares the instructions of {value.__qualname__}, "
                "because its code is not the text of its file",
                graph.roots.relative(code.co_filename),
                code.co_firstlineno,
            )
        encoder.text(_bytecode.form_digest(code))
        names = _bytecode.names_of(code)
    yield value.__defaults__
    yield Task(encoder.sorted_items((value.__kwdefaults__ or {}).items()))
    yield Task(
        encoder.sorted_items(
            (name, item) for name, item in vars(value).items() if not _is_bookkeeping(name, item)
        )
    )
    if encoder.mode.lines:
        encoder.text(str(code.co_firstlineno) if source is None else source.digest)
    if texts:
        encoder.write(b"%d" % (code.co_flags & CO_FUTURE_ANNOTATIONS))
        yield value.__doc__
        annotate = getattr(value, "__annotate__", None)
        if type(annotate) is types.FunctionType:
            component.codes.append(annotate.__code__)  # annotations are part of the text
    if names.reads_texts:
        component.reads_texts = True
    component.reads |= names.reads
    component.strings.extend(text for text, _ in names.strings if SCRIPT.search(text))
    cells = _cells(value)
    environment = Environment(
        value.__globals__,
        cells,
        graph.roots.relative(code.co_filename) if source is not None else None,
        code,
    )
    resolver = Resolver(graph, component, names, environment)
    meanings = resolver.run()
    if is_own and resolver.is_plain and not cells and not component.notes and source is not None:
        component.editable = node
    for name in sorted(cells):
        # A module in a cell is resolved through what is read from it.
        if isinstance(cells[name], types.ModuleType):
            continue
        encoder.text(name)
        yield cells[name]
    yield Task(meanings_inside(encoder, meanings))


def meanings_inside(encoder: Encoder, meanings: dict[str, tuple[Any, ...]]) -> Steps:
    """What the names of a piece of code mean, whatever order they stand in."""
    for path in sorted(meanings):
        meaning = meanings[path]
        encoder.text(path)
        kind = meaning[0]
        if kind == "ref":
            encoder.reference(meaning[1])
        elif kind == "lib":
            encoder.library(meaning[1])
        elif kind == "value":
            yield meaning[1]
        else:
            encoder.mark(kind)


def _is_bookkeeping(name: str, item: Any) -> bool:
    return name in ("__module__", "__doc__", "__name__", "__qualname__") or (
        type(item).__module__.partition(".")[0] == "pivot"
    )


def _cells(value: types.FunctionType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _library_function(encoder: Encoder, value: types.FunctionType) -> Steps:
    """A library's function is its package; what it holds of the user's is followed."""
    encoder.library(f"{value.__module__}.{value.__qualname__}")
    holds = value.__closure__ is not None or bool(value.__dict__)
    if not holds or encoder.met(value) or not encoder.enter_library_object():
        return
    if value.__closure__ is not None:
        # A closure made by a library's decorator: the function is in a cell, with its settings.
        cells = _cells(value)
        for name in sorted(cells):
            if isinstance(cells[name], types.ModuleType):
                continue
            encoder.text(name)
            yield cells[name]
    if encoder.graph.holds_user_code(value):
        yield Task(
            encoder.sorted_items(
                (k, v) for k, v in vars(value).items() if not _is_bookkeeping(k, v)
            )
        )


def wrapper_inside(encoder: Encoder, value: Any) -> Steps:
    """``lru_cache`` and others like it: a callable implemented in C around a function."""
    if encoder.met(value):
        return
    encoder.mark("wrapper")
    encoder.text(type_name(type(value)))
    parameters = getattr(value, "cache_parameters", None)
    if callable(parameters):
        try:
            yield parameters()
        except Exception:
            encoder.mark("?")
    yield value.__wrapped__
    yield Task(_cached_results(encoder, value))
    yield Task(
        encoder.sorted_items(
            (name, item)
            for name, item in vars(value).items()
            if name != "__wrapped__"
            and name != "cache_parameters"
            and not _is_bookkeeping(name, item)
        )
    )


def _cached_results(encoder: Encoder, value: Any) -> Steps:
    """What a cache has kept since the import: calls of the stage get it, whatever the code says."""
    info = getattr(value, "cache_info", None)
    try:
        is_empty = info is None or info().currsize == 0
    except Exception:
        return
    if is_empty:
        return
    encoder.mark("cached")
    for item in gc.get_referents(value):
        if type(item) is dict and item is not vars(value):
            # Without a limit it maps arguments to results, else to links that hold both.
            if not any(type(inner).__name__ == "_lru_list_elem" for inner in item.values()):
                yield item
        elif not any(item is own for own in (value.__wrapped__, vars(value))) and not isinstance(
            item, type
        ):
            yield item


def _lru_cache(encoder: Encoder, value: Any) -> Steps:
    key = encoder.graph.named(value)
    if key is not None:
        encoder.reference(key)
        return
    yield Task(wrapper_inside(encoder, value))


def _method(encoder: Encoder, value: types.MethodType) -> Steps:
    if encoder.met(value):
        return
    encoder.mark("method")
    yield value.__self__
    yield value.__func__


def _builtin(encoder: Encoder, value: Any) -> Steps:
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        encoder.library(f"{value.__module__ or 'builtins'}.{value.__qualname__}")
        return
    encoder.mark("bound")
    encoder.text(value.__name__)
    if not encoder.met(value):
        yield owner


def _slot(encoder: Encoder, value: Any) -> Steps:
    encoder.library(f"{type_name(value.__objclass__)}.{value.__name__}")
    yield from ()


def _method_wrapper(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("method-wrapper")
    encoder.text(value.__name__)
    yield value.__self__


def _static(encoder: Encoder, value: Any) -> Steps:
    encoder.mark(type(value).__name__)
    yield value.__func__
    extra = {
        name: item
        for name, item in vars(value).items()
        if not name.startswith("__") and not _is_bookkeeping(name, item)
    }
    if extra:
        yield Task(encoder.sorted_items(extra.items()))


def _property(encoder: Encoder, value: property) -> Steps:
    encoder.mark("property")
    yield value.fget
    yield value.fset
    yield value.fdel


def _cached_property(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("cached_property")
    yield value.func
    yield value.attrname


def _partial_method(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("partialmethod")
    yield value.func
    yield value.args
    yield Task(encoder.sorted_items(value.keywords.items()))


def _single_dispatch_method(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("singledispatchmethod")
    yield value.func
    yield value.dispatcher


def _cell(encoder: Encoder, value: types.CellType) -> Steps:
    encoder.mark("cell")
    try:
        yield value.cell_contents
    except ValueError:
        encoder.mark("empty")


def _code(encoder: Encoder, value: types.CodeType) -> Steps:
    encoder.mark("code")
    encoder.component.codes.append(value)
    encoder.text(_bytecode.form_digest(value))
    yield from ()


def _module(encoder: Encoder, value: types.ModuleType) -> Steps:
    """A module kept in data: it may be used in any way."""
    kind = encoder.graph.roots.module_kind(value)
    if kind == "user":
        key = encoder.graph.whole_module(value)
        encoder.component.note(
            f"depends on all of {encoder.graph.module_title(value)}, because data holds the module",
            encoder.component.file,
            encoder.component.line,
        )
        encoder.reference(key)
    elif kind == "pivot":
        encoder.mark("pivot")
    else:
        encoder.library(value.__name__)
    yield from ()


for _kind, _handler in (
    (types.FunctionType, _function),
    (types.MethodType, _method),
    (types.BuiltinFunctionType, _builtin),
    (types.WrapperDescriptorType, _slot),
    (types.MethodDescriptorType, _slot),
    (types.ClassMethodDescriptorType, _slot),
    (types.GetSetDescriptorType, _slot),
    (types.MemberDescriptorType, _slot),
    (types.MethodWrapperType, _method_wrapper),
    (staticmethod, _static),
    (classmethod, _static),
    (property, _property),
    (functools.cached_property, _cached_property),
    (functools.partialmethod, _partial_method),
    (functools.singledispatchmethod, _single_dispatch_method),
    (functools._lru_cache_wrapper, _lru_cache),
    (types.CellType, _cell),
    (types.CodeType, _code),
    (types.ModuleType, _module),
):
    HANDLERS[_kind] = _handler

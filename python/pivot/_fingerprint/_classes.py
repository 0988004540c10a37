"""Classes: what they are at run time, entry by entry.

Decorated, patched and generated classes need no special code this way. Where a library builds
the entries from a description (dataclass, NamedTuple, Enum, Pydantic), the description is
written and the generated entries are not, as those differ between versions of the library.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from ._encoder import Encoder, Steps, Task, type_name
from ._syntax import nodes_form

__all__ = ["class_inside", "class_met", "enum_member"]

_NOT_ENTRIES = frozenset(
    {
        "__module__",
        "__qualname__",
        "__weakref__",
        "__dict__",
        "__firstlineno__",
        "__doc__",
        "__static_attributes__",
        "__annotations__",
        "__annotations_cache__",
        "__annotate__",
        "__annotate_func__",
        "__abstractmethods__",
        "_abc_impl",
        "__orig_bases__",
        "__parameters__",
        "__conditional_annotations__",
        "__classcell__",
        "__classdictcell__",
        "__subclasshook__",
        "_is_protocol",
        "__non_callable_proto_members__",
        "__protocol_attrs__",
        "_is_runtime_protocol",
    }
)
_DATACLASS_METHODS = frozenset(
    {
        "__init__",
        "__repr__",
        "__eq__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__hash__",
        "__setattr__",
        "__delattr__",
        "__replace__",
        "__getstate__",
        "__setstate__",
        "_dataclass_getstate",
        "_dataclass_setstate",
    }
)
_ENUM_ENTRIES = frozenset(
    {
        "_generate_next_value_",
        "_missing_",
        "_new_member_",
        "_use_args_",
        "_member_names_",
        "_member_map_",
        "_value2member_map_",
        "_hashable_values_",
        "_unhashable_values_",
        "_unhashable_values_map_",
        "_member_type_",
        "_value_repr_",
        "_numeric_repr_",
        "_boundary_",
        "_flag_mask_",
        "_singles_mask_",
        "_all_bits_",
        "_inverted_",
        "_add_alias_",
        "_add_value_alias_",
        "__new_member__",
        "__or__",
        "__and__",
        "__xor__",
        "__invert__",
        "__ror__",
        "__rand__",
        "__rxor__",
    }
)
_NAMEDTUPLE_ENTRIES = frozenset(
    {
        "__new__",
        "_make",
        "_replace",
        "__replace__",
        "__repr__",
        "_asdict",
        "__getnewargs__",
        "__match_args__",
        "__slots__",
        "_fields",
        "_field_defaults",
        "__annotations__",
        "__orig_bases__",
    }
)


def class_met(encoder: Encoder, value: type) -> Steps:
    """A class met anywhere: by reference where it has a name, else written here."""
    graph = encoder.graph
    owner = graph.class_owner(value)
    if owner == "pivot":
        encoder.mark("pivot")
        encoder.text(value.__qualname__)
        return
    if owner == "library":
        encoder.library(type_name(value))
        patches = graph.user_patches(value)
        if patches and not encoder.met(value):
            yield Task(encoder.sorted_items(patches))
        return
    key = graph.named(value)
    if key is not None:
        encoder.reference(key)
        return
    yield Task(class_inside(encoder, value))


def class_inside(encoder: Encoder, value: type, *, params: bool = False) -> Steps:
    """All that decides how a user's class behaves.

    With ``params``, it is a stage's params model: the default values of its fields are recorded
    as the stage's params, so they do not count as code a second time.
    """
    if encoder.met(value):
        return
    graph, component = encoder.graph, encoder.component
    encoder.mark("class")
    if not params:
        encoder.text(value.__module__)  # its text, `<class 'm.C'>`, shows it
    for base in value.__bases__:
        yield Task(_field_type(encoder, base, params=params))
    if type(value) is not type:
        yield type(value)
    module = sys.modules.get(value.__module__)
    if module is not None and graph.roots.module_kind(module) == "user":
        component.modules[value.__module__] = None
    entries = dict(vars(value))
    if encoder.mode.texts:
        yield entries.get("__doc__") if isinstance(entries.get("__doc__"), str) else None
    yield Task(_annotations(encoder, value, params=params))
    yield Task(_described(encoder, value, entries, params=params))
    slots = entries.get("__slots__")
    named: list[tuple[str, Any]] = []
    for name, entry in entries.items():
        if name in _NOT_ENTRIES or isinstance(entry, types.GetSetDescriptorType):
            continue
        if isinstance(entry, types.MemberDescriptorType) and slots is not None:
            continue
        named.append((name, entry))
    if not encoder.mode.order:
        named.sort(key=lambda pair: pair[0])
    for name, entry in named:
        encoder.text(name)
        yield Task(_entry(encoder, value, entry))
    for other in _registered(value):
        encoder.mark("registered")
        yield other


def _entry(encoder: Encoder, owner: type, entry: Any) -> Steps:
    """One entry of a class; its own methods are part of the class."""
    inner = entry
    if isinstance(entry, (staticmethod, classmethod)):
        encoder.mark(type(entry).__name__)
        inner = entry.__func__
    if _is_own_method(encoder, owner, inner):
        from ._callables import function_inside

        yield Task(function_inside(encoder, inner))
    elif type(entry) is property:
        encoder.mark("property")
        for part in (entry.fget, entry.fset, entry.fdel):
            yield Task(_entry(encoder, owner, part))
    else:
        yield inner


def _is_own_method(encoder: Encoder, owner: type, entry: Any) -> bool:
    return (
        type(entry) is types.FunctionType
        and entry.__qualname__.startswith(owner.__qualname__ + ".")
        and encoder.graph.function_owner(entry) == "user"
    )


def _annotations(encoder: Encoder, value: type, *, params: bool) -> Steps:
    """The annotations of the class, as text and by what the names in them mean."""
    graph = encoder.graph
    source = graph.sources.of_module(value.__module__)
    node = source.class_node(value.__qualname__) if source is not None else None
    if node is None:
        return
    annotated = [
        child
        for child in node.body
        if child.__class__.__name__ == "AnnAssign" and child.target.__class__.__name__ == "Name"  # type: ignore[attr-defined]
    ]
    if not annotated or not (
        params or encoder.mode.annotations or _may_be_read(encoder, value, node)
    ):
        return
    annotate = vars(value).get("__annotate_func__")
    if isinstance(annotate, types.FunctionType):
        encoder.component.codes.append(annotate.__code__)
    import ast

    nodes: list[ast.AST] = []
    for child in annotated:
        nodes += [child.target, child.annotation]  # type: ignore[attr-defined]
    encoder.mark("annotations")
    if encoder.mode.annotations and source is not None:
        # As texts or as objects.
        futures = [entry.module for entry in source.imported("annotations")]
        encoder.mark(str("__future__" in futures))
    encoder.write(graph.hashed(nodes_form(nodes, in_class=True)))
    module = sys.modules.get(value.__module__)
    if module is not None:
        annotations = [child.annotation for child in annotated]  # type: ignore[attr-defined]
        meanings = graph.meanings(encoder.component, annotations, vars(module), source)
        from ._callables import meanings_inside

        if params:
            meanings = {path: _as_params(graph, what) for path, what in meanings.items()}
        yield Task(meanings_inside(encoder, meanings))


def _may_be_read(encoder: Encoder, value: type, node: Any) -> bool:
    """Whether something may have read the annotations of a class when it was made."""
    if node.decorator_list or type(value) is not type:
        return True
    for base in value.__mro__[1:-1]:
        if "__init_subclass__" in vars(base):
            return True
        if base.__module__ != "builtins" and encoder.graph.class_owner(base) == "library":
            return True
    return False


def _as_params(graph: Any, meaning: tuple[Any, ...]) -> tuple[Any, ...]:
    """A model nested in a params model: its defaults are params as well."""
    if meaning[0] == "ref" and meaning[1].kind == "class":
        target = graph.payload(meaning[1])
        if isinstance(target, type) and (_is_pydantic(target) or _is_dataclass(target)):
            return ("ref", graph.params_key(target))
    return meaning


def _field_type(encoder: Encoder, base: type, *, params: bool) -> Steps:
    graph = encoder.graph
    described = _is_pydantic(base) or _is_dataclass(base)
    if params and described and graph.class_owner(base) == "user" and graph.named(base):
        encoder.reference(graph.params_key(base))
        return
    yield base


def _is_pydantic(value: type) -> bool:
    return any("__pydantic_fields__" in vars(base) for base in value.__mro__)


def _is_dataclass(value: type) -> bool:
    return "__dataclass_fields__" in vars(value)


def _described(encoder: Encoder, value: type, entries: dict[str, Any], *, params: bool) -> Steps:
    """Write a library's description of the class; remove the entries made from it."""
    members = entries.get("_member_map_")
    if isinstance(members, dict) and _is_enum(value):
        yield Task(_enum(encoder, value, entries, members))
    if "__dataclass_fields__" in entries:
        yield Task(_dataclass(encoder, entries, params=params))
    if isinstance(entries.get("_fields"), tuple) and issubclass(value, tuple):
        encoder.mark("namedtuple")
        yield entries["_fields"]
        yield entries.get("_field_defaults")
        generated = {
            name for name in _NAMEDTUPLE_ENTRIES if not _is_written(encoder, entries, name)
        }
        for name in (*generated, *entries["_fields"]):
            entries.pop(name, None)
    if "__pydantic_fields__" in entries:
        yield Task(_pydantic(encoder, value, entries, params=params))
    if "__attrs_attrs__" in entries:
        for name, entry in list(entries.items()):
            code = getattr(entry, "__code__", None)
            if code is not None and code.co_filename.startswith("<attrs"):
                del entries[name]


def _is_written(encoder: Encoder, entries: dict[str, Any], name: str) -> bool:
    """Whether the user wrote this method, as opposed to a library that generated it."""
    entry = entries.get(name)
    if isinstance(entry, (classmethod, staticmethod)):
        entry = entry.__func__
    code = getattr(entry, "__code__", None)
    return code is not None and encoder.graph.roots.is_user(code.co_filename)


def _is_enum(value: type) -> bool:
    module = sys.modules.get("enum")
    return module is not None and isinstance(value, module.EnumMeta)


def _enum(encoder: Encoder, value: type, entries: dict[str, Any], members: dict[str, Any]) -> Steps:
    encoder.mark("enum")
    for name, member in list(members.items()):
        encoder.text(name)
        yield member._value_
        extra = {
            key: item
            for key, item in vars(member).items()
            if key not in ("_value_", "_name_", "__objclass__", "_sort_order_", "name", "value")
        }
        yield Task(encoder.sorted_items(extra.items()))
        entries.pop(name, None)
    for name in list(entries):
        if name in _ENUM_ENTRIES and not _is_written(encoder, entries, name):
            del entries[name]
    for name in ("__new__", "__reduce_ex__", "__format__", "__str__", "__repr__", "__hash__"):
        if name in entries and not _is_written(encoder, entries, name):
            del entries[name]
    for name in [n for n, e in entries.items() if type(e).__module__ == "enum"]:
        del entries[name]  # the descriptors of members


def _dataclass(encoder: Encoder, entries: dict[str, Any], *, params: bool) -> Steps:
    fields = entries.pop("__dataclass_fields__")
    options = entries.pop("__dataclass_params__", None)
    encoder.mark("dataclass")
    yield str(options)
    for name, field in fields.items():
        encoder.text(name)
        encoder.text(str(getattr(field._field_type, "name", "")))
        if not (params and _is_param_value(field.default)):
            yield _absent(field.default)
        if name in entries and params and _is_param_value(entries[name]):
            del entries[name]
        yield _absent(field.default_factory)
        yield (field.init, field.repr, field.hash, field.compare)
        yield _absent(getattr(field, "kw_only", None))
        yield Task(encoder.sorted_items((str(k), v) for k, v in field.metadata.items()))
    for name in _DATACLASS_METHODS | {"__match_args__", "__doc__"}:
        if not _is_written(encoder, entries, name):
            entries.pop(name, None)


def _absent(value: Any) -> Any:
    return None if type(value).__name__ in ("_MISSING_TYPE", "_KW_ONLY_TYPE") else value


def _is_param_value(value: Any) -> bool:
    """Whether the effective params record the whole of this default value."""
    if isinstance(value, (type(None), bool, int, float, str)):
        return True
    if isinstance(value, (list, tuple)):
        return all(_is_param_value(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_param_value(v) for k, v in value.items())
    if _is_pydantic(type(value)):
        return all(_is_param_value(item) for item in vars(value).values())
    return False


def _pydantic(encoder: Encoder, value: type, entries: dict[str, Any], *, params: bool) -> Steps:
    fields = entries["__pydantic_fields__"]
    decorators = entries.get("__pydantic_decorators__")
    private = entries.get("__private_attributes__")
    config = entries.get("model_config")
    for name in list(entries):
        if name.startswith(("__pydantic_", "_pydantic")) or name in (
            "__signature__",
            "__class_vars__",
            "__private_attributes__",
            "model_fields",
            "model_computed_fields",
            "__fields__",
            "model_config",
            "__replace__",
            "__hash__" if entries.get("__hash__") is None else "",
        ):
            del entries[name]
    encoder.mark("pydantic")
    if isinstance(config, dict):
        yield Task(encoder.sorted_items((str(k), v) for k, v in config.items()))
    for name, field in fields.items():
        encoder.text(name)
        attributes = {}
        for slot in getattr(type(field), "__slots__", ()):
            if slot.startswith("_") or slot in ("annotation", "description", "title", "examples"):
                continue  # the annotation is written as text; the others do nothing
            attributes[slot] = getattr(field, slot, None)
        default = attributes.get("default")
        if type(default).__name__ == "PydanticUndefinedType":
            attributes["default"] = None
        elif params and _is_param_value(default):
            del attributes["default"]
        yield Task(encoder.sorted_items(attributes.items()))
    if isinstance(private, dict):
        yield Task(encoder.sorted_items(private.items()))
    if decorators is not None:
        # The functions are entries of the class; here is how they are applied.
        for group in sorted(getattr(type(decorators), "__dataclass_fields__", ())):
            for name, decorator in sorted(getattr(decorators, group, {}).items()):
                info = getattr(decorator, "info", None)
                encoder.text(f"{group}.{name}")
                described = {
                    slot: getattr(info, slot)
                    for slot in getattr(type(info), "__dataclass_fields__", ())
                    if isinstance(getattr(info, slot, None), (str, bool, int, tuple, type(None)))
                    and slot not in ("description", "title")
                }
                yield Task(encoder.sorted_items(described.items()))


def _registered(value: type) -> list[type]:
    """Classes registered as virtual subclasses of an abstract base class."""
    if "_abc_impl" not in vars(value):
        return []
    abc = sys.modules.get("_abc")
    dump = getattr(abc, "_get_dump", None)
    if dump is None:
        return []
    registry = [reference() for reference in dump(value)[0]]
    found = [item for item in registry if isinstance(item, type)]
    return sorted(found, key=type_name)


def enum_member(encoder: Encoder, value: Any) -> Steps:
    """A member of an enumeration: class, name and value."""
    encoder.mark("member")
    yield type(value)
    yield value._name_
    yield value._value_

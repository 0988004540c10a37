"""The normalized form of a syntax tree, as bytes to be hashed.

Two texts that differ only in comments, layout, docstrings, annotations of local names or the
function's own name have the same form. The walk keeps its own stack, so an expression of any
length is fine, and writes only what exists, so that Python versions agree with one another.
"""

from __future__ import annotations

import _ast as ast  # the classes alone: `ast` itself imports much that is not needed here

TYPE_CHECKING = False  # without `typing`, whose import takes long; see `_edited`
if TYPE_CHECKING:
    from typing import Any

__all__ = ["function_form", "nodes_form"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
_BLOCKS = frozenset({"body", "orelse", "finalbody"})
_FIELDS: dict[type, tuple[str, ...]] = {}


def function_form(node: ast.AST, *, texts: bool = False) -> bytes:
    """The form of a definition: parameters and body.

    Its name, decorators and default values are left out: at run time they are the name it is
    reached by, the object that was found there, and values. With ``texts``, docstrings and
    annotations count.
    """
    out: list[str] = [type(node).__name__]
    stack: list[Any] = []
    body = node.body  # type: ignore[attr-defined]
    if isinstance(body, list):
        _push_body(stack, body, False, texts)
    else:
        stack.append((body, False))
    _push_parameters(stack, node.args, texts, values=False)  # type: ignore[attr-defined]
    if texts and getattr(node, "returns", None) is not None:
        stack.append((node.returns, False))  # type: ignore[attr-defined]
    _write(stack, out, texts)
    return "\x1f".join(out).encode("utf-8", "surrogatepass")


def nodes_form(nodes: list[ast.AST], *, texts: bool = False, in_class: bool = False) -> bytes:
    """The form of some statements or expressions, in order."""
    out: list[str] = []
    stack: list[Any] = []
    statements = [node for node in nodes if not _is_idle(node, in_class, texts)]
    for node in reversed(statements):
        stack.append((node, in_class))
    _write(stack, out, texts)
    return "\x1f".join(out).encode("utf-8", "surrogatepass")


def _write(stack: list[Any], out: list[str], texts: bool) -> None:
    while stack:
        item = stack.pop()
        if item.__class__ is str:
            out.append(item)
            continue
        node, in_class = item
        kind = type(node)
        if kind is ast.Constant:
            out.append(_constant(node.value))
        elif kind is ast.Name:
            out.append("N" + node.id)
        elif kind is ast.Attribute:
            out.append("A" + node.attr)
            stack.append((node.value, in_class))
        elif isinstance(node, _FUNCTIONS):
            _push_definition(node, stack, out, texts)
        elif kind is ast.ClassDef:
            out.append("class " + node.name)
            stack.append("endclass")
            _push_body(stack, node.body, True, texts)
            for child in reversed([*node.decorator_list, *node.bases, *node.keywords]):
                stack.append((child, False))
                stack.append("base")
        elif kind is ast.Lambda:
            out.append("lambda")
            stack.append((node.body, False))
            _push_parameters(stack, node.args, texts, values=True)
        elif kind is ast.AnnAssign and not in_class:
            # In a function, the annotation is not even evaluated.
            if texts:
                stack.append((node.annotation, False))
            if node.value is not None:
                out.append("Assign")
                stack += [(node.value, False), "value", (node.target, False), "targets[1"]
            else:
                out.append("Local")
                stack.append((node.target, False))
        elif kind is ast.If and isinstance(node.test, ast.Constant) and not node.test.value:
            out.append("Else")
            _push_list(stack, node.orelse, in_class)
        else:
            _push_fields(node, stack, out, in_class, texts)


def _push_fields(
    node: ast.AST, stack: list[Any], out: list[str], in_class: bool, texts: bool
) -> None:
    kind = type(node)
    out.append(kind.__name__)
    fields = _FIELDS.get(kind)
    if fields is None:
        fields = _FIELDS[kind] = tuple(f for f in node._fields if f not in _SKIPPED_FIELDS)
    pending: list[Any] = []
    for field in fields:
        value = getattr(node, field, None)
        if value is None:
            continue
        if value.__class__ is list:
            if not value:
                continue
            items = value
            if field in _BLOCKS:
                items = [v for v in value if not _is_idle(v, in_class, texts)]
            pending.append(f"{field}[{len(items)}")
            for item in items:
                if isinstance(item, ast.AST):
                    pending.append((item, in_class))
                else:
                    pending.append("=" + str(item))
        elif isinstance(value, ast.AST):
            pending.append(field)
            pending.append((value, in_class))
        else:
            pending.append(f"{field}={value}")
    stack.extend(reversed(pending))


def _push_definition(node: Any, stack: list[Any], out: list[str], texts: bool) -> None:
    """A function inside of what is encoded: here its name, decorators and defaults are text."""
    out.append(("def " if type(node) is ast.FunctionDef else "async def ") + node.name)
    # A decorator may well read annotations (`@f.register`); nothing else here does.
    annotated = texts or bool(node.decorator_list)
    stack.append("enddef")
    _push_body(stack, node.body, False, texts)
    if annotated and node.returns is not None:
        stack.append((node.returns, False))
        stack.append("returns")
    _push_parameters(stack, node.args, annotated, values=True)
    for decorator in reversed(node.decorator_list):
        stack.append((decorator, False))
        stack.append("@")


def _push_parameters(
    stack: list[Any], args: ast.arguments, annotated: bool, *, values: bool
) -> None:
    pending: list[Any] = ["("]
    for group, names in (
        ("/", args.posonlyargs),
        ("", args.args),
        ("*", [args.vararg] if args.vararg else []),
        ("k", args.kwonlyargs),
        ("**", [args.kwarg] if args.kwarg else []),
    ):
        for arg in names:
            pending.append(group + arg.arg)
            if annotated and arg.annotation is not None:
                pending.append((arg.annotation, False))
    if values:
        for default in args.defaults:
            pending.append("=")
            pending.append((default, False))
        for name, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            if default is not None:
                pending.append(name.arg + "=")
                pending.append((default, False))
    pending.append(")")
    stack.extend(reversed(pending))


def _push_body(stack: list[Any], body: list[ast.stmt], in_class: bool, texts: bool) -> None:
    statements = [node for node in body if not _is_idle(node, in_class, texts)]
    value = body[0].value if texts and body and isinstance(body[0], ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        statements.insert(0, body[0])
    _push_list(stack, statements, in_class)


def _push_list(stack: list[Any], nodes: list[Any], in_class: bool) -> None:
    nodes = list(nodes)
    for node in reversed(nodes):
        stack.append((node, in_class))
    stack.append(f"[{len(nodes)}")


def _is_idle(node: Any, in_class: bool, texts: bool) -> bool:
    """``pass``, docstrings and other constants that stand alone, ``x: int`` outside of a class."""
    kind = type(node)
    if kind is ast.AnnAssign:
        # That it makes the name local shows in what the other names mean.
        bare = node.value is None and type(node.target) is ast.Name
        return bare and not in_class and not texts
    return kind is ast.Pass or (kind is ast.Expr and type(node.value) is ast.Constant)


def _constant(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return f"s{len(value)}:{value}"
    if kind is int:
        return f"i{value:x}"
    if kind is bytes:
        return "b" + value.hex()
    if kind is float:
        return "f" + value.hex()
    if kind is complex:
        return f"c{value.real.hex()},{value.imag.hex()}"
    if kind is tuple:  # only in trees made by hand
        return "t" + ",".join(map(_constant, value))
    return "v" + repr(value)  # None, True, False, ...

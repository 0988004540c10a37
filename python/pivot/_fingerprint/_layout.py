"""Where in a file a function may be edited, and what its lines are; see `_edited`."""

from __future__ import annotations

import ast
from typing import NamedTuple

from ._edited import body_line, head_print, is_closed, is_plain_text, prints, spans_of

__all__ = ["Layout", "layout_of"]


class Layout(NamedTuple):
    """Where the statements of a file's top level stand, and what their lines are."""

    lines: int
    spans: list[list[int]]
    """First line, with decorators, and last line of each."""
    prints: list[str]
    """A digest for the lines of each with those since the one before, and one for the rest."""
    definitions: dict[int, tuple[str, str, int, int, str]]
    """Number of the statement -> name, kind, line, line of the body and digest of the head of
    each function without decorators."""


def layout_of(data: bytes, tree: ast.Module) -> Layout | None:
    """The layout of a file; None where its lines do not tell its statements apart."""
    if not is_plain_text(data):
        return None
    lines, spans = data.split(b"\n"), spans_of(tree)
    found = prints(lines, spans)
    if found is None:
        return None
    definitions: dict[int, tuple[str, str, int, int, str]] = {}
    before = 0
    for number, node in enumerate(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list:
            body = body_line(node, lines)
            if body is not None and is_closed(lines, body, spans[number][1]):
                head = head_print(lines, before, body)
                kind = type(node).__name__
                definitions[number] = (node.name, kind, node.lineno, body, head)
        before = spans[number][1]
    return Layout(len(lines), spans, found, definitions)

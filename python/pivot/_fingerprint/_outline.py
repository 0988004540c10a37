"""Where things stand in a user file, as plain data that can be kept without its syntax tree.

With it, an unchanged file needs no tree: most questions are answered by the outline, and for the
rest only those parts of the file are parsed that hold the definition in question. A *part* is a
run of whole lines with one or more statements of the top level.
"""

from __future__ import annotations

from typing import Any

from ._edited import is_plain_text
from ._effects import may_act
from ._layout import layout_of
from ._preload import imports_ahead
from ._source import Outline, Source, first_line, is_definition, statements_in

__all__ = ["outline_of"]


def outline_of(source: Source) -> tuple[Any, ...] | None:
    """The outline of a file; None where its parts cannot be parsed by themselves."""
    data = source.data
    if not is_plain_text(data):
        return None
    tree = source.tree
    if source.unparsed:
        return None
    parts: list[tuple[int, int]] = []
    part_of: list[int] = []
    for node in tree.body:
        start, end = first_line(node), node.end_lineno or node.lineno
        if parts and start <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(end, parts[-1][1]))
        else:
            # With the lines in front: a decorator has no place of its own, only what follows `@`.
            parts.append((parts[-1][1] + 1 if parts else 1, end))
        part_of.append(len(parts) - 1)
    definers: dict[str, int] = {}
    binders: dict[str, list[int]] = {}
    lines: dict[str, int] = {}
    acting: list[int] = []
    for node, part in zip(tree.body, part_of, strict=True):
        for inner in statements_in([node]):
            if is_definition(inner):
                definers[inner.name] = part  # type: ignore[attr-defined]
        for statement in source.statements_of([node]):
            for name in statement.binds | statement.touches:
                known = binders.setdefault(name, [])
                if not known or known[-1] != part:
                    known.append(part)
            for name in statement.binds:
                lines[name] = statement.node.lineno
            if may_act(statement.node) and (not acting or acting[-1] != part):
                acting.append(part)
    layout = layout_of(data, tree)
    by_name, stars, every = source.import_tables()
    return tuple(
        Outline(
            parts,
            definers,
            binders,
            lines,
            acting,
            {name: [tuple(one) for one in found] for name, found in by_name.items()},
            [tuple(one) for one in stars],
            [tuple(one) for one in every],
            {name: [tuple(one) for one in found] for name, found in source.late_table().items()},
            None if layout is None else tuple(layout),
            imports_ahead(source),
        )
    )

"""Code without text: made by ``exec``, loaded from a ``.pyc`` alone, or replaced at run time.

Its instructions with resolved arguments stand for it. File names, line numbers and docstrings
are left out; the Python version is mixed in, as another one compiles to other instructions.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

from ._hashing import new_hash
from ._imported import Imported
from ._names import Names, Scope, Use

__all__ = ["form_digest", "names_of"]

_MEANINGFUL_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200


def form_digest(code: CodeType) -> str:
    """The digest of a code object and of those in its constants."""
    import dis

    state = new_hash()
    state.update(b"%d.%d;" % sys.version_info[:2])
    pending = [code]
    while pending:
        item = pending.pop()
        head = (
            item.co_argcount,
            item.co_posonlyargcount,
            item.co_kwonlyargcount,
            item.co_flags & _MEANINGFUL_FLAGS,
            item.co_varnames,
            item.co_cellvars,
            item.co_freevars,
        )
        state.update(repr(head).encode("utf-8", "surrogatepass"))
        for instruction in dis.get_instructions(item):
            value = instruction.argval
            state.update(instruction.opname.encode())
            if isinstance(value, CodeType):
                pending.append(value)
                text = "code"
            else:
                text = _constant(value)
            data = text.encode("utf-8", "surrogatepass")
            state.update(b"%d:" % len(data))
            state.update(data)
        state.update(getattr(item, "co_exceptiontable", b""))
    return state.hexdigest()


def _constant(value: Any) -> str:
    """A constant with its type, sets in an order that does not depend on hashing."""
    if isinstance(value, frozenset):
        return "frozenset" + ",".join(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return "(" + ",".join(map(_constant, value)) + ")"
    if isinstance(value, CodeType):
        return "code"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"int{value:x}"
    return f"{type(value).__name__} {value!r}"


def names_of(code: CodeType) -> Names:
    """The names that the instructions use."""
    import dis

    names = Names()
    scope = Scope("function", None)
    pending = [code]
    while pending:
        item = pending.pop()
        chain: list[str] = []
        line = item.co_firstlineno

        def flush(chain: list[str], line: int) -> None:
            if chain:
                names.outer.append(Use(chain[0], tuple(chain[1:]), scope, line, None, False))
                chain.clear()

        level = 0
        for instruction in dis.get_instructions(item):
            operation, value = instruction.opname, instruction.argval
            if operation.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")):
                flush(chain, line)
                chain.append(value)
            elif operation.startswith(("LOAD_ATTR", "LOAD_METHOD")) and chain:
                chain.append(value)
                names.attributes.setdefault(value, line)
            elif operation in ("CACHE", "PUSH_NULL", "EXTENDED_ARG"):
                continue
            else:
                flush(chain, line)
                if operation == "LOAD_CONST" and type(value) is int:
                    level = value
                elif operation == "IMPORT_NAME":
                    names.imports.append((Imported(value, level, None, line), value))
                elif operation.startswith(("LOAD_ATTR", "LOAD_METHOD")):
                    names.attributes.setdefault(value, line)
            if operation == "LOAD_CONST" and type(value) is str:
                names.strings.append((value, line))
        flush(chain, line)
        pending.extend(c for c in item.co_consts if isinstance(c, CodeType))
    for text in ("__doc__", "__annotations__", "get_type_hints"):
        if text in names.attributes:
            names.reads_texts = True
    return names

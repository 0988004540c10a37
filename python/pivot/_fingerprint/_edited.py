"""What the edit of a function's body changes, told without importing anything of the user's.

A function that never started while the pipeline was imported, and that nothing looked into, has
no part in what the import made: after an edit of its body the same import would make the same
objects, but for this function. What a stage then has of it is its form and what its names mean.
`_edits` notes which functions that holds for; here the new text of one is compared with the note.
Whatever is not exactly as it must be is no edit in this sense, and everything is inspected anew.

This is all that such an edit costs, so as little as possible is imported here.
"""

from __future__ import annotations

import _ast as ast
import marshal
from types import CodeType

from ._covered import token, with_inner
from ._hashing import component_hash, content_hash, new_hash
from ._names import Names, names_of
from ._syntax import function_form

TYPE_CHECKING = False  # without `typing`, whose import takes long
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "body_line",
    "combined",
    "compiled",
    "edited",
    "head_print",
    "is_closed",
    "is_plain_text",
    "prints",
    "signature",
    "spans_of",
    "tokens_of",
]

_BOM = b"\xef\xbb\xbf"
# Attributes of anything that make more than names count; see `_resolve`.
_TELLING = frozenset(
    [
        "__subclasses__",
        "localtime",
        "mktime",
        "ctime",
        "tzname",
        "altzone",
        "fromtimestamp",
        "astimezone",
        "timestamp",
    ]
)
# With these in it, a body may prepare what is imported after it; see `_preload`.
_PREPARING = (
    *(b"import", b"__", b"environ", b"putenv", b"unsetenv", b"meta_path", b"sys"),
    *(b"addsitedir", b"load_dotenv"),
)


def is_plain_text(data: bytes) -> bool:
    """Whether the lines of a file are what Python takes for its lines, in UTF-8."""
    special = b"\r" in data or b"\f" in data or b"\0" in data or data.startswith(_BOM)
    head = data.split(b"\n", 2)[:2]
    return not special and not any(b"#" in line and b"coding" in line for line in head)


def is_closed(lines: list[bytes], body: int, end: int) -> bool:
    """Whether a body imports nothing and prepares nothing for other imports."""
    text = b"\n".join(lines[body - 1 : end])
    return not any(word in text for word in _PREPARING)


def spans_of(tree: ast.Module) -> list[list[int]]:
    """First line, with decorators, and last line of each statement of the top level."""
    found = []
    for node in tree.body:
        lines = [one.lineno for one in getattr(node, "decorator_list", ())]
        found.append([min([*lines, node.lineno]), node.end_lineno or node.lineno])
    return found


def prints(lines: list[bytes], spans: list[list[int]]) -> list[str] | None:
    """A digest for the lines of each statement, with those between it and the one before, and
    one for the rest; None where statements share a line.
    """
    found: list[str] = []
    last = 0
    for start, end in spans:
        if start <= last:
            return None
        found.append(content_hash(b"\n".join(lines[last:end])))
        last = end
    found.append(content_hash(b"\n".join(lines[last:])))
    return found


def head_print(lines: list[bytes], before: int, body: int) -> str:
    """A digest for the lines of a definition in front of its body, and of those in front of it."""
    return content_hash(b"\n".join(lines[before : body - 1]))


def signature(names: Names) -> list[Any] | None:
    """What counts of a function's names where nothing but its body changes; None where the form
    of its expressions may count as well.
    """
    if names.imports or names.reads or names.reads_texts:
        return None
    uses = {(str(use.root), use.attributes, use.store) for use in names.outer}
    if any(root.startswith("__") for root, _, _ in uses):
        return None
    return [
        sorted([root, list(attributes), store] for root, attributes, store in uses),
        sorted({text for text, _ in names.strings}),
        sorted(_TELLING.intersection(names.attributes)),
    ]


def combined(rest: bytes, form: str) -> bytes:
    """The digest of a component whose object is a function: its form, and all the rest."""
    state = new_hash()
    state.update(rest)
    state.update(form.encode())
    return state.digest()


def compiled(node: ast.stmt, path: str) -> CodeType | None:
    """The code of a definition at the top level; None where it cannot be compiled by itself.

    The compiler takes less nesting in a tree than in a text.
    """
    try:
        module = compile(ast.Module([node], []), path, "exec", dont_inherit=True)
    except (RecursionError, MemoryError):
        return None
    found = [item for item in module.co_consts if isinstance(item, CodeType)]
    return found[0] if len(found) == 1 else None


def body_line(node: Any, lines: list[bytes]) -> int | None:
    """The line that a function's body begins at behind its docstring; None unless it begins a
    line and something is left.
    """
    body = node.body
    first = body[0]
    if (
        type(first) is ast.Expr
        and type(first.value) is ast.Constant
        and type(first.value.value) is str
    ):
        body = body[1:]
    if not body or lines[body[0].lineno - 1][: body[0].col_offset].strip():
        return None
    return int(body[0].lineno)


def tokens_of(code: CodeType, file: str) -> list[str]:
    """The tokens of a function's code and of what is compiled into it."""
    return sorted(token(inner, lambda _: file) for inner in with_inner(code))


def edited(record: dict[str, Any], path: str, data: bytes) -> dict[str, Any] | None:
    """What changes with these bytes of a file, and the record brought up to date.

    ``digest`` is that of the bytes, ``file`` and ``line`` are the place of the function as
    components have it, ``hashes`` has the new hash of each component of it by the old one. None
    where the edit is another.
    """
    known = record["files"].get(path)
    if known is None or not is_plain_text(data):
        return None
    file, count, spans, before_edit, functions = marshal.loads(known)
    lines = data.split(b"\n")
    now = prints(lines, spans) if len(lines) == count else None
    if now is None:
        return None
    pairs = zip(now, before_edit, strict=True)
    changed = [number for number, (new, old) in enumerate(pairs) if new != old]
    function = functions.get(changed[0]) if len(changed) == 1 else None
    if function is None:
        return None
    number = changed[0]
    before = spans[number - 1][1] if number else 0
    if head_print(lines, before, function["body"]) != function["head"]:
        return None
    if not is_closed(lines, function["body"], spans[number][1]):
        return None
    try:
        tree: Any = compile(data, path, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        if spans_of(tree) != spans:
            return None
        node = tree.body[number]
        if type(node).__name__ != function["kind"] or body_line(node, lines) != function["body"]:
            return None
        code = compiled(node, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if code is None or code.co_flags != function["flags"]:
        return None
    if function["rests"]:
        if tokens_of(code, file) != function["tokens"]:
            return None
        if signature(names_of([node])) != function["signature"]:
            return None
    form = form_of(node)
    hashes: dict[str, str] = {}
    rests: dict[str, bytes] = {}
    for old, rest in function["rests"].items():
        hashes[old] = new = component_hash(combined(rest, form))
        rests[new] = rest
    function["rests"] = rests
    record["files"][path] = marshal.dumps((file, count, spans, now, functions))
    record["name"] = content_hash(marshal.dumps(record["files"]))
    digest = content_hash(data)
    return {"digest": digest, "file": file, "line": function["line"], "hashes": hashes}


def form_of(node: ast.AST) -> str:
    """The digest of a definition's form, as a graph of components has it."""
    state = new_hash()
    state.update(function_form(node))
    return state.hexdigest()

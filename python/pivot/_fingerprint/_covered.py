"""Which code objects a manifest covers, as short tokens that another process can compare.

The helper that takes a fingerprint and the worker that runs the stage are two processes which
loaded the same bytes, so a file, a line, a qualified name and, for code without a name of its
own, a column say which code object is meant. `_extras` takes what started and has no token here
for a gap in the fingerprint.
"""

from __future__ import annotations

import sys
from _blake2 import blake2b  # `hashlib` loads OpenSSL as well
from types import CodeType

from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there

TYPE_CHECKING = False  # without `typing`, whose import takes long; see `_edited`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "TOKEN_LENGTH",
    "is_observable",
    "joined",
    "module_token",
    "split",
    "token",
    "with_inner",
]

TOKEN_LENGTH = 8  # hexadecimal digits

is_observable = hasattr(sys, "monitoring")
"""Whether a run of this interpreter can tell which code started."""


def token(code: CodeType, relative: Callable[[str], str]) -> str:
    """The token of one code object; ``relative`` makes its path the project's."""
    name = getattr(code, "co_qualname", code.co_name)
    column = _column(code) if code.co_name.startswith("<") else 0
    return _hashed(f"{relative(code.co_filename)}\0{code.co_firstlineno}\0{column}\0{name}")


def module_token(file: str) -> str:
    """The token of a module's top level; ``file`` is the project's path of it."""
    return _hashed(f"{file}\0<module>")


def with_inner(code: CodeType) -> Iterable[CodeType]:
    """A code object and all that are compiled into it: they are part of its text."""
    pending = [code]
    while pending:
        item = pending.pop()
        yield item
        pending.extend(inner for inner in item.co_consts if isinstance(inner, CodeType))


def joined(tokens: Iterable[str]) -> str:
    """Tokens as one text, each once."""
    return "".join(sorted(set(tokens)))


def split(text: str) -> frozenset[str]:
    """The tokens in a text that :func:`joined` made."""
    return frozenset(text[at : at + TOKEN_LENGTH] for at in range(0, len(text), TOKEN_LENGTH))


def _column(code: CodeType) -> int:
    """Where the code begins in its line: two lambdas may share one."""
    positions = getattr(code, "co_positions", None)
    columns = (place[2] for place in positions()) if positions is not None else ()
    return min((column for column in columns if column), default=0)


def _hashed(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=TOKEN_LENGTH // 2).hexdigest()

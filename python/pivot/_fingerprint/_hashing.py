"""The hash functions of the engine, in one place.

Components carry 64 bits: they detect change, not tampering. File contents in the witness carry
128 bits, since one of them stands for everything that was derived from the file.
"""

from __future__ import annotations

from _blake2 import blake2b  # `hashlib` loads OpenSSL as well

__all__ = ["component_hash", "content_hash", "new_hash"]


def new_hash():
    """A fresh hash for parts that are mixed into a component."""
    return blake2b(digest_size=16)


def component_hash(*parts: bytes) -> str:
    """The 16 hexadecimal digits of a component, from its length-prefixed parts."""
    state = blake2b(digest_size=8)
    for part in parts:
        state.update(b"%d:" % len(part))
        state.update(part)
    return state.hexdigest()


def content_hash(data: bytes | memoryview) -> str:
    """BLAKE2b-128 of a file's bytes, 32 hexadecimal digits."""
    return blake2b(data, digest_size=16).hexdigest()

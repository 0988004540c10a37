"""The builtins as they were before user code ran.

A module that binds `__builtins__` to `OWN_BUILTINS` looks its builtins up there, whatever user
code does to `builtins`. Those that run while user code runs need it.
"""

from __future__ import annotations

import builtins

__all__ = ["OWN_BUILTINS"]

OWN_BUILTINS = dict(vars(builtins))

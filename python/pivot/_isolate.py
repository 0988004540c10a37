"""Runs one stage after the other, each in a new interpreter of the same process (Python 3.14).

No module, class or setting of one stage reaches the next; what belongs to the process, such as its
folder, is set back as `_keep` does. The process runs one stage at a time, and so the folder and the
standard streams are the stage's own, and what brings the process down harms no other stage.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import Any

from pivot._keep import Keeper

interpreters: Any = import_module("concurrent.interpreters")  # types are checked for Python 3.10

_INTERRUPTS = {signal.SIGINT}
_PREPARE = """
import sys

sys.path.insert(0, package)
from pivot._isolated import run_isolated
"""


class Isolator(Keeper):
    """The stages of one process, one at a time, each in an interpreter of its own."""

    _next: Any = None

    def _prepare(self) -> None:
        self._next = self._next or _interpreter()

    def _execute(self, result: int) -> int:
        interpreter, self._next = self._next or _interpreter(), None
        # It would be seen when the stage has ended: the main interpreter is who sees signals.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        try:
            interpreter.prepare_main(result=result)
            interpreter.exec("run_isolated(result)")
            status = 0
        except interpreters.ExecutionFailed:
            status = 1
        finally:
            interpreter.close()
            signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        return status

    def _reset(self) -> str | None:
        return self.state.restore(lambda module: False)


def _interpreter() -> Any:
    """A new interpreter that is ready for a stage."""
    made = interpreters.create()
    made.prepare_main(package=sys.path[0])
    made.exec(_PREPARE)
    return made

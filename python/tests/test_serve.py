"""The server that forks stages, where the system refuses it something."""

from __future__ import annotations

import errno
import os
import socket
import unittest
from typing import Any
from unittest import mock

from support import DEADLINE_SECONDS, _frame

from pivot._serve import Server

REFUSED = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class Refusals(unittest.TestCase):
    def setUp(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.ours.settimeout(DEADLINE_SECONDS)
        self.server = Server(theirs.detach())
        self.addCleanup(self.server._connection.close)

    def ask(self, descriptors: list[int]) -> dict[str, Any]:
        frame = {"type": "run", "id": 7, "request": {}}
        work = self.server._answer(frame, descriptors)
        if work is not None:
            os._exit(0)  # the child, if it is not ended before
        for descriptor in descriptors:
            with self.assertRaises(OSError, msg="it is left open"):
                os.fstat(descriptor)
        self.assertEqual(self.server._children, {})
        return _frame(self.ours)

    def refuses(self, why: str, descriptors: list[int] | None = None) -> None:
        if descriptors is None:
            descriptors = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        answer = self.ask(descriptors)
        status = answer.pop("status")
        self.assertEqual(os.waitstatus_to_exitcode(status), 71)
        self.assertEqual(answer, {"type": "exit", "id": 7, "error": why})
        with self.assertRaises(ChildProcessError, msg="a child is left"):
            os.waitpid(-1, os.WNOHANG)

    def test_no_process(self):
        with mock.patch("os.fork", side_effect=REFUSED):
            self.refuses(os.strerror(errno.EAGAIN))

    def test_no_descriptor_for_the_end(self):
        with mock.patch("os.pidfd_open", side_effect=REFUSED):
            self.refuses(os.strerror(errno.EAGAIN))

    def test_descriptors_that_did_not_arrive(self):
        self.refuses(os.strerror(errno.EMFILE), [os.open(os.devnull, os.O_RDWR)])


if __name__ == "__main__":
    unittest.main()

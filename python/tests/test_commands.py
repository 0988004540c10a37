"""The scripts behind shell commands: of any command, however broken."""

from __future__ import annotations

import os
import random
import tempfile
import time
import unittest
from pathlib import Path

from support import PACKAGE  # noqa: F401 - puts the package on the path

from pivot._fingerprint._commands import Commands
from pivot._fingerprint._roots import Roots

SECONDS = float(os.environ.get("PIVOT_FUZZ_SECONDS", "1"))
SEED = int(os.environ.get("PIVOT_FUZZ_SEED", time.time_ns() % 1_000_000))
COMMANDS = (
    "MODE=x python3 tool.py in.txt > out.txt && sh 'finish it.sh'",
    "python -m pkg.sub < a | ./tool.py --x=\"$(cat in)\" || { echo $'no'; }",
    "cat <<EOF\nfor a in *; do python $a; done\nEOF\n",
)
TOKENS = (
    *" \n\t'\"\\;|&(){}<>#$`!*?~=-/.\0",
    *("&&", "||", ">>", "<<", "$(", "${", "-m", "-c", "..", "python", "\u2028", "\ud800", "é"),
    *("a" * 5000, "/" * 300, "../" * 50, "(" * 500, "'" * 3, "\\\n", "tool.py", "pkg", "\x1b[0m"),
)


class AnyCommandTest(unittest.TestCase):
    def test_any_command_has_components(self) -> None:
        choose = random.Random(SEED)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            (root / "pkg").mkdir()
            for name in ("tool.py", "finish it.sh", "pkg/__init__.py", "pkg/sub.py"):
                (root / name).write_text("import tool\n")
            commands = Commands(Roots(str(root)))
            found = [part["name"] for part in commands.components(COMMANDS[0], None)]
            self.assertEqual(found, ["file:finish it.sh", "file:tool.py"])
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                command = choose.choice(COMMANDS)
                for _ in range(choose.randrange(1, 8)):
                    at = choose.randrange(len(command) + 1)
                    cut = choose.choice((at, at, at + 3))
                    command = command[:at] + choose.choice(TOKENS) + command[cut:]
                with self.subTest(seed=SEED, command=command):
                    started = time.process_time()
                    for part in commands.components(command, None):
                        self.assertNotIn("..", part["name"].split("/"))
                    self.assertLess(time.process_time() - started, 1)

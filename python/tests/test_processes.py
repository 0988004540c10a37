"""What the helper's processes have in common, and what they do for a stage around it."""

from __future__ import annotations

import io
import subprocess
import sys
import unittest

from support import PACKAGE

from pivot._processes import flush_files

LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
import pivot._main
for name in pivot._main._MODULES.get(sys.argv[2], ()):
    __import__(name)
print(*sorted(sys.modules.keys() & sys.stdlib_module_names))
"""


class Loaded(unittest.TestCase):
    def test_all_find_the_same_modules_of_the_library_in_a_project(self) -> None:
        """One that is loaded hides a project's module of its name, and must hide it in all."""

        def loaded(kind: str) -> set[str]:
            command = [sys.executable, "-c", LOADED, str(PACKAGE.parent), kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return set(done.stdout.split())

        inspecting = loaded("inspect")
        for kind in ("run", "serve", "keep"):
            # What is built in is found before a project's; a name with `_` is no project's.
            missing = inspecting - loaded(kind) - set(sys.builtin_module_names)
            self.assertEqual({name for name in missing if name[0] != "_"}, set(), kind)


class Registered:
    """A file by its word only."""

    def __init__(self) -> None:
        self.closed = False
        self.flushed = False

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self.flushed = True


class OddType(type):
    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("not comparable")


class Odd(metaclass=OddType):
    pass


class Flushed(unittest.TestCase):
    def test_files_of_all_kinds_among_objects_of_all_kinds(self) -> None:
        io.IOBase.register(Registered)
        odd, registered = Odd(), Registered()
        raw = io.BytesIO()
        raw.close = lambda: None  # type: ignore[method-assign]
        text = io.TextIOWrapper(io.BufferedWriter(raw))  # type: ignore[arg-type]
        text.write("written")
        flush_files()
        self.assertEqual(raw.getvalue(), b"written")
        self.assertTrue(registered.flushed)
        self.assertIsNotNone(odd)


if __name__ == "__main__":
    unittest.main()

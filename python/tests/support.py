"""Drives the helper process as the ``pivot`` program does: over a socket, one request each."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent / "pivot"
if str(PACKAGE.parent) not in sys.path:
    sys.path.insert(0, str(PACKAGE.parent))

DEADLINE_SECONDS = 60
START = """\
import sys

from pivot._main import main

main((sys.dont_write_bytecode, sys.pycache_prefix))
"""


class Ended:
    """What a helper process left: its frames, prints and exit status."""

    def __init__(
        self, frames: list[dict[str, Any]], done: subprocess.CompletedProcess[str]
    ) -> None:
        self.hello = frames[0] if frames else {}
        self.answer = frames[1] if len(frames) > 1 else {}
        self.stdout = done.stdout
        self.stderr = done.stderr
        self.status = done.returncode

    def __repr__(self) -> str:
        return f"<{self.answer}, status {self.status}>\n{self.stdout}\n{self.stderr}"


class ProjectTestCase(unittest.TestCase):
    """A temporary project, and requests to a helper in it."""

    maxDiff = None

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pivot-test-"))
        self.addCleanup(shutil.rmtree, folder)
        self.root = folder / "project"
        self.root.mkdir()
        self.starter = folder / "helper"
        self.starter.mkdir()
        (self.starter / "__main__.py").write_text(START)
        (self.starter / "pivot").symlink_to(PACKAGE)

    def write(self, name: str, text: str) -> None:
        """Puts a file into the project; the text is dedented."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def read(self, name: str) -> str:
        """A file of the project."""
        return (self.root / name).read_text()

    def request(self, request: dict[str, Any], flags: tuple[str, ...] = (), **env: str) -> Ended:
        """Starts a helper, sends one request and waits for the process's end."""
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_SECONDS)
        os.set_inheritable(theirs.fileno(), True)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | env
        command = [sys.executable, *flags, str(self.starter), "--fd", str(theirs.fileno())]
        process = subprocess.Popen(
            command, cwd=self.root, env=environ, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            errors="surrogateescape",
        )  # fmt: skip
        theirs.close()
        with ours, process:
            body = json.dumps(request).encode()
            frames = []
            try:
                ours.sendall(len(body).to_bytes(4, "little") + body)
                while frame := _frame(ours):
                    frames.append(frame)
            except OSError as error:
                frames.append({"error": repr(error)})
            try:
                stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
        return Ended(frames, done)

    def inspect(self, *, file: str = "pipeline.py", **more: Any) -> Ended:
        """Asks for the stages of a pipeline file."""
        request = {"type": "inspect", "root": str(self.root), "entry": {"file": file}}
        return self.request({**request, "overrides": {}, "settings": {}, **more})

    def inspect_targets(self, *targets: dict[str, Any], **more: Any) -> Ended:
        """Asks for stages of a ``pivot.yaml``."""
        place = {"file": "pivot.yaml", "line": 3}
        entry = {"targets": [{"place": place, "variant": None, **target} for target in targets]}
        return self.inspect(entry=entry, **more)

    def run_stage(self, stage: str, *, overrides: dict[str, Any] | None = None) -> Ended:
        """Runs a stage of ``pipeline.py`` with what an inspection says of it."""
        inspected = self.inspect(overrides=overrides or {}).answer
        self.assertEqual(inspected.get("type"), "inspected", inspected)
        found = next(s for s in inspected["stages"] if s["name"] == stage)
        keys = ("params", "deps", "outs", "variant", "cwd")
        return self.run_request(stage=stage, **{key: found[key] for key in keys})

    def run_request(self, *, stage: str = "work", **more: Any) -> Ended:
        """Sends a ``run`` request for a stage of ``pipeline.py``."""
        request = {
            "type": "run", "root": str(self.root), "entry": {"file": "pipeline.py"},
            "stage": stage, "params": {}, "deps": [], "outs": [], "variant": None, "cwd": None,
        }  # fmt: skip
        return self.request({**request, **more})

    def stages(self, **more: Any) -> dict[str, dict[str, Any]]:
        """The stages of ``pipeline.py`` by name."""
        ended = self.inspect(**more)
        self.assertEqual(ended.answer.get("type"), "inspected", ended)
        return {stage["name"]: stage for stage in ended.answer["stages"]}

    def failure(self, **more: Any) -> dict[str, Any]:
        """The error of an inspection of ``pipeline.py``."""
        ended = self.inspect(**more)
        self.assertEqual(ended.answer.get("type"), "failed", ended)
        return ended.answer["error"]


def _frame(stream: socket.socket) -> dict[str, Any] | None:
    header = _exactly(stream, 4)
    if header is None:
        return None
    body = _exactly(stream, int.from_bytes(header, "little"))
    assert body is not None, "a frame was cut"
    return json.loads(body, parse_constant=_refuse)


def _exactly(stream: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            return None
        data += part
    return data


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def pydantic_version() -> int:
    """The major version of Pydantic for the interpreter under test; 0 if there is none."""
    try:
        import pydantic
    except ImportError:
        return 0
    return int(pydantic.VERSION.partition(".")[0])

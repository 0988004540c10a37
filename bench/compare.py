"""Pivot beside ninja, DVC, Snakemake, cp and find: a row for each promise of speed.

usage: compare.py [ROWS...] [--sizes 176 1000 5000] [--runs 9] [--gigabytes 2] [--files 100000]

startup   `--version`
noop      nothing to do, at each size
plan      what `pivot run -n` takes, which always makes a plan
first     all stages of a pipeline of trivial shell commands, the smallest size
edited    a helper changed that some of 176 Python stages use: what would run
large     one large file: hashed, stored by linking and by copying, restored
files     many small files: stored, looked at again, restored

Rows that are not named are left out; without names, all are measured. Ninja is needed; `dvc` and `snakemake`
are compared where they are on the PATH, up to 200 stages. Build first:

    cargo build --release -p pivot-cli && cargo build --release -p pivot-cache --example store

Figures are CPU milliseconds of the whole process tree, medians, with wall-clock milliseconds in
brackets; a ratio below 1 is Pivot's. RESULTS.md has ours, and what they tell.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from measure import HERE, Command, compare, header

RELEASE = HERE.parent / "target/release"


class Bench:
    """The programs, the sizes, and a directory for all that is made."""

    def __init__(self, options: argparse.Namespace, root: pathlib.Path) -> None:
        self.pivot = os.path.abspath(options.pivot)
        self.store = str(RELEASE / "examples/store")
        self.options = options
        self.root = root
        self.set_aside = 0

    def forget(self, *paths: pathlib.Path) -> None:
        """Moves what a run has made out of the way, until the end.

        Removed at once, it would be the next run that pays: ext4 looks through what was removed of
        late whenever it makes a file.
        """
        aside = self.root / "aside"
        aside.mkdir(exist_ok=True)
        for path in paths:
            if path.exists():
                path.rename(aside / str(self.set_aside))
                self.set_aside += 1

    def pipeline(self, stages: int, style: str = "cmd") -> pathlib.Path:
        """A generated pipeline that has run, under Pivot and its peers."""
        folder = self.root / f"{style}-{stages}"
        if folder.exists():
            return folder
        peers = [f"--{peer}" for peer in self.peers(stages)] if style == "cmd" else []
        generate = [sys.executable, str(HERE / "generate.py"), str(folder), str(stages), "--style", style]
        subprocess.run(generate + peers, check=True)
        quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
        subprocess.run([self.pivot, "run"], **quiet)
        for peer in self.peers(stages) if peers else []:
            for command in PREPARE.get(peer, []) + [PEERS[peer]]:
                subprocess.run(command, **quiet)
        # Stamps of files that were written just now prove nothing yet.
        time.sleep(2.5)
        subprocess.run([self.pivot, "run"], **quiet)
        return folder

    def peers(self, stages: int) -> list[str]:
        slow = [peer for peer in ("dvc", "snakemake") if stages <= 200 and shutil.which(peer)]
        return ["ninja", *slow]

    def startup(self) -> None:
        ninja = Command(["ninja", "--version"], self.root)
        compare("--version", Command([self.pivot, "--version"], self.root), ninja, "ninja", 50)

    def noop(self) -> None:
        for stages in self.options.sizes:
            folder = self.pipeline(stages)
            for peer in self.peers(stages):
                runs = self.options.runs if peer == "ninja" else 3
                theirs = Command(PEERS[peer], folder)
                compare(f"no-op, {stages} stages", Command([self.pivot, "run"], folder), theirs, peer, runs)

    def plan(self) -> None:
        for stages in self.options.sizes:
            folder = self.pipeline(stages)
            ninja = Command(["ninja", "-n"], folder)
            ours = Command([self.pivot, "run", "-n"], folder)
            compare(f"plan, {stages} stages", ours, ninja, "ninja -n", self.options.runs)

    def first(self) -> None:
        stages = min(self.options.sizes)
        folder = self.pipeline(stages)

        def forget(*names: str) -> None:
            self.forget(*(folder / name for name in names))

        ours = Command([self.pivot, "run"], folder, lambda: forget(".pivot", "out"))
        ninja = Command(["ninja"], folder, lambda: forget("ninja-out", ".ninja_log", ".ninja_deps"))
        compare(f"run {stages} trivial shell stages", ours, ninja, "ninja", 5)

    def edited(self) -> None:
        folder = self.pipeline(176, "python")
        steps = folder / "steps.py"
        turn = iter(range(1_000))
        text = steps.read_text()

        def edit() -> None:
            steps.write_text(text.replace("def step0_3(", f"SEED = {next(turn)}\n\n\ndef step0_3(") + "\n")

        code = f"import sys; sys.path[:0] = [{str(HERE.parent / 'python')!r}, '.']; import pipeline"
        theirs = Command([sys.executable, "-c", code], folder, edit)
        ours = Command([self.pivot, "--python", sys.executable, "run", "-n"], folder, edit)
        compare("an edit among 176 Python stages, planned", ours, theirs, "python -c 'import pipeline'", 9)
        steps.write_text(text)

    def large(self) -> None:
        folder = self.root / "large"
        folder.mkdir()
        size = int(self.options.gigabytes * 2**30)
        with open(folder / "data", "wb") as file:
            block = os.urandom(1 << 20)
            for number in range(size >> 20):
                file.write(number.to_bytes(8, "little") + block[8:])
        store = [self.store, str(folder / "store")]

        def forget() -> None:
            shutil.rmtree(folder / "store", ignore_errors=True)
            (folder / "copy").unlink(missing_ok=True)

        name, runs = f"{self.options.gigabytes:g} GiB", 3
        hashed = Command([*store, "hash", "data"], folder)
        copied = Command(["cp", "data", "copy"], folder, forget)
        compare(f"hash {name}", hashed, Command(["cat", "data"], folder), "cat", runs)
        compare(f"store {name} by copying", Command([*store, "copy", "data"], folder, forget), copied, "cp", runs)
        compare(f"store {name} by linking", Command([*store, "link", "data"], folder, forget), hashed, "hash", runs)
        Command([*store, "link", "data"], folder, forget).once()
        restore = Command([*store, "restore", "data", "back"], folder)
        cp = Command(["cp", "data", "copy"], folder, lambda: (folder / "copy").unlink(missing_ok=True))
        compare(f"restore {name}", restore, cp, "cp", runs)
        shutil.rmtree(folder)

    def files(self) -> None:
        folder = self.root / "small"
        count = self.options.files
        for number in range(count):
            path = folder / "tree" / str(number // 500) / f"{number}.txt"
            if number % 500 == 0:
                path.parent.mkdir(parents=True)
            path.write_text(f"contents of {number}\n")
        store = [self.store, str(folder / "store")]

        def forget(*names: str) -> None:
            self.forget(*(folder / name for name in names))

        name = f"{count:,} small files"
        first = Command([*store, "copy", "tree"], folder, lambda: forget("store"))
        copy = Command(["cp", "-r", "tree", "copy"], folder, lambda: forget("copy"))
        compare(f"store {name}", first, copy, "cp -r", 1)
        forget("copy")
        Command([*store, "look", "tree"], folder).once()
        look = Command([*store, "look", "tree"], folder)
        find = Command(["find", "tree", "-printf", "%s"], folder)
        compare(f"look at {name}, unchanged", look, find, "find -printf %s", self.options.runs)
        restore = Command([*store, "restore", "tree", "back"], folder, lambda: forget("back"))
        compare(f"restore {name}", restore, copy, "cp -r", 1)
        shutil.rmtree(folder)


PEERS = {
    "ninja": ["ninja"],
    "dvc": ["dvc", "repro", "--quiet"],
    "snakemake": ["snakemake", "--cores", "1", "--quiet", "all"],
}
PREPARE = {"dvc": [["dvc", "init", "--no-scm"], ["dvc", "config", "core.analytics", "false"]]}
ROWS = ["startup", "noop", "plan", "first", "edited", "large", "files"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROWS", help=", ".join(ROWS))
    parser.add_argument("--pivot", default=str(RELEASE / "pivot"))
    parser.add_argument("--sizes", nargs="+", type=int, default=[176, 1000, 5000])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--scratch", type=pathlib.Path, help="where to make pipelines and data")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    # An import that may not keep its byte code costs twice as much, and flatters Pivot.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    root = pathlib.Path(tempfile.mkdtemp(prefix="pivot-bench-", dir=options.scratch)).resolve()
    try:
        bench = Bench(options, root)
        header()
        for name in options.rows or ROWS:
            getattr(bench, name)()
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()

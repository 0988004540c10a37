"""What it costs to start a Python stage that needs numpy and pandas, beside ninja starting ``cp``.

usage: dispatch.py [STAGES] [--spawn STAGES] [--runs N] [--python PYTHON] [--pivot PROGRAM]

All do the same: each stage copies a small file, one in Python and one with ``cp``. Printed are the
processor time and the wall-clock time of a stage, less those of a run of one stage, so that what a
run does only once (the imports of the zygote among it) does not count; medians of all rounds, in
which the programs take turns. Spawning takes seconds for a few stages, and so it gets fewer.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

PIPELINE = """\
import numpy
import pandas
from pivot import Pipeline

def copy(source, out):
    with open(source) as old, open(out, "w") as new:
        new.write(old.read())

pipeline = Pipeline()
for n in range({count}):
    pipeline.add_stage(copy, name=f"s{{n}}", deps=["source.txt"], outs=[f"out/{{n}}"])
"""


class Bench:
    """What is measured, in new directories below ``root``.

    They stay to the end: on ext4, files that were just removed make new ones expensive.
    """

    def __init__(self, root: str, program: str, python: str) -> None:
        self._root = root
        self._program = program
        self._environment = {**os.environ, "PIVOT_PYTHON": python}

    def pivot(self, executor: str, count: int) -> tuple[float, float]:
        """Seconds of processor time, of all processes, and of wall-clock time of one run."""
        folder = self._folder({"pipeline.py": PIPELINE.format(count=count)})
        # The pipeline's inspection is not what is measured.
        status = [self._program, "status"]
        subprocess.run(status, cwd=folder, env=self._environment, check=True, capture_output=True)
        run = [self._program, "run", "-j", "2", "--executor", executor]
        return timed(run, folder, self._environment)

    def ninja(self, count: int) -> tuple[float, float]:
        """The same for ninja and ``cp``."""
        edges = "".join(f"build out/{n}: copy source.txt\n" for n in range(count))
        text = f"rule copy\n  command = cp $in $out\n{edges}"
        return timed(["ninja", "-j", "2"], self._folder({"build.ninja": text}), self._environment)

    def _folder(self, files: dict[str, str]) -> str:
        folder = tempfile.mkdtemp(dir=self._root)
        for name, text in {**files, "source.txt": "a small file\n"}.items():
            pathlib.Path(folder, name).write_text(text)
        return folder


def timed(command: list[str], root: str, environment: dict[str, str]) -> tuple[float, float]:
    """Runs a command and returns its seconds of processor and of wall-clock time."""
    started = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=quiet, stderr=quiet)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime, time.perf_counter() - started


def executable(name: str) -> str:
    """The absolute path of a program, which is run in other folders."""
    found = shutil.which(name)
    if found is None:
        raise argparse.ArgumentTypeError(f"there is no program {name}")
    return str(pathlib.Path(found).absolute())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stages", nargs="?", type=int, default=1000)
    parser.add_argument("--spawn", type=int, default=30)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--python", default=executable("python3"), type=executable)
    parser.add_argument("--pivot", default=str(pathlib.Path("target/release/pivot").absolute()))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pivot-bench-") as root:
        compare(Bench(root, asked.pivot, asked.python), asked.stages, asked.spawn, asked.runs)


def compare(bench: Bench, stages: int, spawned: int, runs: int) -> None:
    """Measure all in turn and print the medians."""
    programs = {
        "warm": (stages, functools.partial(bench.pivot, "warm")),
        "reuse": (stages, functools.partial(bench.pivot, "reuse")),
        "spawn": (spawned, functools.partial(bench.pivot, "spawn")),
    }
    if shutil.which("ninja"):
        programs["ninja, cp"] = (stages, bench.ninja)
    rounds: list[dict[str, tuple[float, float]]] = []
    for _ in range(runs):
        costs = {}
        for name, (count, run) in programs.items():
            once, many = run(1), run(count)
            costs[name] = tuple(
                (b - a) / (count - 1) * 1000 for a, b in zip(once, many, strict=True)
            )
        rounds.append(costs)
    for name, (count, _) in programs.items():
        cpu, wall = (statistics.median(costs[name][i] for costs in rounds) for i in (0, 1))
        print(f"{name:9} {count:5} stages: {cpu:7.2f} ms CPU, {wall:7.2f} ms wall a stage")
    for one, other in (("spawn", "warm"), ("warm", "ninja, cp"), ("reuse", "ninja, cp")):
        if other in programs:
            ratio = statistics.median(costs[one][0] / costs[other][0] for costs in rounds)
            print(f"{one} / {other}: {ratio:.1f} times the CPU")


if __name__ == "__main__":
    main()

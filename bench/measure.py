"""Commands, timed by the CPU time of their whole process tree, in pairs.

On a machine that others use too, wall-clock time says little and its speed drifts. So the figure is CPU
time as the system accounts it, two commands that are compared take turns, and the ratio is the median
of the ratios of neighbors.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Figure:
    """One finished command: CPU and wall-clock milliseconds, peak MiB of its largest process.

    A peak of less than Python's own, about 16 MiB, is not seen: it is counted before the exec.
    """

    cpu: float
    wall: float
    peak: float


@dataclasses.dataclass
class Command:
    """What to run, where, and what to do before each time; that is not timed."""

    words: list[str]
    directory: pathlib.Path
    before: Callable[[], object] = lambda: None

    def once(self) -> Figure:
        self.before()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        null = subprocess.DEVNULL
        process = subprocess.Popen(self.words, cwd=self.directory, stdin=null, stdout=null, stderr=null)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(self.words)}: exit code {process.returncode} in {self.directory}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
        return Figure(cpu * 1000, wall * 1000, usage.ru_maxrss / 1024)


def median(figures: list[Figure]) -> Figure:
    """The median of each of the figures."""
    columns = zip(*(dataclasses.astuple(figure) for figure in figures), strict=True)
    return Figure(*(statistics.median(column) for column in columns))


def compare(what: str, ours: Command, theirs: Command, peer: str, runs: int) -> None:
    """Runs both in turn, ours first, and prints a row."""
    pairs = [(ours.once(), theirs.once()) for _ in range(runs + 1)][1:]
    ratio = statistics.median(a.cpu / max(b.cpu, 0.01) for a, b in pairs)
    us, them = median([a for a, _ in pairs]), median([b for _, b in pairs])
    row(what, us, f"{them.cpu:.1f} ({them.wall:.0f}) {peer}", f"{ratio:.2f}")


def header() -> None:
    print("| what | CPU ms (wall) | peer's CPU ms (wall) | ratio | peak MiB |")
    print("| --- | --- | --- | --- | --- |", flush=True)


def row(what: str, us: Figure, them: str, ratio: str) -> None:
    print(f"| {what} | {us.cpu:.1f} ({us.wall:.0f}) | {them} | {ratio} | {us.peak:.0f} |", flush=True)

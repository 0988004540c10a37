"""What it costs to start a Python stage that needs numpy and pandas: warm against spawn.

usage: dispatch.py [WARM_STAGES] [SPAWN_STAGES] [--python PYTHON] [--pivot PROGRAM]

Prints processor time and wall-clock time a stage, less those of a run of one stage, so that what a
run does only once (the zygote's imports among it) does not count. Compare the ratio: both numbers
come from the same machine in the same minute.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import tempfile
import time

PIPELINE = """\
import numpy
import pandas
from pivot import Pipeline

def write(out):
    assert numpy and pandas
    open(out, "w").close()

pipeline = Pipeline()
for n in range({count}):
    pipeline.add_stage(write, name=f"s{{n}}", outs=[f"out/{{n}}"])
"""


def measure(pivot: str, python: str, executor: str, count: int) -> tuple[float, float]:
    """Seconds of processor time, of all processes, and of wall-clock time of one run."""
    with tempfile.TemporaryDirectory(prefix="pivot-bench-") as root:
        pathlib.Path(root, "pipeline.py").write_text(PIPELINE.format(count=count))
        environment = {**os.environ, "PIVOT_PYTHON": python}
        run = [pivot, "run", "--executor", executor]
        # The pipeline's inspection is not what is measured.
        subprocess.run([pivot, "status"], cwd=root, env=environment, check=True, capture_output=True)
        started = time.perf_counter()
        process = subprocess.Popen(
            run, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0, f"{run} failed"
        return used.ru_utime + used.ru_stime, time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("warm", nargs="?", type=int, default=1000)
    parser.add_argument("spawn", nargs="?", type=int, default=30)
    parser.add_argument("--python", default="python3")
    parser.add_argument("--pivot", default=str(pathlib.Path("target/release/pivot").absolute()))
    arguments = parser.parse_args()
    costs = {}
    for executor in ("warm", "spawn"):
        count: int = getattr(arguments, executor)
        once = measure(arguments.pivot, arguments.python, executor, 1)
        many = measure(arguments.pivot, arguments.python, executor, count)
        cpu, wall = ((b - a) / (count - 1) * 1000 for a, b in zip(once, many))
        costs[executor] = cpu
        print(f"{executor:5}  {count:5} stages: {cpu:8.1f} ms CPU, {wall:8.1f} ms wall a stage")
    print(f"spawn costs {costs['spawn'] / costs['warm']:.0f} times the CPU of warm")


if __name__ == "__main__":
    main()

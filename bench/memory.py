"""The memory of pandas stages that run at the same time, beside a pool of worker processes.

usage: memory.py [STAGES] [--python PYTHON] [--pivot PROGRAM]

Each stage, and each task of the pool, groups a data frame and then waits for all the others. While
they wait, the proportional set size (PSS: pages that processes share are divided among them) of the
whole process tree is added up. The pool is that of the standard library, with processes that import
for themselves; loky's, which many libraries use, is measured as well where it is installed.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

WORK = """\
import os
import time

import numpy
import pandas


def work(number, folder, count):
    frame = pandas.DataFrame({"key": numpy.arange(1000) % 7, "value": numpy.arange(1000.0)})
    total = frame.groupby("key")["value"].mean().sum()
    open(os.path.join(folder, f"ready-{number}"), "w").close()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    return float(total)
"""

PIPELINE = """\
from pivot import Pipeline
from work import work

def run(out, number):
    with open(out, "w") as file:
        file.write(str(work(number, "ready", {count})))

pipeline = Pipeline()
for n in range({count}):
    pipeline.add_stage(run, name=f"s{{n}}", outs=[f"out/{{n}}"], params={{"number": n}})
"""

POOL = """\
import multiprocessing
from work import work

if __name__ == "__main__":
    {make}
    done = [pool.submit(work, n, "ready", {count}) for n in range({count})]
    [one.result() for one in done]
"""

POOLS = {
    "stdlib pool": "from concurrent.futures import ProcessPoolExecutor\n"
    "    context = multiprocessing.get_context('spawn')\n"
    "    pool = ProcessPoolExecutor({count}, mp_context=context)",
    "loky": "from loky import get_reusable_executor\n"
    "    pool = get_reusable_executor(max_workers={count})",
}


def tree(root: int) -> list[int]:
    """The process and all that descend from it."""
    found = [root]
    for process in found:
        try:
            tasks = os.listdir(f"/proc/{process}/task")
            for task in tasks:
                text = pathlib.Path(f"/proc/{process}/task/{task}/children").read_text()
                found += map(int, text.split())
        except OSError:
            continue  # it has ended
    return found


def pss(process: int) -> int:
    """Bytes of proportional set size."""
    try:
        lines = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def measure(
    command: list[str], files: dict[str, str], python: str, count: int
) -> tuple[float, int]:
    """The MiB of all processes of a command while all its stages wait, and how many they are."""
    with tempfile.TemporaryDirectory(prefix="pivot-bench-") as root:
        for name, text in files.items():
            pathlib.Path(root, name).write_text(text)
        ready = pathlib.Path(root, "ready")
        ready.mkdir()
        environment = {**os.environ, "PIVOT_PYTHON": python}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=quiet, stderr=quiet)
        while len(list(ready.iterdir())) < count:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended too early")
            time.sleep(0.01)
        processes = tree(process.pid)
        total = sum(map(pss, processes))
        (ready / "go").touch()
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed")
        return total / 2**20, len(processes)


def executable(name: str) -> str:
    """The absolute path of a program, which is run in other folders."""
    found = shutil.which(name)
    if found is None:
        raise argparse.ArgumentTypeError(f"there is no program {name}")
    return str(pathlib.Path(found).absolute())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stages", nargs="?", type=int, default=8)
    parser.add_argument("--python", default=executable("python3"), type=executable)
    parser.add_argument("--pivot", default=str(pathlib.Path("target/release/pivot").absolute()))
    asked = parser.parse_args()
    count, python = asked.stages, asked.python
    figures = {}
    for executor in ("warm", "spawn"):
        files = {"work.py": WORK, "pipeline.py": PIPELINE.format(count=count)}
        run = [asked.pivot, "run", "-j", str(count), "--executor", executor]
        figures[executor] = measure(run, files, python, count)
    for name, make in POOLS.items():
        module = make.split()[1].partition(".")[0]
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
            continue
        text = POOL.format(make=make.format(count=count), count=count)
        files = {"work.py": WORK, "pool.py": text}
        figures[name] = measure([python, "pool.py"], files, python, count)
    warm, _ = figures["warm"]
    for name, (size, processes) in figures.items():
        print(
            f"{name:12} {size:7.0f} MiB PSS, {processes:3} processes; warm / it: {warm / size:.2f}"
        )


if __name__ == "__main__":
    main()

"""How the time to plan a pipeline grows with its size: `pivot run -n` on generated pipelines.

usage: plan.py [SIZES...] [--pivot PROGRAM] [--style python|yaml|cmd]

Prints CPU milliseconds (median of 5, whole process tree), milliseconds per 1,000 stages and peak
memory, once for a pipeline that is read for the first time and once for one that is known.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def measure(command: list[str], directory: pathlib.Path) -> tuple[float, int]:
    """CPU milliseconds and peak memory in KiB of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} failed in {directory}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return cpu * 1000, usage.ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=[1000, 20000])
    parser.add_argument("--pivot", default=str(HERE.parent / "target/release/pivot"))
    parser.add_argument("--style", default="python")
    parser.add_argument("--shape", default="layered")
    options = parser.parse_args()
    print(f"{'stages':>8} {'first ms':>9} {'known ms':>9} {'known ms/1000':>14} {'peak MiB':>9}")
    for size in options.sizes:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="pivot-bench-"))
        try:
            generate = [sys.executable, str(HERE / "generate.py"), str(folder), str(size)]
            subprocess.run(generate + ["--style", options.style, "--shape", options.shape], check=True)
            command = [os.path.abspath(options.pivot), "run", "-n"]
            first, _ = measure(command, folder)
            runs = [measure(command, folder) for _ in range(5)]
            known = statistics.median(cpu for cpu, _ in runs)
            peak = max(rss for _, rss in runs) / 1024
            print(f"{size:>8} {first:>9.0f} {known:>9.1f} {known / size * 1000:>14.2f} {peak:>9.0f}")
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

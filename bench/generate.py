"""Write a pipeline of any size into a directory.

usage: generate.py DIR STAGES [--shape layered|chain|fan] [--style python|yaml|cmd]

Each stage writes the size of all that it reads, so outputs stay small however deep the graph is.

layered   rows of about the square root of STAGES, each stage reading up to three of the row before
chain     every stage reads the one before
fan       one source, STAGES - 2 readers, one stage that reads them all
python    functions in one module, declared with `Pipeline.add_stage`
yaml      the same functions, declared in pivot.yaml
cmd       shell commands in pivot.yaml: no Python at all
"""

from __future__ import annotations

import argparse
import math
import pathlib


def edges(shape: str, count: int) -> list[list[int]]:
    """For each stage the numbers of the stages that it reads; none reads the source file."""
    if shape == "chain":
        return [[n - 1] if n else [] for n in range(count)]
    if shape == "fan":
        middle = list(range(1, count - 1))
        return [[]] + [[0] for _ in middle] + [middle]
    width = max(1, math.isqrt(count))
    reads: list[list[int]] = []
    for n in range(count):
        row, column = divmod(n, width)
        above = (row - 1) * width
        reads.append(sorted({above + (column + k) % width for k in range(3)}) if row else [])
    return reads


def write_python(root: pathlib.Path, reads: list[list[int]]) -> None:
    """steps.py with a few functions and pipeline.py that adds a stage for each node."""
    (root / "steps.py").write_text(steps(reads))
    lines = ["from pivot import Pipeline", "", "import steps", "", "pipeline = Pipeline()"]
    lines += ["for name, function, deps, outs in ["]
    for n, deps in enumerate(reads):
        lines.append(f"    ('s{n}', '{function(n, deps)}', {paths(deps)!r}, ['out/s{n}.txt']),")
    lines += ["]:", "    pipeline.add_stage(getattr(steps, function), name=name, deps=deps, outs=outs)"]
    (root / "pipeline.py").write_text("\n".join(lines) + "\n")


def write_yaml(root: pathlib.Path, reads: list[list[int]], command: bool) -> None:
    """pivot.yaml, with functions of steps.py or with shell commands."""
    if not command:
        (root / "steps.py").write_text(steps(reads))
    lines = ["stages:"]
    for n, deps in enumerate(reads):
        lines.append(f"  s{n}:")
        lines.append(
            f"    cmd: cat {' '.join(paths(deps))} | wc -c > out/s{n}.txt"
            if command
            else f"    python: steps.{function(n, deps)}"
        )
        lines.append("    deps:")
        lines += [f"      - {path}" for path in paths(deps)]
        lines += ["    outs:", f"      - out/s{n}.txt"]
    (root / "pivot.yaml").write_text("\n".join(lines) + "\n")


def paths(deps: list[int]) -> list[str]:
    """The files that a stage reads."""
    return [f"out/s{dep}.txt" for dep in deps] or ["source.txt"]


def function(n: int, deps: list[int]) -> str:
    """The function of stage n: one of eight for each number of dependencies."""
    return f"step{n % 8}_{len(paths(deps))}"


def steps(reads: list[list[int]]) -> str:
    """The text of the module with all functions that the stages call."""
    texts = ["def combine(*texts):\n    return str(sum(len(text) for text in texts))\n"]
    needed = {(n % 8, len(paths(deps))) for n, deps in enumerate(reads)}
    for number, count in sorted(needed):
        names = ", ".join(f"dep{k}" for k in range(count))
        texts.append(
            f"def step{number}_{count}({names}, out):\n"
            f"    texts = [open(dep).read() for dep in ({names},)]\n"
            f"    with open(out, 'w') as file:\n"
            f"        file.write(combine(*texts) + ' {number}\\n')\n"
        )
    return '"""Functions that the stages share."""\n\n\n' + "\n\n".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("stages", type=int)
    parser.add_argument("--shape", choices=["layered", "chain", "fan"], default="layered")
    parser.add_argument("--style", choices=["python", "yaml", "cmd"], default="cmd")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    (options.dir / "source.txt").write_text("source\n")
    reads = edges(options.shape, options.stages)
    if options.style == "python":
        write_python(options.dir, reads)
    else:
        write_yaml(options.dir, reads, options.style == "cmd")


if __name__ == "__main__":
    main()

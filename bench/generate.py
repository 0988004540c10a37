"""Write a pipeline of any size into a directory, for Pivot and for the programs it is compared with.

usage: generate.py DIR STAGES [--shape layered|chain|fan] [--style python|yaml|cmd] [--ninja] [--dvc] [--snakemake]

Each stage writes one short line that follows from all that it reads, so outputs stay small however
deep the graph is.

layered   rows of about the square root of STAGES, each stage reading up to three of the row before
chain     every stage reads the one before
fan       one source, STAGES - 2 readers, one stage that reads them all
python    functions in one module, declared with `Pipeline.add_stage`
yaml      the same functions, declared in pivot.yaml
cmd       shell commands in pivot.yaml, of the shell's own words only: no Python, no further process

--ninja, --dvc and --snakemake also write build.ninja, dvc.yaml and a Snakefile with the same edges
and the same shell commands; they write to directories of their own, so that all can be run side by side.
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


def write_yaml(root: pathlib.Path, reads: list[list[int]], is_shell: bool) -> None:
    """pivot.yaml, with functions of steps.py or with shell commands."""
    if not is_shell:
        (root / "steps.py").write_text(steps(reads))
    lines = ["stages:"]
    for n, deps in enumerate(reads):
        lines.append(f"  s{n}:")
        action = f"cmd: {command(n, deps)}" if is_shell else f"python: steps.{function(n, deps)}"
        lines += [f"    {action}", "    deps:"]
        lines += [f"      - {path}" for path in paths(deps)]
        lines += ["    outs:", f"      - out/s{n}.txt"]
    (root / "pivot.yaml").write_text("\n".join(lines) + "\n")


def write_ninja(root: pathlib.Path, reads: list[list[int]]) -> None:
    """build.ninja, which writes to ninja-out."""
    lines = ["rule stage", "  command = $cmd", ""]
    for n, deps in enumerate(reads):
        lines.append(f"build ninja-out/s{n}.txt: stage {' '.join(paths(deps, 'ninja-out'))}")
        lines.append(f"  cmd = {command(n, deps, 'ninja-out').replace('$', '$$')}")
    (root / "build.ninja").write_text("\n".join(lines) + "\n")


def write_dvc(root: pathlib.Path, reads: list[list[int]]) -> None:
    """dvc.yaml, which writes to dvc-out."""
    lines = ["stages:"]
    for n, deps in enumerate(reads):
        lines += [f"  s{n}:", f"    cmd: {command(n, deps, 'dvc-out')}", "    deps:"]
        lines += [f"      - {path}" for path in paths(deps, "dvc-out")]
        lines += ["    outs:", f"      - dvc-out/s{n}.txt"]
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")
    (root / "dvc-out").mkdir()


def write_snakemake(root: pathlib.Path, reads: list[list[int]]) -> None:
    """A Snakefile, which writes to smk-out."""
    names = [f"smk-out/s{n}.txt" for n in range(len(reads))]
    lines = ["rule all:", f"    input: {names!r}"]
    for n, deps in enumerate(reads):
        lines += [f"rule s{n}:", f"    input: {paths(deps, 'smk-out')!r}", f"    output: {names[n]!r}"]
        lines.append(f"    shell: {command(n, deps, 'smk-out')!r}")
    (root / "Snakefile").write_text("\n".join(lines) + "\n")


def paths(deps: list[int], out: str = "out") -> list[str]:
    """The files that a stage reads."""
    return [f"{out}/s{dep}.txt" for dep in deps] or ["source.txt"]


def command(n: int, deps: list[int], out: str = "out") -> str:
    """The shell command of stage n; it starts no process and holds nothing that YAML takes for its own."""
    reads = "".join(f"read x{k} < {path}; " for k, path in enumerate(paths(deps, out)))
    total = " + ".join(["1", *(f"x{k}" for k in range(len(paths(deps))))])
    return f"{reads}echo $((({total}) % 1000)) > {out}/s{n}.txt"


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
    for peer in ("ninja", "dvc", "snakemake"):
        parser.add_argument(f"--{peer}", action="store_true")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    (options.dir / "source.txt").write_text("1\n")
    reads = edges(options.shape, options.stages)
    if options.style == "python":
        write_python(options.dir, reads)
    else:
        write_yaml(options.dir, reads, options.style == "cmd")
    if options.ninja:
        write_ninja(options.dir, reads)
    if options.dvc:
        write_dvc(options.dir, reads)
    if options.snakemake:
        write_snakemake(options.dir, reads)


if __name__ == "__main__":
    main()

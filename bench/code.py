"""What the fingerprint costs on a project with much code, beside importing it with Python.

usage: code.py [LINES] [--pivot PROGRAM] [--python PYTHON]

Makes a project of about LINES lines of Python in modules of 500 lines, with a stage for every
1,000 lines that reaches a few functions in several modules. Prints CPU milliseconds (median of 5,
whole process tree) and the ratio to `python -c "import pipeline"`:

cold      the first look: import, parse, fingerprint
warm      nothing changed: no Python at all
edited    one helper changed: import, parse, fingerprint again
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
FUNCTIONS = 50  # in a module, ten lines each


def write_project(root: pathlib.Path, lines: int) -> None:
    """Modules m0, m1, … in a package, each using the one before, and pipeline.py."""
    package = root / "lib"
    package.mkdir()
    (package / "__init__.py").write_text("")
    modules = max(1, lines // (FUNCTIONS * 10))
    for number in range(modules):
        head = f'"""Module {number}."""\n\n' + (f"from lib import m{number - 1}\n\n" if number else "")
        (package / f"m{number}.py").write_text(head + "\n\n".join(functions(number)) + "\n")
    stages = ["from pivot import Pipeline", "", "pipeline = Pipeline()"]
    for number in range(0, modules, 2):
        stages += [
            f"from lib import m{number}",
            f"pipeline.add_stage(m{number}.f{FUNCTIONS - 1}, name='s{number}',"
            f" deps=['in.txt'], outs=['out/{number}.txt'])",
        ]
    (root / "pipeline.py").write_text("\n".join(stages) + "\n")
    (root / "in.txt").write_text("1\n")


def functions(module: int) -> list[str]:
    """The text of a module's functions; the last is a stage's."""
    texts = []
    for number in range(FUNCTIONS):
        inner = f"f{number - 1}(value)" if number % 7 else "value"
        if module and number % 11 == 0:
            inner = f"m{module - 1}.f{number}(value)"
        texts.append(
            f"def f{number}(value=1, out=None):\n"
            f'    """Function {number}."""\n'
            f"    table = {{'a': {number}, 'b': [value, {module}]}}\n"
            f"    total = {inner} or 0\n"
            f"    for key, item in table.items():\n"
            f"        if isinstance(item, list):\n"
            f"            total += len(item) * {number + 1}\n"
            f"        else:\n"
            f"            total += item\n"
            f"    return total\n"
        )
    return texts


def cpu_ms(command: list[str], directory: pathlib.Path) -> float:
    """CPU milliseconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="?", type=int, default=20000)
    parser.add_argument("--pivot", default=str(HERE.parent / "target/release/pivot"))
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    pivot = [os.path.abspath(options.pivot), "--python", options.python, "run", "-n"]
    root = pathlib.Path(tempfile.mkdtemp(prefix="pivot-bench-"))
    try:
        write_project(root, options.lines)
        # The import needs the declarations; the program unpacks its package where it finds it.
        package = f"import sys; sys.path[:0] = [{str(HERE.parent / 'python')!r}, '.']; import pipeline"
        imports = [options.python, "-c", package]
        cpu_ms(imports, root)  # compiles the byte code
        plain = statistics.median(cpu_ms(imports, root) for _ in range(5))
        cold = []
        for _ in range(5):
            shutil.rmtree(root / ".pivot", ignore_errors=True)
            cold.append(cpu_ms(pivot, root))
        cpu_ms(pivot, root)
        warm = statistics.median(cpu_ms(pivot, root) for _ in range(5))
        edited = []
        target = root / "lib" / "m0.py"
        text = target.read_text()
        for turn in range(5):
            target.write_text(text.replace("* 1\n", f"* {turn + 100}\n", 1))
            edited.append(cpu_ms(pivot, root))
        print(f"python -c 'import pipeline': {plain:.0f} ms CPU, byte code cached")
        for name, value in (
            ("cold", statistics.median(cold)),
            ("warm", warm),
            ("edited", statistics.median(edited)),
        ):
            print(f"{name:>8}: {value:7.1f} ms CPU, {value / plain:5.2f} times the import")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()

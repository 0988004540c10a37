"""What the fingerprint costs on a project with much code, beside importing it with Python.

usage: code.py [LINES] [--pivot PROGRAM] [--python PYTHON]

Makes two projects and prints CPU milliseconds (median of 5, whole process tree) and the ratio to
`python -c "import pipeline"` with its byte code cached. *Modules*: about LINES lines of Python in
modules of 500 lines, with a stage for every 1,000 lines that reaches a few functions in several
modules. *Stages*: 176 stages, every fourth of which uses the helper that is edited.

cold      the first look by this user: import, parse, fingerprint
known     the first look at the project, by a user who has compiled its files before
warm      nothing changed: no Python at all
edited    one helper changed: the import and fingerprint again (`run -n`)
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
        head = f'"""Module {number}."""\n\n' + (
            f"from lib import m{number - 1}\n\n" if number else ""
        )
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


def write_stages(root: pathlib.Path) -> None:
    """176 stages in pipeline.py, helpers in helpers.py."""
    stages = ["from pivot import Pipeline", "import helpers", "", "pipeline = Pipeline()"]
    for number in range(176):
        helper = "first" if number % 4 == 0 else "second"
        stages += [
            f"def s{number}(source='in.txt', target='out/{number}.txt'):",
            "    with open(source) as file:",
            f"        value = helpers.{helper}(file.read(), {number})",
            "    with open(target, 'w') as file:",
            "        file.write(str(value))",
            f"pipeline.add_stage(s{number}, name='s{number}', deps=['in.txt'],"
            f" outs=['out/{number}.txt'])",
        ]
    (root / "pipeline.py").write_text("\n".join(stages) + "\n")
    helper = "def {}(text, number):\n    return len(text) + number * 1\n\n\n"
    (root / "helpers.py").write_text(helper.format("first") + helper.format("second"))
    (root / "in.txt").write_text("1\n")


def functions(module: int) -> list[str]:
    """The text of a module's functions; the last is a stage's."""
    texts = []
    for number in range(FUNCTIONS):
        inner = f"f{number - 1}(value)" if number and number % 7 != 1 else "value"
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


def environment(directory: pathlib.Path) -> dict[str, str]:
    """Without settings that keep Python from caching; with a cache of the project's own."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {**plain, "XDG_CACHE_HOME": str(directory.parent / "home")}


def cpu_ms(command: list[str], directory: pathlib.Path) -> float:
    """CPU milliseconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, cwd=directory, stdout=subprocess.DEVNULL, check=True, env=environment(directory)
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="?", type=int, default=20000)
    parser.add_argument("--pivot", default=str(HERE.parent / "target/release/pivot"))
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    pivot = [os.path.abspath(options.pivot), "--python", options.python, "run", "-n"]
    imports = f"import sys; sys.path[:0] = [{str(HERE.parent / 'python')!r}, '.']; import pipeline"
    python = [options.python, "-c", imports]
    for title, write, edited in (
        (f"{options.lines} lines", lambda root: write_project(root, options.lines), "lib/m0.py"),
        ("176 stages", write_stages, "helpers.py"),
    ):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="pivot-bench-"))
        try:
            root = folder / "project"
            root.mkdir()
            write(root)
            measure(title, root, root / edited, python, pivot)
        finally:
            shutil.rmtree(folder)


def measure(
    title: str, root: pathlib.Path, edited: pathlib.Path, python: list[str], pivot: list[str]
) -> None:
    """Prints one project's figures."""
    cpu_ms(python, root)  # compiles the byte code
    plain = statistics.median(cpu_ms(python, root) for _ in range(5))
    found: dict[str, list[float]] = {"cold": [], "known": [], "warm": [], "edited": []}
    cpu_ms(pivot, root)  # unpacks the package and compiles it
    for _ in range(5):
        shutil.rmtree(root / ".pivot")
        for code in (root.parent / "home").glob("pivot/python-*/code"):
            shutil.rmtree(code)
        found["cold"].append(cpu_ms(pivot, root))
        shutil.rmtree(root / ".pivot")
        found["known"].append(cpu_ms(pivot, root))
    found["warm"] = [cpu_ms(pivot, root) for _ in range(5)]
    text = edited.read_text()
    for turn in range(5):
        edited.write_text(text.replace("* 1\n", f"* {turn + 100}\n", 1))
        found["edited"].append(cpu_ms(pivot, root))
    print(f"{title}: python -c 'import pipeline' takes {plain:.0f} ms CPU")
    for name, values in found.items():
        value = statistics.median(values)
        print(f"{name:>8}: {value:7.1f} ms CPU, {value / plain:5.2f} times the import")


if __name__ == "__main__":
    main()

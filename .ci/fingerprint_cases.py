"""Run the fingerprint cases with the built program and fail unless every one is right.

usage: fingerprint_cases.py PYTHON PIVOT PUBLIC_CASES OWN_CASES [RUNNER_OPTION ...]

PUBLIC_CASES holds the runner, `run_catalogue.py`, and its cases; OWN_CASES more cases in the
same format. The runner always exits with 0, so its verdicts are counted here.

Where PYTHON can tell which code started (3.12 and later), a second thing is checked: that no run
started code which its stage's fingerprint does not cover. Such code stands in the lock as `ran:`.
OWN_CASES/ran.txt lists the cases in which only a run can know: one pattern of `CASE ran:NAME` a
line, with the reason behind `#`.

With `--observe LOG PIVOT ...` it stands between the runner and the program: it runs the program
and adds to LOG which locks have a `ran:` component.
"""

import fnmatch
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

_RAN = re.compile(r"\bran:[^\s\"']+(?=[\"']?: )")


def observe(log: str, command: list[str]) -> int:
    """Run the program in a case's project, and note the `ran:` components of its locks."""
    status = subprocess.run(command).returncode
    # The runner names a project's folder `cat-CASE-RANDOM`.
    case = re.sub(r"^cat-|-[^-]*$", "", pathlib.Path.cwd().parent.name)
    found = []
    for lock in sorted(pathlib.Path(".pivot/stages").glob("*.lock")):
        found += [f"{case} {name}\n" for name in _RAN.findall(lock.read_text())]
    if found:
        with open(log, "a") as file:
            file.writelines(found)
    return status


def run(
    python: str, pivot: str, runner: pathlib.Path, cases: pathlib.Path, options: list[str]
) -> tuple[dict, set[str]]:
    """One folder's totals, and the `ran:` components; what went wrong is printed by the runner."""
    with tempfile.TemporaryDirectory() as folder:
        report, log = pathlib.Path(folder) / "report.json", pathlib.Path(folder) / "ran.log"
        own = [sys.executable, os.path.abspath(__file__), "--observe", str(log), pivot, "run"]
        command = [sys.executable, str(runner), "--cmd", " ".join(own), "--python", python]
        command += ["--cases", str(cases), "--json", str(report), "--verbose", *options]
        environment = {**os.environ, "PIVOT_PYTHON": python}
        subprocess.run(command, check=True, env=environment)
        started = set(log.read_text().splitlines()) if log.exists() else set()
        return json.loads(report.read_text())["total"], started


def main() -> int:
    """0 if no case was stale, wasteful or an error, and some were run."""
    if sys.argv[1] == "--observe":
        return observe(sys.argv[2], sys.argv[3:])
    python, pivot = (os.path.abspath(path) for path in sys.argv[1:3])
    public, own = (pathlib.Path(path) for path in sys.argv[3:5])
    expected = [
        line.partition("#")[0].strip()
        for line in (own / "ran.txt").read_text().splitlines()
        if line.partition("#")[0].strip()
    ]
    passed = failed = 0
    for cases in (public / "cases", own):
        total, started = run(python, pivot, public / "run_catalogue.py", cases, sys.argv[5:])
        if not total:
            continue
        passed += total["ok"]
        failed += total["stale"] + total["wasteful"] + total["error"]
        for name in sorted(started):
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in expected):
                print(f"ran, but was not in the fingerprint: {name}")
                failed += 1
    if not passed:
        failed += 1
    print(f"fingerprint cases: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

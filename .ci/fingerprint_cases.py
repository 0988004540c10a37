"""Run the fingerprint cases with the built program and fail unless every one is right.

usage: fingerprint_cases.py PYTHON PIVOT PUBLIC_CASES OWN_CASES

PUBLIC_CASES holds the runner, `run_catalogue.py`, and its cases; OWN_CASES more cases in the
same format. The runner always exits with 0, so its verdicts are counted here.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile


def run(python: str, pivot: str, runner: pathlib.Path, cases: pathlib.Path) -> dict:
    """One folder's totals; what went wrong is printed by the runner."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        command = [python, str(runner), "--cmd", f"{pivot} run", "--python", python]
        command += ["--cases", str(cases), "--json", str(report), "--verbose"]
        environment = {**os.environ, "PIVOT_PYTHON": python}
        subprocess.run(command, check=True, env=environment)
        return json.loads(report.read_text())["total"]


def main() -> int:
    """0 if no case was stale, wasteful or an error, and some were run."""
    python, pivot = (os.path.abspath(path) for path in sys.argv[1:3])
    public, own = (pathlib.Path(path) for path in sys.argv[3:5])
    passed = failed = 0
    for cases in (public / "cases", own):
        total = run(python, pivot, public / "run_catalogue.py", cases)
        passed += total["ok"]
        failed += total["stale"] + total["wasteful"] + total["error"]
        if not total["ok"]:
            failed += 1
    print(f"fingerprint cases: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

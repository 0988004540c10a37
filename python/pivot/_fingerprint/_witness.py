"""The import witness: what must still be true for the last import's results to be used again.

It is replayed without Python, with ``stat``, directory listings and reads alone. Paths in it are
absolute: it never leaves the machine. See :func:`witness` for the fields.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from ._hashing import content_hash
from ._record import Recorder, stat_tuple
from ._roots import Roots

if TYPE_CHECKING:
    from ._loader import Sources
    from ._packages import Packages

__all__ = ["Began", "witness"]

SCHEMA = 1
_HASHED_SIZE_MAX = 256 << 20
# A shell changes these by itself; a program that lists the environment does not mean them.
_VOLATILE = frozenset({"_", "OLDPWD", "PWD", "SHLVL"})


class Began:
    """The state of the process before any user code ran."""

    time_ns: int
    """When recording began."""

    def __init__(self) -> None:
        self.environment = {os.fsdecode(k): os.fsdecode(v) for k, v in _raw_environment().items()}
        self.path = list(sys.path)
        self.folder = os.getcwd()


def _raw_environment() -> dict[Any, Any]:
    return dict(getattr(os.environ, "_data", {}))


def witness(
    began: Began,
    roots: Roots,
    sources: Sources,
    recorder: Recorder,
    packages: Packages,
    names: set[str],
) -> dict[str, Any]:
    """Everything that the import depended on, as JSON.

    ``schema``
        The version of this format.
    ``began_ns``
        Wall-clock time before the import. A file whose mtime or ctime is not older than this by
        two seconds may have changed since without a visible change of its stat.
    ``replayable``, ``reasons``
        Whether all of it can be checked by looking at files, and if not, why.
    ``sources``
        ``{path, hash, stat}`` of each user file that was executed. ``hash`` is BLAKE2b-128 of the
        bytes that ran; ``stat`` is ``[mtime_ns, ctime_ns, size, inode, device]``, taken before
        they were read.
    ``opened``
        The same for other files that were read. ``hash`` is null if nothing was there (``stat``
        is null as well), or if the file is so large that only its ``stat`` counts.
    ``lookups``
        ``{dir, stat, names, present}``: the entries of the folder whose name up to its first dot
        is one of ``names`` are exactly ``present`` (sorted). ``present`` is null where the folder
        does not exist. A new entry may hide the module that was found.
    ``listings``
        ``{dir, stat, hash}``: folders that user code listed. ``hash`` is BLAKE2b-128 of the
        sorted names, joined by line feeds; null where the folder does not exist.
    ``sites``
        The same for the folders of installed packages, without the name ``__pycache__``.
    ``distributions``
        ``{path, hash, stat}`` of the ``RECORD`` files of the packages that count.
    ``environment``
        Name -> BLAKE2b-128 of the value (UTF-8, surrogateescape) as the process was started;
        null for a variable that was not set.
    ``environment_all``
        Null, or BLAKE2b-128 of ``NAME=value`` sorted and joined by NUL, without ``_``,
        ``OLDPWD``, ``PWD`` and ``SHLVL``: the user's code listed the environment.
    ``exists``
        ``{path, kind, stat}``: ``kind`` is ``file``, ``dir``, ``link``, ``other`` or null (nothing
        there); ``stat`` is null where only the kind could matter. ``link`` entries carry
        ``target``.
    ``interpreter``
        ``{executable, stat, version, prefix, base_prefix, flags, path, platform, folder}``;
        ``stat`` is that of the resolved executable, ``path`` is ``sys.path`` at the start.
    """
    reasons = list(recorder.reasons)
    executed = []
    for source in sorted(sources.by_path.values(), key=lambda source: source.path):
        executed.append({"path": source.path, "hash": source.digest, "stat": source.stat})
    opened = _opened(recorder, sources, roots, packages, reasons)
    environment: dict[str, str | None] = {}
    for name in sorted({*recorder.names, *names, *_python_names(began.environment)}):
        value = began.environment.get(name)
        environment[name] = None if value is None else _text_hash(value)
    return {
        "schema": SCHEMA,
        "began_ns": began.time_ns,
        "replayable": not reasons,
        "reasons": reasons,
        "sources": executed,
        "opened": opened,
        "lookups": _lookups(recorder, roots),
        "listings": [
            {"dir": path, "stat": before, "hash": _listing_hash(path, ())}
            for path, before in sorted(recorder.listed.items())
        ],
        "sites": [
            {"dir": path, "stat": stat_tuple(path), "hash": _listing_hash(path, ("__pycache__",))}
            for path in roots.sites()
        ],
        "distributions": _distributions(packages),
        "environment": environment,
        "environment_all": _environment_hash(began.environment) if recorder.all_names else None,
        "exists": [_exists(path, how) for path, how in sorted(recorder.checked.items())],
        "interpreter": {
            "executable": sys.executable,
            "stat": stat_tuple(os.path.realpath(sys.executable)) if sys.executable else None,
            "version": sys.version,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "flags": [int(flag) for flag in sys.flags if isinstance(flag, int)],
            "path": began.path,
            "platform": sys.platform,
            "folder": began.folder,
        },
    }


def _opened(
    recorder: Recorder, sources: Sources, roots: Roots, packages: Packages, reasons: list[str]
) -> list[dict[str, Any]]:
    files = {
        path: before
        for path, before in recorder.opened.items()
        if path not in sources.by_path and path not in recorder.written
    }
    for module in list(sys.modules.values()):
        # Modules without text: extensions and compiled files of the user.
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and roots.is_user(file) and file not in sources.by_path:
            files.setdefault(file, stat_tuple(file))
    unhashed = [file for dist in packages.used.values() for file in dist.unhashed]
    for file in (*packages.plain_files, *unhashed):
        files.setdefault(file, stat_tuple(file))
    config = os.path.join(sys.prefix, "pyvenv.cfg")
    files.setdefault(config, stat_tuple(config))
    found = []
    for path, before in sorted(files.items()):
        now = stat_tuple(path)
        if now != before:
            reasons.append(f"{roots.relative(path)} changed during the import")
        digest = None
        if now is not None:
            if not stat.S_ISREG(os.stat(path).st_mode):
                continue
            if now[2] <= _HASHED_SIZE_MAX:
                try:
                    with open(path, "rb") as file:
                        digest = content_hash(file.read())
                except OSError:
                    reasons.append(f"{roots.relative(path)} cannot be read")
        found.append({"path": path, "hash": digest, "stat": before})
    return found


def _lookups(recorder: Recorder, roots: Roots) -> list[dict[str, Any]]:
    """Folders of user code in which a new file could change what an import finds."""
    names: dict[str, set[str]] = {}
    for path, looked_for in recorder.lookups.items():
        folders = roots.user_path() if path is None else list(path)
        wanted = looked_for - set(sys.builtin_module_names) if path is None else looked_for
        for folder in folders:
            if roots.kind(os.path.join(folder, "x")) == "user":
                names.setdefault(folder, set()).update(wanted)
    for entry in sys.path:
        # A folder that is not there yet may be made.
        folder = os.path.abspath(entry or os.curdir)
        if folder not in names and not os.path.exists(folder) and not entry.endswith(".zip"):
            names[folder] = set(recorder.lookups.get(None, ()))
    # A folder without `__init__` is a package as well, until it gets one.
    waiting = list(names)
    while waiting:
        folder = waiting.pop()
        for entry in _present(folder, names[folder]) or ():
            inner = os.path.join(folder, entry)
            if "." not in entry and os.path.isdir(inner):
                names.setdefault(inner, set()).add("__init__")
    found = []
    for folder in sorted(names):
        present = _present(folder, names[folder])
        found.append(
            {
                "dir": folder,
                "stat": stat_tuple(folder),
                "names": sorted(names[folder]),
                "present": present,
            }
        )
    return found


def _present(folder: str, names: set[str]) -> list[str] | None:
    try:
        return sorted(e for e in os.listdir(folder) if e.partition(".")[0] in names)
    except OSError:
        return None


def _listing_hash(folder: str, without: tuple[str, ...]) -> str | None:
    try:
        entries = sorted(os.fsencode(e) for e in os.listdir(folder) if e not in without)
    except OSError:
        return None
    return content_hash(b"\n".join(entries))


def _distributions(packages: Packages) -> list[dict[str, Any]]:
    found = []
    for path in sorted(packages.used):
        dist = packages.used[path]
        place = dist.record_path
        if not os.path.exists(place):
            place = os.path.join(dist.path, "METADATA")
        before = stat_tuple(place)
        if before is not None:
            with open(place, "rb") as file:
                found.append({"path": place, "hash": content_hash(file.read()), "stat": before})
    return found


def _exists(path: str, how: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": path, "kind": None, "stat": None}
    try:
        mode = os.lstat(path).st_mode if how == "link" else os.stat(path).st_mode
    except (OSError, ValueError):
        return entry
    if stat.S_ISLNK(mode):
        entry["kind"] = "link"
        entry["target"] = os.readlink(path)
    elif stat.S_ISREG(mode):
        entry["kind"] = "file"
    elif stat.S_ISDIR(mode):
        entry["kind"] = "dir"
    else:
        entry["kind"] = "other"
    if how == "stat":
        entry["stat"] = stat_tuple(path)
    return entry


def _python_names(environment: dict[str, str]) -> list[str]:
    fixed = ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONOPTIMIZE", "VIRTUAL_ENV"]
    fixed += ["LANG", "LC_ALL", "LC_CTYPE"]  # the encoding of files
    return [*fixed, *(name for name in environment if name.startswith("PYTHON"))]


def _text_hash(text: str) -> str:
    return content_hash(text.encode("utf-8", "surrogateescape"))


def _environment_hash(environment: dict[str, str]) -> str:
    pairs = sorted(
        f"{name}={value}" for name, value in environment.items() if name not in _VOLATILE
    )
    return _text_hash("\0".join(pairs))

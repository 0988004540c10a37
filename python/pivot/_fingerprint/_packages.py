"""Installed packages: which distribution a module belongs to, and what stands for it.

A distribution is its name, its version and the part of its ``RECORD`` that does not depend on
where it is installed. ``importlib.metadata`` is not used: it imports the ``email`` package and
reads every distribution's ``RECORD`` to answer for one module.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

from ._hashing import component_hash, content_hash
from ._roots import Roots

__all__ = ["Distribution", "Packages"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FILES_SIZE_MAX = 64 << 20
_UNHASHED_MAX = 2_000


class Distribution:
    """One ``dist-info`` (or ``egg-info``) folder."""

    def __init__(self, site: str, folder: str) -> None:
        self.site = site
        self.path = os.path.join(site, folder)
        stem = folder.rsplit(".", 1)[0]
        name, _, version = stem.partition("-")
        self.name = _normal(name)
        self.version = version.split("-py")[0]
        self.unhashed: list[str] = []
        """Installed files without a hash in ``RECORD``; their contents were read."""
        self._record: bytes | None = None
        self._digest: str | None = None

    @property
    def record_path(self) -> str:
        """The list of installed files."""
        return os.path.join(self.path, "RECORD")

    def record(self) -> bytes:
        """The bytes of ``RECORD``; empty if there is none."""
        if self._record is None:
            self._record = _read(self.record_path) or _read(
                os.path.join(self.path, "installed-files.txt")
            )
        return self._record

    def holds(self, relative: str) -> bool:
        """Whether the distribution installed this file of its site folder."""
        needle = relative.replace(os.sep, "/").encode()
        record = self.record()
        return record.startswith(needle + b",") or b"\n" + needle + b"," in record

    def digest(self, how: str) -> str:
        """What stands for the distribution: ``exact`` or ``minor`` (name and version's start)."""
        if how == "minor":
            version = ".".join(self.version.split(".")[:2])
            return component_hash(self.name.encode(), version.encode())
        if self._digest is None:
            lines = sorted(
                line
                for line in self.record().replace(b"\r\n", b"\n").split(b"\n")
                # Scripts carry the interpreter's path, and the rest is the installer's doing.
                if line and not line.startswith((b"../", b"/")) and not _is_installers(line)
            )
            for line in lines[:_UNHASHED_MAX]:
                if line.endswith(b",,"):  # installed by something that wrote no hashes
                    path = os.path.join(self.site, os.fsdecode(line[:-2]))
                    self.unhashed.append(path)
            contents = [content_hash(_read(path)).encode() for path in self.unhashed]
            self._digest = component_hash(
                self.name.encode(), self.version.encode(), b"\n".join(lines), *contents
            )
        return self._digest

    def requires(self) -> list[str]:
        """The names of required distributions, those of extras left out."""
        metadata = _read(os.path.join(self.path, "METADATA")) or _read(
            os.path.join(self.path, "PKG-INFO")
        )
        found = []
        head = metadata.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
        for line in head.decode("utf-8", "replace").split("\n"):
            if line.startswith("Requires-Dist:"):
                text = line[len("Requires-Dist:") :].strip()
                match = _NAME.match(text)
                if match and "extra" not in text.partition(";")[2]:
                    found.append(_normal(match.group()))
        return found


class Packages:
    """The distributions of all site folders on ``sys.path``."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.used: dict[str, Distribution] = {}
        """By path: the distributions that the fingerprint has looked at."""
        self.plain_files: list[str] = []
        """Files that were hashed since no distribution owns them."""
        self._by_site: dict[str, dict[str, Distribution]] = {}
        self._owners: dict[str, Distribution | None] = {}
        self._closures: dict[str, list[Distribution]] = {}
        self._plain: dict[str, str | None] = {}

    def of_module(self, name: str) -> tuple[str | None, list[Distribution]]:
        """The top-level name if no distribution owns it, or the distribution and what it needs."""
        top = name.partition(".")[0]
        if top in sys.builtin_module_names or top in sys.stdlib_module_names:
            return None, []
        owner = self.by_name(name[1:]) if name.startswith("@") else self.owner(name)
        if owner is None:
            return top, []
        return None, self.closure(owner)

    def owner(self, name: str) -> Distribution | None:
        """The distribution that installed a module, found by its files."""
        top = name.partition(".")[0]
        for candidate in (name, top):
            module = sys.modules.get(candidate)
            file = getattr(module, "__file__", None)
            if isinstance(file, str):
                if self.roots.kind(file) != "site":
                    return None
                return self._owner_of_file(file)
        return self._owner_by_search(name)

    def _owner_of_file(self, file: str) -> Distribution | None:
        if file not in self._owners:
            self._owners[file] = None
            for site in self.roots.sites():
                if file.startswith(site + os.sep):
                    relative = file[len(site) + 1 :]
                    owner = self._holder(site, relative)
                    if owner is not None:
                        self._owners[file] = owner
                        break
        return self._owners[file]

    def _holder(self, site: str, relative: str) -> Distribution | None:
        top = relative.split(os.sep)[0].partition(".")[0]
        known = self.distributions(site)
        # The distribution of the same name is only the first to be asked.
        likely = known.get(_normal(top))
        others = [dist for dist in known.values() if dist is not likely]
        for dist in [likely, *others] if likely is not None else others:
            if dist.holds(relative):
                return dist
        for dist in [likely, *others] if likely is not None else others:
            names = (
                _read(os.path.join(dist.path, "top_level.txt")).decode("utf-8", "replace").split()
            )
            if top in names:
                return dist
        return None

    def _owner_by_search(self, name: str) -> Distribution | None:
        """For a module that is not imported: where an import would find it."""
        if name in self._owners:
            return self._owners[name]
        parts = name.split(".")
        found: Distribution | None = None
        for site in self.roots.sites():
            for end in range(len(parts), 0, -1):
                base = os.path.join(site, *parts[:end])
                candidates = [os.path.join(base, "__init__.py"), base + ".py"]
                folder, stem = os.path.split(base)
                for entry in _listing(folder):
                    if entry.startswith(stem + ".") and entry.endswith((".so", ".pyd")):
                        candidates.append(os.path.join(folder, entry))
                for entry in _listing(base):
                    if entry.startswith("__init__.") and entry.endswith((".so", ".pyd", ".pyc")):
                        candidates.append(os.path.join(base, entry))
                for candidate in candidates:
                    if found is None and os.path.isfile(candidate):
                        found = self._holder(site, os.path.relpath(candidate, site))
            if found is not None:
                break
        self._owners[name] = found
        return found

    def distributions(self, site: str) -> dict[str, Distribution]:
        """The distributions of one site folder by normalized name."""
        known = self._by_site.get(site)
        if known is None:
            known = {}
            for entry in sorted(_listing(site)):
                if entry.endswith((".dist-info", ".egg-info")):
                    dist = Distribution(site, entry)
                    known.setdefault(dist.name, dist)
            self._by_site[site] = known
        return known

    def by_name(self, name: str) -> Distribution | None:
        """The first distribution of this name on ``sys.path``."""
        for site in self.roots.sites():
            found = self.distributions(site).get(_normal(name))
            if found is not None:
                return found
        return None

    def closure(self, dist: Distribution) -> list[Distribution]:
        """A distribution and all that it requires, as far as it is installed."""
        known = self._closures.get(dist.path)
        if known is None:
            found = {dist.name: dist}
            pending = [dist]
            while pending:
                for name in pending.pop().requires():
                    if name not in found:
                        inner = self.by_name(name)
                        if inner is not None:
                            found[name] = inner
                            pending.append(inner)
            known = self._closures[dist.path] = list(found.values())
            self.used.update((item.path, item) for item in known)
        return known

    def plain_digest(self, top: str) -> str | None:
        """For a module in a site folder that no distribution owns: its files."""
        if top not in self._plain:
            self._plain[top] = self._hash_files(top)
        return self._plain[top]

    def _hash_files(self, top: str) -> str | None:
        for site in self.roots.sites():
            base = os.path.join(site, top)
            files = [base + ".py"] if os.path.isfile(base + ".py") else []
            for folder, folders, names in os.walk(base):
                folders[:] = sorted(n for n in folders if n != "__pycache__")
                files += [os.path.join(folder, n) for n in sorted(names) if not n.endswith(".pyc")]
            if files:
                self.plain_files += files
                parts = [top.encode()]
                for file in files:
                    parts.append(os.path.relpath(file, site).replace(os.sep, "/").encode())
                    try:
                        large = os.path.getsize(file) > _FILES_SIZE_MAX
                        text = str(os.path.getsize(file)) if large else content_hash(_read(file))
                    except OSError:
                        text = ""
                    parts.append(text.encode())
                return component_hash(*parts)
        return None

    def entry_points(self, group: object) -> Iterator[tuple[str, str, str]]:
        """Distribution, name and target of each entry point of the group (None: of all groups)."""
        for site in self.roots.sites():
            for dist in self.distributions(site).values():
                data = _read(os.path.join(dist.path, "entry_points.txt"))
                section = None
                for line in data.decode("utf-8", "replace").splitlines():
                    text = line.strip()
                    if text.startswith("["):
                        section = text.strip("[]").strip()
                    elif "=" in text and not text.startswith("#") and group in (None, section):
                        name, _, target = text.partition("=")
                        yield dist.name, f"{section}.{name.strip()}", target.strip()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_installers(line: bytes) -> bool:
    path = line.partition(b",")[0]
    if path.endswith(b".pyc"):
        return True
    folder, _, name = path.rpartition(b"/")
    return folder.endswith(b".dist-info") and name not in (b"METADATA", b"entry_points.txt")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []

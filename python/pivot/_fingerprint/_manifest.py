"""One stage's code manifest: the components that its function reaches, with notes."""

from __future__ import annotations

import locale
import re
import sys
from collections.abc import Iterable
from types import CodeType
from typing import Any, NamedTuple

from . import _covered
from ._component import Component, Key, Mode
from ._effects import Effects
from ._graph import Graph
from ._hashing import component_hash
from ._scripts import PATH, SEPARATORS, Scripts, can_start_programs

__all__ = ["Fingerprint", "Manifests"]

_PATH_MAX = 200  # longer words are data
_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"

# What a stage's code calls -> what counts for it beyond the usual.
_READERS = (
    (
        re.compile(r"inspect\.(get|signature|clean)|typing\.get_type_hints|pydoc\."),
        {"texts", "annotations"},
    ),
    (
        re.compile(
            r"(dataclasses\.(fields|make_dataclass)|(pydantic|typeguard|beartype|msgspec|cattrs?"
            r"|attrs?|dacite|marshmallow\w*|mashumaro|apischema|typer|hydra|omegaconf|serde)(\.|$))"
        ),
        {"annotations"},
    ),
    (
        re.compile(r"(_?pickle|dill|cloudpickle|joblib|shelve|copyreg)(\.|$)|torch\.save"),
        {"full", "order"},
    ),
    (re.compile(r"builtins\.vars$|inspect\.getmembers_static"), {"order"}),
    (re.compile(r"inspect\.(stack|currentframe|getframeinfo|trace)|sys\._getframe"), {"lines"}),
)


_reads_of: dict[str, frozenset[str]] = {}


class Fingerprint(NamedTuple):
    """What one stage's code is."""

    components: list[dict[str, Any]]
    """``{name, hash, file, line}`` of each part."""
    notes: list[dict[str, Any]]
    """``{text, file, line}``: what is coarser than the code's own names, and why."""
    covered: str
    """Tokens of all code in the parts (see `_covered`); before Python 3.12 of modules only."""
    mentions: list[str]
    """Words in the code that may be paths of files which programs or libraries read."""


class _Owned(NamedTuple):
    """What an object of a library stands for in a manifest."""

    compiled: dict[str, Any] | None
    digests: dict[str, str]
    """Distributions, each with what counts of it."""


class Manifests:
    """Puts together what stages depend on, from the shared graph."""

    def __init__(self, graph: Graph, packages: str) -> None:
        self.graph = graph
        self.effects = Effects(graph)
        self.scripts = Scripts(graph.roots)
        self.packages = packages
        self._environment: set[str] = set()
        self._owned: dict[str, _Owned] = {}
        self._owned_among = 0
        exact = repr(tuple(sys.version_info)) if packages == "exact" else _VERSION
        parts = [sys.implementation.name, exact, *_unusual()]
        digest = component_hash(*(part.encode() for part in parts))
        self._python = _entry(f"python:{_VERSION}", digest, None, None)

    def environment_names(self) -> set[str]:
        """Environment variables whose values are components of some stage."""
        return self._environment

    def of_stage(self, function: Any, params_model: type | None) -> Fingerprint:
        """The fingerprint of one stage."""
        start = [self.graph.root(function)]
        if params_model is not None and self.graph.class_owner(params_model) == "user":
            start.append(self.graph.params_key(params_model))
        mode = Mode()
        reached, effects, codes = self._reach(start, function, mode)
        mode = _mode(reached.values())
        if mode != Mode():
            reached, effects, codes = self._reach(start, function, mode)
        components = self._named(reached, mode) + _shared(reached)
        components += effects + self._outside(reached)
        covered = self._covered(reached, codes, function)
        return Fingerprint(components, _notes(reached), covered, self._mentions(reached))

    def _mentions(self, reached: dict[Key, Component]) -> list[str]:
        components = reached.values()
        tops = {dotted.partition(".")[0] for c in components for dotted in c.libraries}
        if all(top in sys.stdlib_module_names or top == "pivot" for top in tops) and not any(
            map(can_start_programs, components)
        ):
            return []  # what Python opens itself is seen when it does
        words = {word for c in components for text in c.strings for word in SEPARATORS.split(text)}
        return sorted(word for word in words if PATH.search(word) and len(word) < _PATH_MAX)

    def _covered(self, reached: dict[Key, Component], codes: list[CodeType], function: Any) -> str:
        tokens = self._tokens(codes)
        for component in reached.values() if _covered.is_observable else ():
            if component.tokens is None:
                component.tokens = self._tokens(component.codes)
            tokens |= component.tokens
        module = getattr(function, "__module__", None)
        for name in self.effects.modules_of_stage(reached, module):
            file = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(file, str):
                tokens.add(_covered.module_token(self.graph.roots.relative(file)))
        return _covered.joined(tokens)

    def _tokens(self, codes: list[CodeType]) -> set[str]:
        inner = {id(c): c for code in codes for c in _covered.with_inner(code)}
        relative = self.graph.roots.relative
        return {_covered.token(code, relative) for code in inner.values()}

    def _reach(
        self, start: list[Key], function: Any, mode: Mode
    ) -> tuple[dict[Key, Component], list[dict[str, Any]], list[CodeType]]:
        reached: dict[Key, Component] = {}
        self._extend(reached, start, mode)
        module = getattr(function, "__module__", None)
        effects: list[dict[str, Any]] = []
        codes: list[CodeType] = []
        # What an effect refers to may lead to other modules with effects; this ends, as the
        # modules are finite.
        while True:
            before = len(reached)
            effects, edges, codes = self.effects.of_stage(reached, module, mode)
            self._extend(reached, edges + self._computed(reached), mode)
            if len(reached) == before:
                break
        keys = {key for key in reached if key.kind == "params"}
        for key in keys:
            if key._replace(kind="class") in reached:
                del reached[key]  # the class is used as such, too: all of it counts
        return reached, effects, codes

    def _computed(self, reached: dict[Key, Component]) -> list[Key]:
        """Scripts and modules that texts in the stage's code may name."""
        found: list[Key] = []
        components = list(reached.values())
        if any(component.imports_by_name for component in components):
            texts = {text for component in components for text in component.strings}
            for text in sorted({text.partition(":")[0] for text in texts}):
                is_name = text.isascii() and all(map(str.isidentifier, text.split(".")))
                if is_name and self.graph.is_user_module_name(text):
                    found.append(self.graph.whole_module(sys.modules[text]))
        if any(map(can_start_programs, components)):
            found += self.scripts.named_in(components)
        return found

    def _extend(self, reached: dict[Key, Component], start: list[Key], mode: Mode) -> None:
        pending = [key for key in start if key not in reached]
        while pending:
            key = pending.pop()
            if key in reached:
                continue
            if key.kind == "file":
                reached[key] = component = Component(key)
                component.digest = self.scripts.digest_of(key).encode()
                component.file, component.line = key.name, 1
                pending.extend(self.scripts.imported_by(key))
                continue
            component = reached[key] = self.graph.component(key, mode)
            if key.kind == "env":
                self._environment.add(key.name)
            pending.extend(edge for edge in component.edges if edge not in reached)

    def _named(self, reached: dict[Key, Component], mode: Mode) -> list[dict[str, Any]]:
        """The components under the shortest names that are unique in this stage."""
        holders: dict[str, int] = {}
        for key in reached:
            holders[key.label] = holders.get(key.label, 0) + 1
        clashing = {label for label, count in holders.items() if count > 1}
        found: list[dict[str, Any]] = []
        for key, component in reached.items():
            name, digest = key.label, component.digest
            if clashing:
                if name in clashing:
                    name = key.full_label
                digest = self._told_apart(component, clashing, mode)
            if key.kind == "params":
                name = "class" + name[len("params") :]
            found.append(_entry(name, component_hash(digest), component.file, component.line))
        found.sort(key=lambda entry: (not entry["name"].startswith("self:"), entry["name"]))
        return found

    def _told_apart(self, component: Component, clashing: set[str], mode: Mode) -> bytes:
        """The digest of a component that may refer to one of several components of one label."""
        edges = [edge for edge in component.edges if edge.label in clashing]
        if not edges:
            return component.digest
        if len({edge.label for edge in edges}) == len(edges):
            # Each label means one thing in here: it is enough to say which.
            full = sorted(edge.full_label.encode("utf-8", "surrogatepass") for edge in edges)
            return bytes.fromhex(component_hash(component.digest, *full))
        return self.graph.component(component.key, mode._replace(full=True)).digest

    def _outside(self, reached: dict[Key, Component]) -> list[dict[str, Any]]:
        """The interpreter and the distributions."""
        names: dict[str, None] = {}
        for component in reached.values():
            names.update(component.libraries)
        if self._owned_among != len(sys.modules):
            # What is imported now may have been found by its name alone before.
            self._owned_among = len(sys.modules)
            self._owned.clear()
        compiled: dict[str, dict[str, Any]] = {}
        digests: dict[str, str] = {}
        for dotted in names:
            owned = self._owned.get(dotted)
            if owned is None:
                owned = self._owned[dotted] = self._owner_of(dotted)
            if owned.compiled is not None:
                compiled[owned.compiled["name"]] = owned.compiled
            digests.update(owned.digests)
        found = [self._python, *(compiled[label] for label in sorted(compiled))]
        found += [_entry(f"package:{name}", digests[name], None, None) for name in sorted(digests)]
        return found

    def _owner_of(self, dotted: str) -> _Owned:
        """What stands for a library's object: distributions, or a compiled file of the user's."""
        compiled = None
        module = sys.modules.get(_module_part(dotted))
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and not file.endswith(".py") and self.graph.roots.is_user(file):
            # A module without text: an extension, or a compiled file alone.
            key = Key("file", "", self.graph.roots.relative(file))
            compiled = _entry(key.label, self.scripts.digest_of(key), key.name, None)
        digests: dict[str, str] = {}
        if self.packages != "ignore":
            packages = self.graph.packages
            plain, dists = packages.of_module(_module_part(dotted.removeprefix("set ")))
            for dist in dists:
                digests[dist.name] = dist.digest(self.packages)
            if plain is not None:
                top = plain.lstrip("@")
                digest = packages.plain_digest(top)
                if digest is not None:
                    digests[top] = digest
        return _Owned(compiled, digests)


def _unusual() -> list[str]:
    """How this interpreter runs code other than usually."""
    found = [f"-O{sys.flags.optimize}"] if sys.flags.optimize else []
    encoding = locale.getpreferredencoding(False).lower().replace("_", "-")
    return found if encoding in ("utf-8", "utf8") else [*found, encoding]


def _mode(components: Iterable[Component]) -> Mode:
    """What counts beyond the usual, by what the code of a stage reads."""
    reads: set[str] = set()
    for component in components:
        reads |= component.reads
        if component.reads_texts:
            reads |= {"texts", "annotations"}
        for dotted in component.libraries:
            known = _reads_of.get(dotted)
            if known is None:
                known = _reads_of[dotted] = frozenset(
                    one for pattern, what in _READERS if pattern.match(dotted) for one in what
                )
            reads |= known
    return Mode(**dict.fromkeys(reads, True)) if reads else Mode()


def _shared(reached: dict[Key, Component]) -> list[dict[str, Any]]:
    """Objects that several components hold: a change through one shows through the others."""
    holders: dict[int, list[tuple[str, int]]] = {}
    for key, component in reached.items():
        for number, item in component.mutables:
            holders.setdefault(id(item), []).append((key.full_label, number))
    groups: dict[str, list[bytes]] = {}
    for places in holders.values():
        if len(places) > 1:
            places.sort()
            text = repr(places).encode("utf-8", "surrogatepass")
            groups.setdefault(places[0][0], []).append(text)
    return [
        _entry(f"shared:{label}", component_hash(*sorted(texts)), None, None)
        for label, texts in sorted(groups.items())
    ]


def _module_part(dotted: str) -> str:
    """The longest start of a dotted name that is a loaded module, else its first part."""
    if dotted.startswith("@"):
        return dotted
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if name in sys.modules:
            return name
    return dotted


def _entry(name: str, digest: str, file: str | None, line: int | None) -> dict[str, Any]:
    return {"name": name, "hash": digest, "file": file, "line": line}


def _notes(reached: dict[Key, Component]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for component in reached.values():
        for note in component.notes:
            entry = {"text": note["text"], "file": note["file"], "line": note["line"]}
            if entry not in found:
                found.append(entry)
    found.sort(key=lambda note: (note["file"] or "", note["line"] or 0, note["text"]))
    return found

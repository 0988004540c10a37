"""A component of a code manifest: one named thing that a stage's result depends on."""

from __future__ import annotations

from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Component", "Key", "Mode"]


class Key(NamedTuple):
    """What a component stands for; ``module`` tells apart equal names."""

    kind: str
    module: str
    name: str

    @property
    def label(self) -> str:
        """The name in a manifest, where it is unique there."""
        return f"{self.kind}:{self.name}"

    @property
    def full_label(self) -> str:
        """The name where another component of the stage has the same label."""
        return f"{self.kind}:{self.module}.{self.name}" if self.module else self.label


class Mode(NamedTuple):
    """What counts in a digest; the common case is all false."""

    texts: bool = False
    """Docstrings and annotations, since something in the stage's code reads them."""
    full: bool = False
    """References carry module names, since two components share a label, or since something
    writes such names down, as pickle does."""
    annotations: bool = False
    """The annotations of all classes, since something in the stage's code reads them."""
    order: bool = False
    """The order of attributes, since something in the stage's code lists them."""
    lines: bool = False
    """Line numbers, since something in the stage's code asks for them."""


class Component:
    """The digest of one component, and what it refers to."""

    __slots__ = (
        "bound",
        "codes",
        "digest",
        "edges",
        "editable",
        "file",
        "form",
        "imports_by_name",
        "key",
        "libraries",
        "line",
        "modules",
        "mutables",
        "notes",
        "opaque",
        "reads",
        "reads_environment",
        "reads_texts",
        "rest",
        "runs_programs",
        "strings",
        "tokens",
        "writes_environment",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.digest = b""
        self.form: str | None = None
        """The digest of the form of the function that the component stands for."""
        self.rest = b""
        """The digest of everything else, where there is a form."""
        self.editable: Any = None
        """The function's definition, if its names mean what they do wherever they stand in it."""
        self.edges: dict[Key, None] = {}
        self.codes: list[CodeType] = []
        """The code whose text or instructions are part of the digest."""
        self.libraries: dict[str, None] = {}
        """Dotted names of library objects, ``numpy.random.default_rng``."""
        self.modules: dict[str, None] = {}
        """User modules imported by code in here, beside those of the defining module."""
        self.file: str | None = None
        self.line: int | None = None
        self.notes: list[dict[str, Any]] = []
        self.strings: list[str] = []
        """Texts that may name a script or a module."""
        self.imports_by_name = False
        """Whether a module is imported whose name is not known."""
        self.bound: tuple[str, str] | None = None
        """Module and name of the binding, for provenance."""
        self.opaque: dict[str, None] = {}
        """The types of objects in here that have no value."""
        self.mutables: list[tuple[int, Any]] = []
        """Objects in here that code could change, with the number of their visit."""
        self.reads_texts = False
        self.reads: set[str] = set()
        """Names of `_names.READERS` that the code uses."""
        self.reads_environment = False
        self.writes_environment = False
        self.runs_programs = False
        self.tokens: set[str] | None = None
        """Tokens of ``codes``, once they were asked for; see `_covered`."""

    def note(self, text: str, file: str | None, line: int | None) -> None:
        """Say why something coarser than the code's own names counts."""
        entry = {"text": text, "file": file, "line": line}
        if entry not in self.notes:
            self.notes.append(entry)

"""Answers ``inspect``: which stages a pipeline declares, and what each of them depends on."""

from __future__ import annotations

import inspect
import os
from _blake2 import blake2b  # `hashlib` loads OpenSSL as well
from typing import TYPE_CHECKING, Any

from pivot._declare import DECLARED, Declaration
from pivot._errors import DeclarationError, LoadError, PivotError
from pivot._failure import internal, relative
from pivot._load import load_file, load_target
from pivot._outs import Out, Plot
from pivot._protocol import Message, from_wire, to_wire
from pivot._stages import Stage, check_names, function_name, project_path

if TYPE_CHECKING:
    from pivot._fingerprint._inspection import Inspection
    from pivot._fingerprint._manifest import Fingerprint
    from pivot._params import StageParams


def inspect_project(request: Message, session: Inspection) -> Message:
    """The ``inspected`` frame, or a :class:`PivotError`.

    The session is recording; it stops when everything that may import has been done.
    """
    root: str = request["root"]
    overrides = from_wire(request.get("overrides") or {})
    entry = request["entry"]
    if "file" in entry:
        load_file(session, root, entry["file"])
        # A copy, as a stage's function may declare more when its code is looked at.
        declarations = list(DECLARED)
        check_names(declarations, root)
        described = [_described(d, root) for d in declarations]
    else:
        declarations: list[Declaration] = []
        described: list[Message] = []
        for target in entry.get("targets") or ():
            if "command" in target:
                continue
            declarations.append(_declaration_of(target, session, root))
            described.append(_described_target(target))
    bound, refused = _bound(declarations, overrides)
    with session.undisturbed():
        # Only those before the first whose params are refused: the first error is the one to tell.
        stages = [
            _inspected(declaration, base, params, session, root)
            for declaration, base, params in zip(declarations, described, bound, strict=False)
        ]
    if refused is not None:
        raise refused
    for target in entry.get("targets") or ():
        if "command" in target:
            code = session.command(target["command"], target.get("cwd"))
            stages.append({"name": target["stage"], "function": None, "code": code, "notes": []})
    for name in entry.get("functions") or ():
        code = session.fingerprint(load_target(session, root, name), name)
        stages.append(
            {"name": name, "function": None, "code": code.components, "notes": code.notes}
        )
    session.stop_recording()
    return {
        "type": "inspected",
        "stages": stages,
        "witness": session.witness(),
        "preload": session.preload(),
    }


def _declaration_of(target: Message, session: Inspection, root: str) -> Declaration:
    name = target["stage"]
    place: Message = target.get("place") or {}
    file, line = place.get("file") or "pivot.yaml", place.get("line")
    try:
        function = load_target(session, root, target["python"])
    except LoadError as error:
        error.stage = name
        error.message = f"stage `{name}`: {error.message}"
        if error.file is None:
            error.file, error.line = file, line
        raise
    declaration = Declaration(
        function,
        name,
        (file, line or 0),
        deps=target.get("deps") or (),
        outs=[Out(out["path"]) for out in target.get("outs") or ()],
        params=from_wire(target.get("params")),
    )
    declaration.variant = target.get("variant") or declaration.variant
    return declaration


def _bound(
    declarations: list[Declaration], overrides: Any
) -> tuple[list[tuple[Any, StageParams]], Exception | None]:
    """The effective params of the stages up to the first that has an error, and that error."""
    bound: list[tuple[Any, StageParams]] = []
    for declaration in declarations:
        try:
            bound.append(Stage(declaration).effective_params(overrides))
        except Exception as error:
            return bound, error
    return bound, None


def _inspected(
    declaration: Declaration,
    described: Message,
    bound: tuple[Any, StageParams],
    session: Inspection,
    root: str,
) -> Message:
    effective, params = bound
    model = None if params.model is None else params.model.model_class
    try:
        code = session.fingerprint(declaration.function, declaration.name, model)
        if declaration.code_deps:
            code = _with_code_deps(code, declaration, session, root)
    except PivotError:
        raise
    except Exception as error:
        told = internal(error, f"cannot fingerprint the code of stage `{declaration.name}`")
        told.stage, told.file, told.line = declaration.name, declaration.file, declaration.line
        raise told from error
    return {
        "name": declaration.name,
        "base": declaration.base,
        "variant": declaration.variant,
        "function": function_name(declaration.function),
        **described,
        "params": to_wire(effective),
        "params_model": params.model is not None,
        "code": code.components,
        "notes": code.notes,
        "covered": code.covered,
        "mentions": code.mentions,
    }


def _described(declaration: Declaration, root: str) -> Message:
    """What a stage of a pipeline file declares, with paths relative to the project."""
    inside = _PathsOf(declaration, root)
    return {
        "place": {"file": relative(declaration.file, root), "line": declaration.line},
        "deps": [inside.project(path, "deps") for path in declaration.deps],
        "outs": [_described_out(out, inside.project(out.path, "outs")) for out in declaration.outs],
        "mutex": list(declaration.mutex),
        "cwd": None if declaration.cwd is None else inside.project(declaration.cwd, "cwd"),
        "resources": to_wire(declaration.resources),
        "timeout": declaration.timeout,
    }


def _described_out(out: Out, path: str) -> Message:
    axes = (out.x, out.y, out.template) if isinstance(out, Plot) else (None, None, None)
    return {
        "path": path,
        "kind": out.kind,
        "cache": out.cache,
        "x": axes[0],
        "y": axes[1],
        "template": axes[2],
    }


def _described_target(target: Message) -> Message:
    """What ``pivot.yaml`` declares, as it came."""
    return {
        "place": target.get("place"),
        "deps": target.get("deps") or [],
        "outs": target.get("outs") or [],
        "mutex": target.get("mutex") or [],
        "cwd": target.get("cwd"),
        "resources": target.get("resources") or {},
    }


class _PathsOf:
    """Turns a declaration's paths into paths relative to the project."""

    def __init__(self, declaration: Declaration, root: str) -> None:
        self._declaration = declaration
        self._root = root

    def project(self, path: str, argument: str) -> str:
        """``path`` itself, or its place in the project where it was written as absolute."""
        if not os.path.isabs(path):
            return path.replace(os.sep, "/")
        inside = project_path(path, self._root)
        if inside is None:
            raise self.error(f"`{path}` in `{argument}` lies outside the project", argument)
        return inside

    def error(self, message: str, argument: str, hint: str | None = None) -> PivotError:
        """An error about a path, with the stage and its place."""
        declaration = self._declaration
        return DeclarationError(
            f"stage `{declaration.name}`: {message}",
            stage=declaration.name,
            argument=argument,
            hint=hint or "paths are relative to the project's root",
            file=declaration.file,
            line=declaration.line,
        )


def _with_code_deps(
    code: Fingerprint, declaration: Declaration, session: Inspection, root: str
) -> Fingerprint:
    """A stage's code with the code that it names as a dependency by hand."""
    found = {component["name"]: component for component in code.components}
    covered = code.covered
    inside = _PathsOf(declaration, root)
    for item in declaration.code_deps:
        if isinstance(item, (str, os.PathLike)):
            component = _file_component(os.fspath(item), inside, session, root)
            found[component["name"]] = component
            continue
        reached = session.fingerprint(item, declaration.name)
        covered += reached.covered
        for component in _object_components(item, reached.components):
            name = component["name"]
            known = found.setdefault(name, component)
            if known["hash"] != component["hash"]:
                # Another thing of that name, in another module.
                kind, _, rest = name.partition(":")
                name = f"{kind}:{getattr(item, '__module__', 'code_deps')}.{rest}"
                found[name] = {**component, "name": name}
    return code._replace(components=list(found.values()), covered=covered)


def _file_component(path: str, inside: _PathsOf, session: Inspection, root: str) -> Message:
    path = inside.project(path, "code_deps")
    try:
        digest = _digest(os.path.join(root, path), session)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"cannot read `{path}` of `code_deps`: {reason}"
        raise inside.error(message, "code_deps") from None
    return {"name": f"file:{path}", "hash": digest, "file": path, "line": None}


def _object_components(item: Any, reached: list[Message]) -> list[Message]:
    """The components of a function, class or module; only a stage's own function is `self`."""
    others = [component for component in reached if not component["name"].startswith("self:")]
    if inspect.isclass(item) or inspect.ismodule(item):
        return others  # it has a component of its own kind
    name = getattr(item, "__qualname__", None) or type(item).__name__
    kind = "func" if callable(item) else "const"
    own = [
        {**component, "name": f"{kind}:{name}"}
        for component in reached
        if component["name"].startswith("self:")
    ]
    return own + others


def _digest(path: str, session: Inspection) -> str:
    """The content of a file, or of all files below a directory, in 16 hexadecimal digits."""
    digest = blake2b(digest_size=8)
    if not os.path.isdir(path):
        session.count_whole(path)
        with open(path, "rb") as file:  # the recorder notes what is opened
            digest.update(file.read())
        return digest.hexdigest()
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            inner = os.path.join(folder, name)
            session.count_whole(inner)
            with open(inner, "rb") as file:
                content = file.read()
            label = os.path.relpath(inner, path).encode("utf-8", "surrogateescape")
            digest.update(b"%d:%s%d:" % (len(label), label, len(content)))
            digest.update(content)
    return digest.hexdigest()

"""Importing what a request names: a pipeline file, or a function by its dotted name.

Whatever the user's code does meanwhile becomes a :class:`LoadError` with words for it.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pivot._errors import LoadError, PivotError, did_you_mean
from pivot._failure import message_of, relative, type_name, user_error
from pivot._outs import describe

if TYPE_CHECKING:
    from pivot._fingerprint._session import Session

# Import names whose packages are called otherwise on the package index.
_PACKAGES = {
    "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "PIL": "pillow", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "yaml": "pyyaml",
}  # fmt: skip


def load_file(session: Session, root: str, file: str) -> None:
    """Imports the pipeline file, which declares its stages meanwhile."""
    path = os.path.join(root, *file.split("/"))
    if not os.path.isfile(path):
        raise LoadError(f"cannot import `{file}`: there is no such file", file=file)
    with _told(file, root):
        session.load_file(path)


def load_target(session: Session, root: str, target: str) -> Callable[..., Any]:
    """The function that ``module.function`` or ``module.Class.method`` names."""
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise LoadError(
            f"`{target}` names no function",
            hint="write `module.function`, with the module as in an `import` statement",
        )
    owner, attributes = _import_longest(session, root, parts)
    module = owner
    found: Any = module
    for name in attributes:
        owner = found
        try:
            found = getattr(owner, name)
        except AttributeError:
            known = [n for n in dir(owner) if not n.startswith("__")]
            raise LoadError(
                f"`{describe_owner(owner)}` has no `{name}`{did_you_mean(name, known)}",
                hint=_file_hint(module, root),
            ) from None
    _check_callable(target, owner, attributes[-1], found)
    return found


def describe_owner(owner: Any) -> str:
    """A module's or class's name."""
    name = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", None)
    return name if isinstance(name, str) else type(owner).__name__


def _import_longest(session: Session, root: str, parts: list[str]) -> tuple[Any, list[str]]:
    """The module of the longest prefix that is one, and what is left of the name."""
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        try:
            with _told(name, root):
                return session.import_module(name), parts[count:]
        except LoadError as error:
            cause = error.__cause__
            missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
            is_prefix = missing is not None and f"{name}.".startswith(f"{missing}.")
            # Inside the module something else is missing: that is what the user must hear.
            if not is_prefix or error.traceback is not None:
                raise
            if count == 1:
                near = did_you_mean(name, _modules_in(root))
                raise LoadError(
                    f"there is no module `{name}`{near}", hint=_missing_hint(name, root)
                ) from None
    raise AssertionError("a dotted name has a first part")


def _check_callable(target: str, owner: Any, name: str, found: Any) -> None:
    if inspect.ismodule(found):
        raise LoadError(
            f"`{target}` is a module", hint=f"name the function in it: `{target}.function`"
        )
    if isinstance(found, type):
        raise LoadError(
            f"`{target}` is a class, and a stage is a function",
            hint=f"name a static method of it: `{target}.method`",
        )
    if not callable(found):
        raise LoadError(f"`{target}` is no function, but {describe(found)}")
    if isinstance(owner, type) and inspect.isfunction(found):
        first = next(iter(inspect.signature(found, follow_wrapped=False).parameters), None)
        is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        if first == "self" and not is_static:
            raise LoadError(
                f"`{target}` is a method that needs an object",
                hint="make it a static method or a class method",
            )


@contextmanager
def _told(what: str, root: str) -> Generator[None, None, None]:
    """Turns everything that an import may raise into a :class:`LoadError`."""
    try:
        yield
    except PivotError:
        raise
    except SystemExit as error:
        code = "" if error.code is None else repr(error.code)
        raise _load_error(
            error, root, f"`{what}` called `sys.exit({code})` while it was imported",
            "what only a script shall do belongs under `if __name__ == '__main__':`",
        ) from error  # fmt: skip
    except KeyboardInterrupt as error:
        raise LoadError(f"interrupted while `{what}` was imported") from error
    except BaseException as error:
        message = message_of(error)
        text = type_name(error) + (f": {message}" if message else "")
        raise _load_error(
            error, root, f"cannot import `{what}`: {text}", _hint(error, root)
        ) from error


def _load_error(error: BaseException, root: str, message: str, hint: str | None) -> LoadError:
    told = user_error(error, root)
    failure = LoadError(message, hint=hint, file=told["file"], line=told["line"])
    # The import that we were asked for has no frame of the user's when its module is missing.
    has_frames = told["traceback"] is not None and '  File "' in told["traceback"]
    failure.traceback = told["traceback"] if has_frames else None
    return failure


def _hint(error: BaseException, root: str) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing_hint(error.name, root)
    if isinstance(error, ImportError) and "attempted relative import" in message_of(error):
        return "a pipeline file is no part of a package: import its neighbors by their plain names"
    return None


def _missing_hint(name: str, root: str) -> str | None:
    """What to do about a module that is not found."""
    top = name.partition(".")[0]
    if top in sys.modules or top in _modules_in(root):
        return None  # the package is there, and something in it is not
    for folder in _folders_in(root):
        for candidate in (f"{top}.py", top):
            if os.path.exists(os.path.join(root, folder, candidate)):
                return (
                    f"`{folder}/{candidate}` is there, but `{folder}` is not on the path of"
                    f" imports: set `PYTHONPATH={folder}`, or install the project with"
                    " `pip install -e .`"
                )
    package = _PACKAGES.get(top, top)
    return (
        f"the project has no `{top}.py` or `{top}/`, and no package `{top}` is installed for"
        f" `{sys.executable}`; if it is a package: `{sys.executable} -m pip install {package}`"
    )


def _modules_in(root: str) -> list[str]:
    """The names of modules and packages that lie in the project's root."""
    names: list[str] = []
    for entry in _entries(root):
        if entry.name.endswith(".py") and entry.name[:-3].isidentifier():
            names.append(entry.name[:-3])
        elif entry.name.isidentifier() and os.path.isfile(os.path.join(entry.path, "__init__.py")):
            names.append(entry.name)
    return names


def _folders_in(root: str) -> list[str]:
    return [e.name for e in _entries(root) if e.is_dir() and not e.name.startswith((".", "__"))]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _file_hint(module: Any, root: str) -> str | None:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return None
    return f"`{module.__name__}` is `{relative(file, root)}`"

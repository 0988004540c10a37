"""Answers whether one changed file is an edit of a function's body alone.

It is imported without the rest of the package, whose import takes longer than all that is done
here; the question is in the arguments, so that nothing has to be decoded. Where the edit is
another, the process goes on as if it had just begun.
"""

from __future__ import annotations

import os
import sys
from _json import encode_basestring_ascii as quoted

from pivot._fingerprint._compiled import Compiled
from pivot._fingerprint._edited import edited

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def answer_edit(fd: int, root: str, name: str, path: str) -> None:
    """Answers and ends the process, or returns when it is another kind of edit.

    ``name`` is that of the note which belongs to what is known of the project at ``root``, and
    ``path`` the file that has changed since.
    """
    version = ",".join(map(str, sys.version_info[:3]))
    _send(fd, f'{{"type":"hello","proto":1,"py":[{version}]}}')
    answer = _answer(root, name, path)
    _send(fd, answer or '{"type":"other"}')
    if answer is not None:
        os._exit(0)


def _answer(root: str, name: str, path: str) -> str | None:
    compiled = Compiled(os.path.join(os.path.dirname(_PACKAGE), "code"))
    known = compiled.note(root)
    if type(known) is not dict or known["name"] != name:
        return None
    try:
        about = os.stat(path)  # before the bytes: a later change then shows in it
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    found = edited(known, path, data)
    if found is None:
        return None
    compiled.keep_note(root, known)
    times = f"{about.st_mtime_ns},{about.st_ctime_ns}"
    stamp = f"{times},{about.st_size},{about.st_ino},{about.st_dev}"
    hashes = ",".join(f'"{old}":"{new}"' for old, new in found["hashes"].items())
    return (
        f'{{"type":"edited","name":"{known["name"]}","hash":"{found["digest"]}","stat":[{stamp}],'
        f'"file":{quoted(found["file"])},"line":{found["line"]},"hashes":{{{hashes}}}}}'
    )


def _send(fd: int, text: str) -> None:
    body = text.encode()
    rest = len(body).to_bytes(4, "little") + body
    while rest:
        rest = rest[os.write(fd, rest) :]

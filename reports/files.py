"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["VERSION", "read_result", "write_json", "write_text"]

VERSION = 1
"""Of results that have one."""


def write_text(path: str | Path, text: str) -> Path:
    """The path written: `text` as UTF-8, put in place by one rename, folders made as needed.

    Raises:
        OSError: the place can't be written; no half file is left behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError(21, "is a folder, a file's name is expected", str(target))
    try:
        handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as fault:  # it names the draft, or nothing
        raise OSError(fault.errno, fault.strerror, str(target)) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(draft, 0o666 & ~umask)  # mkstemp's 0600 would hide a report from its readers
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    return target


def write_json(path: str | Path, value: Any) -> Path:
    """The path written: `value` as JSON that reads well, put in place by one rename."""
    return write_text(path, json.dumps(value, indent=2) + "\n")


def read_result(path: str | Path) -> dict[str, Any]:
    """The result that a verb wrote with `--json` or `-o`.

    Raises:
        ValueError: the file is no JSON or no result of ours; the message names it.
        OSError: the file can't be read.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except ValueError as fault:
        raise ValueError(f"{path}: not a JSON file ({fault})") from None
    except RecursionError:
        raise ValueError(f"{path}: not a result: it is nested too deeply") from None
    kinds = ("result", "modelled", "verify", "against", "cost", "demo", "info")
    if not isinstance(value, dict) or value.get("kind") not in kinds:
        raise ValueError(
            f"{path}: not a result: its `kind` must be one of {', '.join(kinds)}; write results with "
            "`--json` or `-o` of those verbs"
        )
    if value.get("version", VERSION) != VERSION:
        raise ValueError(
            f"{path}: it has result version {value['version']}, this release reads {VERSION}: write it again"
        )
    return value


def _refuse_constant(name: str) -> float:
    """Nothing; ValueError, since JSON has no NaN and no infinity."""
    raise ValueError(f"{name} is no JSON number")

"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["read_result", "write_json", "write_text"]


def write_text(path: str | Path, text: str) -> Path:
    """The path written: `text` as UTF-8, put in place by one rename, folders made as needed.

    Raises:
        OSError: the place can't be written; no half file is left behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError(21, "is a folder, a file's name is expected", str(target))
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
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
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ValueError(f"{path}: not a JSON file ({fault})") from None
    kinds = ("result", "verify", "cost", "demo")
    if not isinstance(value, dict) or value.get("kind") not in kinds:
        raise ValueError(
            f"{path}: not a result: its `kind` must be one of {', '.join(kinds)}; write results with "
            "`--json` or `-o` of those verbs"
        )
    return value

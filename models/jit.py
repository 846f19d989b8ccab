"""The one door to Numba: `njit` with its cache kept out of the installed package.

Numba's default cache lies beside the source; left behind after an uninstall it hides the package's
own `__init__` files. So the cache goes to the user's cache folder, and where that cannot be written
kernels are compiled anew in each process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["cache_folder", "njit"]


def cache_folder() -> Path:
    """The folder that compiled kernels are kept in: the user's cache folder, then `bitwright/numba`."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "bitwright" / "numba"


def _prepare() -> bool:
    """Whether a cache folder is set and can be written."""
    try:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))
        folder = Path(os.environ["NUMBA_CACHE_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # no home folder, or one that can't be written
        return False


_CACHED = _prepare()

import numba  # noqa: E402  (reads its environment when first imported)

numba.config.reload_config()  # type: ignore[no-untyped-call]


def njit(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """The compiled kernel of `function`, cached; its plain Python stays at `.py_func`.

    Used bare or with Numba's options; `cache` is on unless given or unless no folder can be written.
    """
    options.setdefault("cache", True)
    options["cache"] = bool(options["cache"]) and _CACHED
    if function is None:
        return numba.njit(**options)
    return numba.njit(**options)(function)

"""The one door to Numba: `njit` with its cache kept out of the installed package.

Numba's default cache lies beside the source; left behind after an uninstall it hides the package's
own `__init__` files. So the cache goes to the user's cache folder, and where that cannot be written
kernels are compiled anew in each process. The first kernel of each room that has to be compiled is told to
this module's logger, at level INFO, before it is; the command line shows that.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

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
from numba.core import event  # noqa: E402

numba.config.reload_config()  # type: ignore[no-untyped-call]


def _skip_blas() -> None:
    """Nothing; loads Numba's array functions without SciPy, in which they look for a BLAS.

    No kernel here calls one, and SciPy takes a fifth of the command line's first second. A program that has
    kernels of its own is left alone: the command line alone asks for this.
    """
    if "scipy.linalg" in sys.modules:
        return
    sys.modules["scipy.linalg"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules["scipy.linalg"]


if os.environ.get("BITWRIGHT_NO_BLAS"):
    _skip_blas()

_ROOMS = {"mapper": "search kernels", "sim": "cycle kernels"}
"""What the kernels of a room are called."""


class _Announcer(event.Listener):
    """Tells of the first kernel of each room that isn't in the cache."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def on_start(self, event: Any) -> None:
        """Nothing; logs a line, once a room."""
        parts = event.data["dispatcher"].py_func.__module__.split(".")
        room = parts[1] if parts[0] == "bitwright" and len(parts) > 1 else ""
        if not room or room in self._told:
            return
        self._told.add(room)
        name = _ROOMS.get(room, f"kernels of {room}")
        how = (
            "once on this machine: about half a minute"
            if _CACHED
            else f"in every run, since {cache_folder()} can't be written: about half a minute"
        )
        logging.getLogger(__name__).info("compiling the %s, %s", name, how)

    def on_end(self, event: Any) -> None:
        """Nothing."""


event.register("numba:compile", _Announcer())  # type: ignore[no-untyped-call]


@overload
def njit(function: Callable[..., Any], /) -> Any: ...


@overload
def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]: ...


def njit(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """The compiled kernel of `function`, cached; its plain Python stays at `.py_func`.

    Used bare or with Numba's options; `cache` is on unless given or unless no folder can be written.
    """
    options.setdefault("cache", True)
    options["cache"] = bool(options["cache"]) and _CACHED
    if function is None:
        return numba.njit(**options)
    return numba.njit(**options)(function)

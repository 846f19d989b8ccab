"""What the flow needs and whether it is there."""

from __future__ import annotations

import importlib.metadata

from ..rtl.toolchain import ToolStatus
from ..rtl.toolchain import doctor as hardware_tools

__all__ = ["examine", "version"]

LIBRARIES = ("numpy", "numba", "torch", "scikit-learn", "matplotlib", "jinja2")
"""What the rooms besides `rtl` need."""


def version(name: str = "bitwright") -> str:
    """The version of an installed package, `unknown` when it isn't installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def examine() -> list[ToolStatus]:
    """Every tool of the flow: the hardware tools first, then Python libraries."""
    tools = hardware_tools()
    for name in LIBRARIES:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            hint = f"pip install {name}"
            tools.append(ToolStatus(tool=name, version=None, path="", hint=hint))
        else:
            tools.append(ToolStatus(tool=name, version=found, path="", hint=""))
    return tools

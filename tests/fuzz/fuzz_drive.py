"""Damaged model files by the thousand: each is read in a process of its own, under limits, and judged.

    python tests/fuzz/fuzz_drive.py --count 2000 --seed 0

A file may be read, or refused by one line that names it. Whatever else happens is printed with the number
that shows it again (`--only NUMBER`), the file is kept, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzz_damage import damage
from fuzz_seeds import seed_files

__all__ = ["judge", "main", "read_file"]

SECONDS = 20
"""Processor time, and three times as much by the clock."""
MEMORY = 4 << 30
"""Bytes of address space beyond what the process has at the start."""
GOOD = ("read", "refused")
_MOST = {"seconds": 0.0, "MiB": 0.0}
"""Processor time and memory of the child that took most."""
_NEEDED = (
    "onnx",
    "bitwright.models.architectures",
    "bitwright.models.graph.fold",
    "bitwright.models.importers.onnx_file",
    "bitwright.models.importers.quantised",
    "bitwright.models.importers.tflite_model",
    "bitwright.models.importers.topology",
    "bitwright.models.importers.torch_program",
    "bitwright.models.zoo",
    "bitwright.reports.inputs",
    "bitwright.reports.model_summary",
)


def read_file(path: Path) -> None:
    """Nothing; reads a file as the command line would."""
    from bitwright.models.importers.load import load_model
    from bitwright.reports.inputs import load_images
    from bitwright.reports.model_summary import model_summary

    if path.suffix == ".npz":
        load_images(path, load_model("zoo:random-1"), count=4)
    else:
        model_summary(load_model(str(path)))


def _in_child(read: Callable[[Path], None], path: Path, memory: int) -> str:
    """What became of reading a file: read, refused, or what was wrong."""
    from bitwright.models.storage import ImportModelError

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        read(path)
    except ValueError as fault:
        text = str(fault)
        if path.suffix != ".npz" and not isinstance(fault, ImportModelError):
            return f"{type(fault).__name__} instead of ImportModelError\n{traceback.format_exc()}"
        if str(path) not in text:
            return f"a message that doesn't name the file: {text!r:.300}\n{traceback.format_exc()}"
        if any(not c.isprintable() for c in text) or len(text) > 1000:
            return f"a message of more than one plain line: {text!r:.300}"
        return "refused"
    except BaseException as fault:
        return f"{type(fault).__name__}: {fault!s:.300}\n{traceback.format_exc()[-3000:]}"
    return "read"


def judge(path: Path, read: Callable[[Path], None] = read_file, *, memory: int = MEMORY) -> str:
    """What became of reading a file in a child process: read, refused, or what was wrong."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receiving)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.write(sending, _in_child(read, path, memory).encode("utf-8", "replace")[:60000])
        finally:
            os._exit(0)
    os.close(sending)
    parts = []
    ends = time.monotonic() + 3 * SECONDS
    with os.fdopen(receiving, "rb", buffering=0) as stream:
        while select.select([stream], [], [], max(0.0, ends - time.monotonic()))[0]:
            part = stream.read(65536)
            if not part:
                break
            parts.append(part)
        else:
            os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    _MOST["seconds"] = max(_MOST["seconds"], used.ru_utime + used.ru_stime)
    _MOST["MiB"] = max(_MOST["MiB"], used.ru_maxrss / 1024)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hung = number in (signal.SIGKILL, signal.SIGXCPU)
        return f"hangs: ended after {SECONDS} s" if hung else f"crashes: {signal.Signals(number).name}"
    return b"".join(parts).decode("utf-8", "replace") or "crashes: it says nothing"


def _kind(path: Path) -> str:
    """The kind of a sound file, by which damaged ones are counted; QONNX is told from ONNX."""
    quant = path.suffix == ".onnx" and (path.stem == "quant" or path.parent.name == "qonnx")
    return "qonnx" if quant else path.suffix[1:]


def _warm() -> None:
    """Nothing; imports what the children need, once."""
    for name in _NEEDED:
        importlib.import_module(name)


def main(arguments: list[str] | None = None) -> int:
    """0 where all files were read or refused, else 1."""
    parser = argparse.ArgumentParser(description="Reads damaged model files and says what went wrong.")
    parser.add_argument("--count", type=int, default=2000, help="files")
    parser.add_argument("--seed", type=int, default=0, help="number of the first")
    parser.add_argument("--only", type=int, help="one file, by its number")
    parser.add_argument("--no-torch", action="store_true", help="no .pt2 files")
    parser.add_argument(
        "--keep", type=Path, default=Path("build/fuzz"), help="folder for files that break it"
    )
    chosen = parser.parse_args(arguments)
    numbers = [chosen.only] if chosen.only is not None else range(chosen.seed, chosen.seed + chosen.count)
    counts: Counter[tuple[str, str]] = Counter()
    faults = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        seeds = seed_files(folder / "seeds", torch_file=not chosen.no_torch)
        kinds = sorted({_kind(path) for path in seeds})
        _warm()
        for path in seeds:
            if (found := judge(path)) != "read":
                print(f"{path.name}, undamaged: {found}")
                faults += 1
        for number in numbers:
            rng = np.random.default_rng([number, 4])
            kind = kinds[number % len(kinds)]
            mine = [path for path in seeds if _kind(path) == kind]
            source = mine[int(rng.integers(len(mine)))]
            path = folder / f"damaged{source.suffix}"
            path.write_bytes(damage(source.suffix, source.read_bytes(), rng))
            found = judge(path)
            counts[kind, found if found in GOOD else "wrong"] += 1
            if found not in GOOD:
                faults += 1
                chosen.keep.mkdir(parents=True, exist_ok=True)
                kept = chosen.keep / f"{number}{path.suffix}"
                kept.write_bytes(path.read_bytes())
                print(f"number {number} (of {source.name}; kept as {kept}): {found}", flush=True)
    for kind in kinds:
        row = ", ".join(f"{counts[kind, verdict]} {verdict}" for verdict in (*GOOD, "wrong"))
        print(f"{kind}: {row}")
    print(f"{sum(counts.values())} damaged files, {faults} faults, {time.monotonic() - started:.0f} s")
    print(f"most for one file: {_MOST['seconds']:.1f} s of processor time, {_MOST['MiB']:.0f} MiB")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

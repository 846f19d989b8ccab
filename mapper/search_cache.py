"""Results of searches kept on disk, by what they depend on; and the search of many layers at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..models.jit import cache_folder
from .evaluation import evaluate
from .hierarchy import AbstractMachine
from .loop_nest import LoopNest
from .optimum import Found, search
from .problem import Problem

__all__ = ["SearchCache", "search_layers"]

_VERSION = 1
"""Of the space, the counting rules and the entries: an entry of another version is not read."""


class SearchCache:
    """Nests by machine, layer and objective, one small JSON file each.

    A file is written aside and renamed, so a search that is killed leaves every entry whole. What is read is
    evaluated anew: a damaged or foreign entry counts as none.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        """`folder` is made when first written; by default `searches` beside the compiled kernels."""
        self.folder = Path(folder) if folder is not None else cache_folder().parent / "searches"

    def path(self, machine: AbstractMachine, problem: Problem, objective: str) -> Path:
        """Where the entry of a search lies, whether it is there or not."""
        text = f"{_VERSION}|{machine.digest()}|{problem.key()}|{objective}"
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def load(self, machine: AbstractMachine, problem: Problem, objective: str) -> Found | None:
        """The certified result of an earlier search, None where there is none that can be used."""
        path = self.path(machine, problem, objective)
        try:
            with path.open("rb") as file:
                entry: Any = json.loads(file.read(1 << 20))
            nest = LoopNest(
                tiles=tuple(tuple(int(n) for n in row) for row in entry["tiles"]),
                spatial=tuple(tuple(int(n) for n in row) for row in entry["spatial"]),
                orders=tuple(tuple(str(d) for d in row) for row in entry["orders"]),
            )
            evaluation = evaluate(machine, problem, nest)
            found = Found(
                mapping=nest,
                evaluation=evaluation,
                objective=objective,
                evaluated=int(entry["evaluated"]),
                partial=int(entry["partial"]),
                optimal=True,
                bound=float(entry["bound"]),
                seconds=0.0,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return None
        same = math.isclose(found.objective_value, found.bound, rel_tol=1e-9)
        return found if same else None

    def save(self, machine: AbstractMachine, problem: Problem, found: Found) -> None:
        """Nothing; keeps a certified result. A folder that can't be written is passed over."""
        if not found.optimal:
            return
        entry = {
            "tiles": found.mapping.tiles,
            "spatial": found.mapping.spatial,
            "orders": found.mapping.orders,
            "evaluated": found.evaluated,
            "partial": found.partial,
            "bound": found.objective_value,
        }
        path = self.path(machine, problem, found.objective)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=self.folder, suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(entry, file)
                Path(aside).replace(path)
            except OSError:
                Path(aside).unlink(missing_ok=True)
                raise


def _one(task: tuple[AbstractMachine, Problem, str, float]) -> Found:
    machine, problem, objective, limit = task
    return search(machine, problem, objective=objective, time_limit_s=limit)


def search_layers(
    machine: AbstractMachine,
    problems: Sequence[Problem],
    *,
    objective: str = "energy",
    time_limit_s: float = math.inf,
    workers: int = 1,
    cache: SearchCache | None = None,
) -> list[Found]:
    """The best nest of each layer, in order; layers that are alike are searched once.

    Args:
        machine: for all layers.
        problems: the layers.
        objective: as `search` takes it.
        time_limit_s: of each layer.
        workers: processes that search at the same time.
        cache: where certified results are kept and looked for; None: nowhere.

    Raises:
        MappingError: a layer has no legal nest; names it.
        ValueError: as `search`, or no worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    found: dict[str, Found] = {}
    todo: dict[str, Problem] = {}
    for problem in problems:
        key = problem.key()
        if key in found or key in todo:
            continue
        hit = cache.load(machine, problem, objective) if cache is not None else None
        if hit is not None:
            found[key] = hit
        else:
            todo[key] = problem
    tasks = [(machine, problem, objective, time_limit_s) for problem in todo.values()]
    if workers > 1 and len(tasks) > 1:
        with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
            results = list(pool.map(_one, tasks))
    else:
        results = [_one(task) for task in tasks]
    for (key, problem), result in zip(todo.items(), results, strict=True):
        found[key] = result
        if cache is not None:
            cache.save(machine, problem, result)
    return [
        replace(best, evaluation=replace(best.evaluation, layer=problem.name))
        for problem in problems
        for best in (found[problem.key()],)
    ]

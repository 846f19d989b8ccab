"""Many layers at once, and results kept on disk."""

import math
import random
from pathlib import Path

import pytest
import stepped_nest
from bitwright.mapper.optimum import Found, search
from bitwright.mapper.problem import Problem
from bitwright.mapper.search_cache import SearchCache, search_layers


def _machine() -> stepped_nest.AbstractMachine:
    return stepped_nest.random_machine(random.Random(1), levels=3)


LAYER = Problem(name="one", K=4, C=4, OY=5)


def test_layers_that_are_alike_are_searched_once_and_keep_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def counted(machine: object, problem: Problem, **rest: object) -> Found:
        asked.append(problem.name)
        return search(machine, problem, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr("bitwright.mapper.search_cache.search", counted)
    same = Problem(name="two", K=4, C=4, OY=5)
    other = Problem(name="three", K=4, C=2, OY=5)
    found = search_layers(_machine(), [LAYER, same, other])
    assert asked == ["one", "three"]
    assert [best.evaluation.layer for best in found] == ["one", "two", "three"]
    assert found[0].mapping == found[1].mapping


def test_a_certified_result_is_found_again(tmp_path: Path) -> None:
    cache, machine = SearchCache(tmp_path), _machine()
    first = search_layers(machine, [LAYER], cache=cache)[0]
    again = cache.load(machine, LAYER, "energy")
    assert again is not None
    assert (again.mapping, again.evaluation.energy_pj) == (first.mapping, first.evaluation.energy_pj)
    assert again.optimal
    # Another objective, layer or machine is another search.
    assert cache.load(machine, LAYER, "edp") is None
    assert cache.load(machine, Problem(name="one", K=4, C=4, OY=6), "energy") is None
    assert cache.load(stepped_nest.random_machine(random.Random(2), levels=3), LAYER, "energy") is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "nul", '{"tiles": 3}', "\x00" * 50, "[" * 100_000])
def test_a_damaged_entry_counts_as_none_and_is_replaced(tmp_path: Path, damage: str) -> None:
    cache, machine = SearchCache(tmp_path), _machine()
    first = search_layers(machine, [LAYER], cache=cache)[0]
    path = cache.path(machine, LAYER, "energy")
    path.write_text(damage)
    assert cache.load(machine, LAYER, "energy") is None
    again = search_layers(machine, [LAYER], cache=cache)[0]
    assert again.objective_value == first.objective_value
    assert cache.load(machine, LAYER, "energy") is not None


def test_an_entry_whose_nest_costs_something_else_counts_as_none(tmp_path: Path) -> None:
    cache, machine = SearchCache(tmp_path), _machine()
    search_layers(machine, [LAYER], cache=cache)
    path = cache.path(machine, LAYER, "energy")
    text = path.read_text()
    bound = text.rpartition('"bound": ')[2].rstrip("}")
    path.write_text(text.replace(bound, str(float(bound) * 2)))
    assert cache.load(machine, LAYER, "energy") is None


def test_a_search_that_was_killed_leaves_its_entries_usable(tmp_path: Path) -> None:
    # What a kill leaves: files written aside, not yet renamed.
    cache, machine = SearchCache(tmp_path), _machine()
    search_layers(machine, [LAYER], cache=cache)
    (tmp_path / "tmpabc.part").write_text('{"tiles": [[1')
    assert cache.load(machine, LAYER, "energy") is not None


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = search_layers(_machine(), [LAYER], cache=SearchCache(tmp_path / "file" / "below"))
    assert found[0].optimal


def test_results_that_are_not_certified_are_not_kept(tmp_path: Path) -> None:
    import dataclasses

    cache, machine = SearchCache(tmp_path), _machine()
    found = dataclasses.replace(search(machine, LAYER), optimal=False, bound=0.0)
    cache.save(machine, LAYER, found)
    assert list(tmp_path.iterdir()) == []
    assert math.isfinite(found.objective_value)


@pytest.mark.slow
def test_workers_find_what_one_process_finds() -> None:
    layers = [LAYER, Problem(name="two", K=3, C=4, OY=5)]
    alone = search_layers(_machine(), layers)
    many = search_layers(_machine(), layers, workers=2)
    assert [best.objective_value for best in many] == [best.objective_value for best in alone]


def test_no_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        search_layers(_machine(), [LAYER], workers=0)

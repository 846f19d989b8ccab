"""Sharing trees of binary filters: least of all trees, and their sums are the filters' own."""

import itertools

import numpy as np
import pytest
from bitwright.models.compress.associative_sharing import SharingTree, sharing_tree
from bitwright.models.compress.sketching import refined_sketch, sketch_additions


def _filters(seed: int, n: int, t: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), size=(n, t))


def _sums_along(tree: SharingTree, filters: np.ndarray, x: np.ndarray) -> tuple[list[int], int]:
    """Every filter's sum over x, each from its parent's, and the additions that were done."""
    sums, done = [0] * len(filters), 0
    for i in tree.order:
        parent = tree.parents[i]
        if parent < 0:
            terms = [int(w) * int(v) for w, v in zip(filters[i], x, strict=True)]
            sums[i] = terms[0]
            for term in terms[1:]:
                sums[i] += term
                done += 1
            continue
        sums[i] = int(tree.signs[i]) * sums[parent]
        for w, before, v in zip(filters[i], filters[parent], x, strict=True):
            if w != tree.signs[i] * before:
                sums[i] += 2 * int(w) * int(v)
                done += 1
    return sums, done


@pytest.mark.parametrize("seed", range(5))
def test_sums_along_the_tree_are_the_filters_own_at_the_additions_told(seed: int) -> None:
    filters = _filters(seed, 12, 20)
    filters[5] = -filters[2]  # a negative is free
    x = np.random.default_rng(seed).integers(-128, 128, 20)
    tree = sharing_tree(filters)
    sums, done = _sums_along(tree, filters, x)
    assert sums == (filters.astype(int) @ x).tolist()
    assert done == tree.additions < tree.plain == 12 * 19


def _trees(n: int):
    """Every tree of n nodes, as lists of edges, by Prüfer's sequences."""
    for code in itertools.product(range(n), repeat=n - 2):
        degree = [1 + code.count(i) for i in range(n)]
        edges = []
        for i in code:
            leaf = degree.index(1)
            edges.append((leaf, i))
            degree[leaf] -= 1
            degree[i] -= 1
        edges.append(tuple(i for i in range(n) if degree[i] == 1))
        yield edges


@pytest.mark.parametrize("seed", range(4))
def test_no_other_tree_has_fewer_additions(seed: int) -> None:
    filters = _filters(seed, 6, 9)

    def cost(a: int, b: int) -> int:
        differ = int((filters[a] != filters[b]).sum())
        return min(differ, 9 - differ)

    least = min(sum(cost(a, b) for a, b in edges) for edges in _trees(6))
    assert sharing_tree(filters).additions == 8 + least


def test_a_groups_filters_share_with_their_own_alone() -> None:
    weights = np.random.default_rng(3).standard_normal((8, 4, 3, 3)).astype(np.float32)
    weights[4:] = weights[:4]
    code = refined_sketch(weights, 2)
    plain, shared = sketch_additions(code)
    apart, apart_shared = sketch_additions(code, groups=2)
    assert plain == apart == 16 * 35
    # The second half is the first again: free in one tree, paid twice in two.
    half = sharing_tree(code.planes[:, :4].reshape(8, 36)).additions
    assert (shared, apart_shared) == (half, 2 * half)


def test_values_other_than_signs_are_refused() -> None:
    with pytest.raises(ValueError, match="filters must be ±1"):
        sharing_tree(np.zeros((2, 3), np.int8))

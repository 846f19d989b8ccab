"""Charts as inline SVG: they take the page's text colour, so light, dark and print all read.

matplotlib is imported on the first call. Every function takes plain numbers and returns one `<svg>`
element with a title for screen readers, no fonts embedded and no outside references.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PALETTE",
    "Point",
    "bars",
    "histograms",
    "pareto",
    "pareto_front",
    "roofline",
    "stacked_areas",
    "stacked_bars",
    "timeline",
]

PALETTE = (
    "#3b82c4",
    "#e08a2e",
    "#3a9d6b",
    "#c8524f",
    "#8a6fc0",
    "#a8763e",
    "#cf6fa5",
    "#6f8089",
    "#b0a52f",
    "#2fa3ad",
)
"""Mid-tones: each has enough contrast on white and on near-black."""

_INK = "#0102fd"
"""Stands for the page's text colour while matplotlib draws."""
_WIDTH_INCHES = 8.6


def _start(height: float) -> tuple[Figure, Axes]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.linewidth": 0.6}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        axes = figure.add_subplot()
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_INK)
    axes.tick_params(colors=_INK, length=0, labelsize=9)
    axes.tick_params(axis="x", length=3)
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(
            stream,
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z.]+_\d+"', "", text)  # the same in every chart, referred to by none
    text = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "system-ui, sans-serif", text)
    text = text.replace(_INK, "currentColor")
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    head, _, rest = text.partition(">")
    label = escape(title, quote=True)
    return f'{head} role="img" aria-label="{label}"><title>{escape(title)}</title>{rest}'.strip()


def _thousands(value: float, _position: Any = None) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {suffix}"
    return f"{value:.3g}"


def bars(title: str, values: Mapping[str, float], label: Callable[[float], str]) -> str:
    """One horizontal bar a name, longest first, `label` of its value beside it, as SVG."""
    rows = sorted(values.items(), key=lambda row: -row[1])
    figure, axes = _start(0.5 + 0.27 * max(1, len(rows)))
    total = sum(values.values()) or 1.0
    top = max(values.values(), default=0) or 1.0
    names = [name for name, _ in rows]
    axes.barh(names, [value for _, value in rows], color=PALETTE[0], height=0.68)
    for place, (_, value) in enumerate(rows):
        note = f"{label(value)} · {value / total:.1%}"
        axes.text(value + top * 0.008, place, note, va="center", color=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, top * 1.2)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return _svg(figure, title)


def stacked_bars(
    title: str,
    rows: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    unit: str,
    colors: Mapping[str, str] | None = None,
) -> str:
    """One horizontal bar a row, made of `parts` (a name and one value a row each), as SVG.

    Parts that are zero in every row are left out of the chart and its legend.
    """
    shown = {name: values for name, values in parts.items() if any(values)}
    figure, axes = _start(0.95 + 0.27 * max(1, len(rows)))
    left = [0.0] * len(rows)
    places = range(len(rows))
    chosen = colors or {}
    for number, (name, values) in enumerate(shown.items()):
        color = chosen.get(name, PALETTE[number % len(PALETTE)])
        axes.barh(places, values, left=left, color=color, height=0.7, label=name)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.set_yticks(list(places), [row.replace("$", r"\$") for row in rows])  # no mathematics in names
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(_thousands)
    axes.set_xlabel(unit, color=_INK)
    axes.margins(y=0.01)
    if shown:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=min(8, len(shown)),
            frameon=False,
            labelcolor=_INK,
            handlelength=1,
            handleheight=1,
            columnspacing=1.2,
            borderaxespad=0,
        )
    return _svg(figure, title)


def timeline(
    title: str,
    units: Mapping[str, Sequence[tuple[int, int, int]]],
    layers: Sequence[str],
    cycles: int,
) -> str:
    """When each unit worked, one lane a unit and one colour a layer, as SVG.

    Args:
        title: what the chart shows.
        units: for each unit its spans (start cycle, end cycle, layer number).
        layers: names of the layers, for the legend.
        cycles: length of the axis.
    """
    figure, axes = _start(0.95 + 0.42 * len(units) + 0.2 * (max(0, len(layers) - 1) // 8))
    thinnest = cycles / 900  # a pixel or so: what is shorter would fade away
    for place, spans in enumerate(units.values()):
        by_layer: dict[int, list[tuple[int, float]]] = {}
        for start, end, layer in spans:
            by_layer.setdefault(layer, []).append((start, max(thinnest, end - start)))
        for layer, pieces in by_layer.items():
            color = PALETTE[layer % len(PALETTE)]
            axes.broken_barh(pieces, (place - 0.36, 0.72), facecolors=color, linewidth=0)
    for number, name in enumerate(layers):
        axes.broken_barh([], (0, 0), facecolors=PALETTE[number % len(PALETTE)], label=name)
    axes.set_yticks(range(len(units)), list(units))
    axes.set_ylim(len(units) - 0.5, -0.5)
    axes.set_xlim(0, max(1, cycles))
    axes.xaxis.set_major_formatter(_thousands)
    axes.set_xlabel("cycle", color=_INK)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=min(8, max(1, len(layers))),
        frameon=False,
        labelcolor=_INK,
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
        borderaxespad=0,
    )
    return _svg(figure, title)


def histograms(title: str, parts: Mapping[str, tuple[Sequence[float], Sequence[int]]]) -> str:
    """A small histogram a name, from (levels in ascending order, counts), four in a row, as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(4, max(1, len(parts)))
    rows = -(-len(parts) // columns)
    with rc_context({"font.size": 8, "axes.linewidth": 0.6}):
        figure = Figure(figsize=(_WIDTH_INCHES, 1.3 * rows), layout="constrained")
    figure.patch.set_visible(False)
    for place, (name, (levels, counts)) in enumerate(parts.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.patch.set_visible(False)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_INK)
        width = min((b - a for a, b in pairwise(levels)), default=1.0)
        axes.bar(levels, [count / (sum(counts) or 1) for count in counts], width=width, color=PALETTE[0])
        axes.set_title(
            name if len(name) <= 28 else f"…{name[-27:]}", fontsize=8, color=_INK, parse_math=False
        )
        axes.tick_params(colors=_INK, length=2, labelsize=7)
        axes.yaxis.set_visible(False)
        axes.locator_params(axis="x", nbins=3)
    return _svg(figure, title)


def stacked_areas(
    title: str, parts: Mapping[str, Sequence[float]], edges: Sequence[float], axis: str, unit: str
) -> str:
    """Values over a time, one area a name on top of another, as SVG; those that are always 0 are left out.

    Args:
        title: what the chart shows.
        parts: a value for each stretch of time.
        edges: where the stretches begin, and where the last one ends.
        axis, unit: what time and values are counted in.
    """
    shown = {name: values for name, values in parts.items() if any(values)}
    figure, axes = _start(2.3)
    below = [0.0] * (len(edges) - 1)
    for number, (name, values) in enumerate(shown.items()):
        above = [low + value for low, value in zip(below, values, strict=True)]
        axes.fill_between(
            list(edges),
            [*below, below[-1]],
            [*above, above[-1]],
            step="post",
            color=PALETTE[number % len(PALETTE)],
            linewidth=0,
            label=name,
        )
        below = above
    axes.set_xlim(edges[0], max(edges[0] + 1, edges[-1]))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(_thousands)
    axes.set_xlabel(axis, color=_INK)
    axes.set_ylabel(unit, color=_INK)
    if shown:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(6, len(shown)), frameon=False,
            labelcolor=_INK, handlelength=1, handleheight=1, columnspacing=1.2, borderaxespad=0,
        )  # fmt: skip
    return _svg(figure, title)


def roofline(
    title: str, layers: Sequence[tuple[str, float, float]], roofs: Sequence[float], slope: float
) -> str:
    """Layers by intensity and rate under their roofs, both axes logarithmic, as SVG.

    Args:
        title: what the chart shows.
        layers: name, MACs a byte, MACs a cycle; at least one.
        roofs: MACs a cycle that the array reaches at most, one for each PE kind.
        slope: bytes a cycle that the memory gives at most.
    """
    from matplotlib.ticker import NullFormatter

    figure, axes = _start(3.6)
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color(_INK)
    bends = [roof / slope for roof in roofs]
    low = min(*(x for _, x, _ in layers), *bends) / 2
    high = max(*(x for _, x, _ in layers), *bends) * 4
    for roof, bend in zip(roofs, bends, strict=True):
        axes.plot([low, bend, high], [low * slope, roof, roof], color=_INK, linewidth=0.8, alpha=0.6)
        axes.annotate(
            f"{_thousands(roof)} MACs a cycle", (high, roof), textcoords="offset points", xytext=(0, 3),
            ha="right", color=_INK, fontsize=8,
        )  # fmt: skip
    for number, (name, x, y) in enumerate(layers):
        axes.scatter([x], [y], color=PALETTE[number % len(PALETTE)], s=26, zorder=3)
        label = name.replace("$", r"\$")  # no mathematics in names
        axes.annotate(label, (x, y), textcoords="offset points", xytext=(5, -9), color=_INK, fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(_thousands)
    axes.yaxis.set_major_formatter(_thousands)
    bottom, top = axes.get_ylim()
    axes.yaxis.set_minor_formatter(_thousands if top < 10 * bottom else NullFormatter())
    axes.set_xlabel("MACs a byte of the busier direction", color=_INK)
    axes.set_ylabel("MACs a cycle", color=_INK)
    return _svg(figure, title)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a Pareto plot: less `cost` and more `merit` are better; `series` gives its colour."""

    name: str
    series: str
    cost: float
    merit: float


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in cost without losing merit, or the reverse; by cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.merit)):
        if not front or point.merit > front[-1].merit:
            front.append(point)
    return front


def pareto(title: str, points: Sequence[Point], cost: str, merit: str, label: Callable[[float], str]) -> str:
    """Points by cost and merit with the front that no point beats, as SVG.

    Args:
        title: what the chart shows.
        points: at least one.
        cost, merit: the axes' names.
        label: how a cost is written.
    """
    figure, axes = _start(3.4)
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color(_INK)
    front = pareto_front(points)
    axes.step(
        [p.cost for p in front], [p.merit for p in front], where="post", color=_INK, linewidth=0.8, alpha=0.6
    )
    series = list(dict.fromkeys(point.series for point in points))
    for number, name in enumerate(series):
        mine = [point for point in points if point.series == name]
        axes.scatter(
            [p.cost for p in mine], [p.merit for p in mine], color=PALETTE[number], s=28, label=name, zorder=3
        )
    for point in points:
        # Series tend to lie close together, so their names stand on different sides.
        first = point.series == series[0]
        axes.annotate(
            point.name,
            (point.cost, point.merit),
            textcoords="offset points",
            xytext=(5, 4) if first else (-5, -10),
            ha="left" if first else "right",
            color=_INK,
            fontsize=8,
        )
    axes.set_xlim(left=0, right=max(point.cost for point in points) * 1.2)
    axes.margins(y=0.15)
    axes.xaxis.set_major_formatter(lambda value, _: label(value))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axes.set_xlabel(cost, color=_INK)
    axes.set_ylabel(merit, color=_INK)
    if len(series) > 1:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(6, len(series)), frameon=False,
            labelcolor=_INK, handlelength=1, borderaxespad=0,
        )  # fmt: skip
    return _svg(figure, title)

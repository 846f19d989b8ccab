from xml.etree import ElementTree

import pytest
from bitwright.reports import figures
from bitwright.reports.units import energy

CHARTS = {
    "bars": lambda: figures.bars("Energy <by> part", {"DRAM": 12e6, "MAC & add": 0.0}, energy),
    "stacked": lambda: figures.stacked_bars(
        "Cycles", ["conv1", "conv2"], {"working": [10, 20], "weights": [1, 0], "x": [0, 0]}, "cycles"
    ),
    "timeline": lambda: figures.timeline(
        "Timeline", {"LOAD": [(0, 5, 0), (5, 9, 1)], "STORE": []}, ["conv1", "conv2"], 10
    ),
}
POINTS = [
    figures.Point(name="slow", series="a", cost=9.0, merit=0.99),
    figures.Point(name="beaten", series="a", cost=5.0, merit=0.90),
    figures.Point(name="fast", series="b", cost=1.0, merit=0.90),
    figures.Point(name="worse", series="b", cost=1.0, merit=0.80),
]
CHARTS["areas"] = lambda: figures.stacked_areas(
    "Over time", {"weights": [1, 2], "x": [0, 0]}, [0, 5, 10], "cycle", "bytes"
)
CHARTS["roofline"] = lambda: figures.roofline(
    "Roofline", [("conv1", 9.0, 3.0), ("fc", 0.5, 1.0)], [4, 16], 2.0
)
CHARTS["pareto"] = lambda: figures.pareto("Accuracy", POINTS, "time", "accuracy", str)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_one_svg_that_refers_to_nothing_outside(name: str) -> None:
    text = CHARTS[name]()
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert "href=" not in text.replace('href="#', "")
    assert "url(http" not in text
    assert "currentColor" in text


def test_charts_come_out_alike_each_time() -> None:
    assert CHARTS["stacked"]() == CHARTS["stacked"]()


def test_a_part_that_is_zero_everywhere_is_not_in_the_legend() -> None:
    words = [node.text for node in ElementTree.fromstring(CHARTS["stacked"]()).iter(f"{SVG}text")]
    assert "weights" in words
    assert "x" not in words


def test_a_title_is_escaped() -> None:
    assert "<title>Energy &lt;by&gt; part</title>" in CHARTS["bars"]()


def test_a_pareto_front_has_no_point_that_another_beats() -> None:
    front = figures.pareto_front(POINTS)
    assert [point.name for point in front] == ["fast", "slow"]

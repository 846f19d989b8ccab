import copy
from html.parser import HTMLParser
from typing import Any

import pytest
from bitwright.reports.report import build_page, clock_of, render_report

SIMULATE: dict[str, Any] = {
    "kind": "result",
    "network": "net",
    "machine": "core",
    "machine_digest": "m1",
    "fidelity": "rtl-exact",
    "clock_hz": 100e6,
    "node_nm": 45,
    "energy_title": "event energy at 45 nm",
    "total": {
        "cycles": 2000,
        "energy_pj": 30.0,
        "dram_read_bytes": 300,
        "dram_write_bytes": 100,
        "utilization": 0.5,
    },
    "layers": [
        {
            "name": "conv1",
            "cycles": 2000,
            "busy_cycles": 1700,
            "stall_cycles": {"weights": 300},
            "macs": 10,
            "utilization": 0.5,
            "read_bytes": 300,
            "write_bytes": 100,
            "energy_pj": 30.0,
        }
    ],
    "traffic": {"weights": {"read": 300, "write": 0}, "outputs": {"read": 0, "write": 100}},
    "energy_pj": {"DRAM": 20.0, "MACs": 10.0},
    "energy_rows": [
        {
            "component": "add",
            "item": "int8 add",
            "value_pj": 0.03,
            "per": "op",
            "status": "published",
            "source": "H 2014",
        }
    ],
    "spans": {"load": [[0, 500, 0]], "exec": [[400, 1900, 0]], "store": [[1900, 2000, 0]]},
    "bandwidth": {"edges": [0, 1000, 2000], "bytes": {"weights": [80.0, 0.0], "outputs": [0.0, 40.0]}},
    "roofline": {
        "bytes_per_cycle": 8.0,
        "layers": [
            {"name": "conv1", "macs_per_byte": 20.0, "macs_per_cycle": 9.0, "peak_macs_per_cycle": 16.0}
        ],
    },
}
VERIFY: dict[str, Any] = {
    "kind": "verify",
    "agrees": True,
    "cases": 4,
    "mismatches": 0,
    "cycle_difference": 0,
    "byte_difference": 0,
    "rtl_cycles": 8000,
    "model_cycles": 8000,
    "rtl_bytes": 1600,
    "model_bytes": 1600,
    "failures": [],
}
COST: dict[str, Any] = {
    "kind": "cost",
    "machine": "core",
    "machine_digest": "m1",
    "target": "ecp5-45k",
    "lut": 9000,
    "ff": 4000,
    "dsp": 20,
    "bram": 30,
    "fmax_mhz": 80.0,
    "placed_mhz": 75.0,
    "text": "fits",
    "resources": {name: {"used": 20, "available": 72} for name in ("lut", "ff", "dsp", "bram")},
    "placed": None,
    "clock": "nextpnr, out of context",
    "modules": {
        "array": {"lut": 5000, "ff": 2500, "dsp": 20, "bram": 0, "lutram": 600},
        "array.pe": {"lut": 4000, "ff": 2000, "dsp": 20, "bram": 0, "lutram": 600},
        "post": {"lut": 4000, "ff": 1500, "dsp": 0, "bram": 30, "lutram": None},
    },
    "attribution": "by name",
}


class Reader(HTMLParser):
    """Collects text and everything that a browser would fetch; checks that tags close."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [
            value or "" for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_a_page_is_well_formed_and_fetches_nothing() -> None:
    html = render_report([SIMULATE, VERIFY, COST])
    assert read(html).fetched == []
    assert "@import" not in html
    assert "http" not in html.replace("http://www.w3.org/", "")


def test_a_page_states_the_verdict_first() -> None:
    page = build_page([SIMULATE, VERIFY])
    assert page.verdict == {
        "good": True,
        "text": "Verified: bits, cycles and bytes are equal in model and RTL, 4 runs.",
    }


def test_a_difference_turns_the_verdict() -> None:
    wrong = {**VERIFY, "agrees": False, "cycle_difference": 7, "failures": ["seed 3: 7 cycles"]}
    page = build_page([SIMULATE, VERIFY, wrong])
    assert page.verdict is not None
    assert not page.verdict["good"]
    assert "cycles differ by up to 7" in page.verdict["text"]


def test_a_run_beside_a_framework_has_its_verdict_and_its_values() -> None:
    row = {
        "value": "fc",
        "values": 40,
        "values_differing": 3,
        "largest_difference": 1.0,
        "images_differing": 2,
    }
    value = {
        "kind": "against",
        "agrees": False,
        "network": "net",
        "framework": "litert",
        "cases": 4,
        "values": [
            {**row, "agrees": False},
            {"value": "y", "reason": "shape (1, 2), theirs (2, 1)", "agrees": False},
        ],
        "failures": ["fc: 3 of 40 values differ, by at most 1"],
    }
    text = render_report([value])
    assert "net differs from litert." in text
    for words in ("3 of 40", "shape (1, 2), theirs (2, 1)", "fc: 3 of 40 values differ, by at most 1"):
        assert words in text
    assert "net agrees with litert." in render_report([{**value, "agrees": True}])


def test_without_a_check_nothing_is_called_verified() -> None:
    assert build_page([SIMULATE]).verdict is None


def test_time_uses_the_lower_of_clock_and_placed_fmax() -> None:
    assert clock_of(SIMULATE, [COST])[0] == 80e6
    assert clock_of(SIMULATE, [{**COST, "fmax_mhz": 150.0}])[0] == 100e6
    assert clock_of(SIMULATE, [{**COST, "machine_digest": "another"}])[0] == 100e6
    # 2000 cycles at 80 MHz
    facts = {fact["label"]: fact["value"] for fact in build_page([SIMULATE, COST]).facts}
    assert facts["Time an image"].replace("\N{NO-BREAK SPACE}", " ") == "25 µs"


def test_energy_is_titled_as_events_and_not_fpga_power() -> None:
    text = " ".join(read(render_report([SIMULATE])).words)
    assert "Event energy at 45 nm, counted events × table; not FPGA power" in text


def test_names_are_escaped() -> None:
    value = copy.deepcopy(SIMULATE)
    value["network"] = "<script>alert(1)</script>"
    html = render_report([value])
    assert "<script" not in html
    read(html)


def test_a_result_of_another_version_names_what_it_lacks() -> None:
    value = {key: item for key, item in SIMULATE.items() if key != "traffic"}
    with pytest.raises(ValueError, match="result 1: it lacks 'traffic'"):
        build_page([value])


@pytest.mark.parametrize(
    ("key", "wrong"), [("traffic", None), ("clock_hz", "x"), ("spans", {"load": [[1]]}), ("total", [])]
)
def test_a_result_with_a_wrong_value_is_named_by_its_file(key: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"b\.json: it has a wrong value"):
        build_page([SIMULATE, {**SIMULATE, key: wrong}], ["a.json", "b.json"])


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one result"):
        build_page([])

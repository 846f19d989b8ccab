import pytest
from bitwright.reports.timeline import merge_spans, trace_events


def test_neighbours_of_one_layer_within_the_gap_become_one_span() -> None:
    spans = [(30, 40, 0), (0, 10, 0), (12, 20, 0)]
    assert merge_spans(spans, gap=2) == [(0, 20, 0), (30, 40, 0)]


def test_spans_of_different_layers_stay_apart() -> None:
    assert merge_spans([(0, 10, 0), (10, 20, 1)], gap=100) == [(0, 10, 0), (10, 20, 1)]


def test_a_span_within_another_does_not_shorten_it() -> None:
    assert merge_spans([(0, 50, 0), (10, 20, 0)], gap=0) == [(0, 50, 0)]


def test_a_negative_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="gap must be 0 or more cycles, not -1"):
        merge_spans([], gap=-1)


def test_a_traces_times_are_microseconds() -> None:
    trace = trace_events({"LOAD": [(100, 150, 0, "LOAD")]}, ["conv1"], clock_hz=100e6)
    (event,) = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert (event["ts"], event["dur"]) == pytest.approx((1.0, 0.5))  # 100 and 50 cycles of 10 ns
    assert (event["name"], event["cat"]) == ("LOAD", "conv1")


def test_bytes_over_time_are_a_counter_of_the_trace() -> None:
    trace = trace_events({}, [], 100e6, [(0.0, {"weights": 8.0}), (50.0, {"weights": 0.5})])
    counters = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    assert [event["ts"] for event in counters] == pytest.approx([0.0, 0.5])
    assert [event["args"] for event in counters] == [{"weights": 8.0}, {"weights": 0.5}]

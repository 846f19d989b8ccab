import pytest
from bitwright.mapper.machine_file import load_machine
from bitwright.models.zoo import resnet8_stack
from bitwright.reports.roofline import roofline
from bitwright.reports.simulation import simulate_network


def test_layers_lie_under_the_array_s_roof_and_the_run_under_memory_s() -> None:
    machine = load_machine("core-large")
    _, result, _ = simulate_network(resnet8_stack(), machine)
    lines = roofline(result, machine)
    assert lines["bytes_per_cycle"] == 16.0  # a beat of 128 bits a cycle
    multiplying = [layer for layer in result.layers if layer.macs]
    assert [layer["name"] for layer in lines["layers"]] == [layer.name for layer in multiplying]
    for layer, simulated in zip(lines["layers"], multiplying, strict=True):
        assert layer["peak_macs_per_cycle"] == pytest.approx(512)  # 16 rows, 4 columns, 8 int8 lanes
        assert layer["macs_per_byte"] == simulated.macs / max(simulated.read_bytes, simulated.write_bytes)
        assert layer["macs_per_cycle"] == pytest.approx(512 * simulated.utilization)
        assert layer["macs_per_cycle"] <= 512
    # A layer may be loaded while the one before computes, so that memory's roof holds for the whole.
    assert result.macs / result.cycles <= 16 * result.macs / max(result.read_bytes, result.write_bytes)

"""Weight steps that are all zero, on a machine without step lists: the run says what would leave them out."""

import json
from pathlib import Path

import pytest
from bitwright.models.zoo import random_network
from bitwright.models.zoo_blocks import with_zero_blocks
from bitwright.reports.cli import main


def test_a_run_names_the_setting_that_leaves_zero_steps_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_zero_blocks(random_network(3, max_channels=64), 3).save(tmp_path / "blocks.bw")
    call = ["simulate", str(tmp_path / "blocks.bw"), "--machine", "core-medium"]
    assert main(call) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert main([*call, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    named = before["steps_to_leave_out"]
    setting = f"buffers.step_entries={named['step_entries']}"
    assert f"{named['layers'][0]}" in printed and f"--set {setting} leaves them out" in printed

    assert main([*call, "--set", setting, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert "steps_to_leave_out" not in after
    assert after["total"]["dram_read_bytes"] < before["total"]["dram_read_bytes"]

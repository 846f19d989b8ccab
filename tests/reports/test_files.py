from pathlib import Path

import pytest
from bitwright.reports.files import read_result, write_json, write_text


def test_a_written_file_has_its_text_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "a.txt", "größer\n")
    assert path.read_text(encoding="utf-8") == "größer\n"
    assert [item.name for item in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")  # a lone surrogate has no UTF-8
    assert path.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_text(tmp_path, "text")


def test_a_result_reads_back(tmp_path: Path) -> None:
    value = {"kind": "cost", "lut": 3}
    assert read_result(write_json(tmp_path / "cost.json", value)) == value


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not a JSON file"),
        ("[]", "not a result"),
        ('{"kind": "x"}', "kind"),
        ("[" * 100_000, "nested too deeply"),
        ('{"kind": "result", "cycles": NaN}', "NaN is no JSON number"),
        ('{"kind": "result", "version": 2}', "result version 2, this release reads 1"),
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=fault) as caught:
        read_result(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)

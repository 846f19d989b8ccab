import pytest
from bitwright.reports import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.size(0), "0 B"),
        (units.size(1536), "1.5 KiB"),
        (units.size(3 << 20), "3 MiB"),
        (units.energy(2.5e6), "2.5 µJ"),
        (units.energy(12.25), "12.25 pJ"),
        (units.seconds(0.00025), "250 µs"),
        (units.rate(8e8), "800 MB/s"),
        (units.amount(1234567), "1 234 567"),
        (units.percent(0.9844), "98.4%"),
    ],
)
def test_a_number_takes_the_unit_that_suits_it(text: str, expected: str) -> None:
    assert text.replace("\N{NO-BREAK SPACE}", " ") == expected

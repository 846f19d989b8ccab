"""A DRAM part: what its data sheet says of it, one row a figure, and the constraints that follow."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dram_kernel import CONSTRAINTS

__all__ = ["Currents", "DramPart", "dram_part_names", "load_dram_part"]

PROTOCOLS = ("DDR3", "DDR4", "LPDDR", "LPDDR3", "LPDDR4", "HBM", "HBM2")
_HBM = ("HBM", "HBM2")
"""Their columns are of two transfers, and row and column commands have a bus each."""

ADDRESS_FIELDS = ("ch", "ra", "bg", "ba", "ro", "co")

_TRANSFERS_A_CYCLE = 2
_MIB = 1 << 20
_ADDRESS_BITS = 62
"""Byte addresses stay within a signed 64-bit number, with one more bit for sums."""


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Currents:
    """Supply voltage and the currents of one device, milliamperes, by their names in data sheets."""

    vdd: float
    idd0: float
    idd2n: float
    idd3n: float
    idd4r: float
    idd4w: float
    idd5ab: float
    assumed: bool = False
    """No data sheet has them."""

    def __post_init__(self) -> None:
        for name in ("vdd", "idd0", "idd2n", "idd3n", "idd4r", "idd4w", "idd5ab"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name.upper()} must be above 0, not {value}")
        for name in ("idd4r", "idd4w", "idd5ab"):
            if getattr(self, name) < self.idd3n:
                raise ValueError(
                    f"{name.upper()} must be at least IDD3N ({self.idd3n:g} mA), the standby that it "
                    f"comes on top of, not {getattr(self, name):g}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class DramPart:
    """One channel of a part. Times are in cycles of the part's clock, of which data take half a cycle.

    Fields are the data sheet's names in lower case; `tck` is in nanoseconds, `channel_size` in MiB,
    `device_width` and `bus_width` in bits. `columns` are as the protocol counts them: of device_width
    bits in DDR and LPDDR, of twice that in HBM.
    """

    name: str
    protocol: str
    bankgroups: int
    banks_per_group: int
    rows: int
    columns: int
    device_width: int
    bl: int
    tck: float
    cl: int
    cwl: int
    trcd: int
    trp: int
    tras: int
    trfc: int
    trefi: int
    trrd_s: int
    trrd_l: int
    twtr_s: int
    twtr_l: int
    tfaw: int
    twr: int
    trtp: int
    tccd_s: int
    tccd_l: int
    channel_size: int
    bus_width: int
    address_mapping: str
    al: int = 0
    trtrs: int = 1
    """Cycles between bursts of different ranks."""
    tppd: int = 0
    """Between precharges of different banks of a rank; 0 where the standard has none."""
    currents: Currents | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"{self.name}.protocol must be {', '.join(PROTOCOLS)}, not {self.protocol!r}")
        for key in ("bankgroups", "banks_per_group", "rows", "columns", "device_width", "bl", "bus_width"):
            if not _is_power_of_two(getattr(self, key)):
                raise ValueError(
                    f"{self.name}.{_shown(key)} must be a power of two, not {getattr(self, key)}"
                )
        if not 0.05 <= self.tck <= 100:
            raise ValueError(f"{self.name}.tCK must be from 0.05 to 100 (nanoseconds), not {self.tck:g}")
        self._check_times()
        if self.bus_width % self.device_width or self.bus_width < 8:
            raise ValueError(
                f"{self.name}.bus_width must be a multiple of device_width ({self.device_width}) and of "
                f"8 bits, not {self.bus_width}"
            )
        if self._columns < self.bl:
            raise ValueError(
                f"{self.name}.columns must hold one burst (BL {self.bl}) at least, not {self.columns}"
            )
        ranks, rest = divmod(self.channel_size * _MIB, self._rank_bytes)
        if rest or not _is_power_of_two(ranks) or self.channel_size * _MIB >> _ADDRESS_BITS:
            raise ValueError(
                f"{self.name}.channel_size must be a power of two of ranks of "
                f"{self._rank_bytes / _MIB:g} MiB and below 2^{_ADDRESS_BITS} bytes, "
                f"not {self.channel_size}"
            )
        self.field_positions()

    def _check_times(self) -> None:
        low = {"al": 0, "trtrs": 0, "tppd": 0}
        for key in _TIMES:
            value = getattr(self, key)
            if not low.get(key, 1) <= value <= 1 << 20:
                raise ValueError(
                    f"{self.name}.{_shown(key)} must be from {low.get(key, 1)} to {1 << 20} cycles, "
                    f"not {value}"
                )
        pairs = (
            ("tras", "trcd", "a row must stay open until its columns can be read"),
            ("trcd", "al", "a posted column command waits within tRCD"),
            ("trrd_l", "trrd_s", "the same bank group is never quicker"),
            ("tccd_l", "tccd_s", "the same bank group is never quicker"),
            ("twtr_l", "twtr_s", "the same bank group is never quicker"),
            ("tfaw", "trrd_s", "four activates take longer than one"),
            ("trefi", "trfc", "refreshes would leave no time for anything else"),
        )
        for key, least, why in pairs:
            if getattr(self, key) < getattr(self, least):
                raise ValueError(
                    f"{self.name}.{_shown(key)} must be at least {_shown(least)} "
                    f"({getattr(self, least)}), not {getattr(self, key)}: {why}"
                )
        if self.cl + self.burst_cycles + self.trtrs <= self.cwl:
            raise ValueError(f"{self.name}.CWL must be below CL + BL/2 + tRTRS, not {self.cwl}")

    @property
    def _columns(self) -> int:
        """Columns of device_width bits in a row."""
        return self.columns * (2 if self.protocol in _HBM else 1)

    @property
    def _rank_bytes(self) -> int:
        return self._columns * self.bus_width // 8 * self.rows * self.bankgroups * self.banks_per_group

    @property
    def ranks(self) -> int:
        """Ranks that make up the channel."""
        return self.channel_size * _MIB // self._rank_bytes

    @property
    def devices_per_rank(self) -> int:
        """Devices that share the bus's width."""
        return self.bus_width // self.device_width

    @property
    def burst_bytes(self) -> int:
        """Bytes of one access."""
        return self.bus_width // 8 * self.bl

    @property
    def row_bytes(self) -> int:
        """Bytes of one open row, over all devices of the rank."""
        return self._columns * self.bus_width // 8

    @property
    def burst_cycles(self) -> int:
        """Cycles that the data of one access take."""
        return self.bl // _TRANSFERS_A_CYCLE

    @property
    def read_delay(self) -> int:
        """Cycles from a READ to the end of its data."""
        return self.al + self.cl + self.burst_cycles

    @property
    def write_delay(self) -> int:
        """Cycles from a WRITE to the end of its data."""
        return self.al + self.cwl + self.burst_cycles

    def field_positions(self, mapping: str | None = None) -> dict[str, tuple[int, int]]:
        """Lowest bit and width of each of ADDRESS_FIELDS in a byte address.

        Args:
            mapping: the six fields from the highest bit down, as `rochrababgco`; the part's without.

        Raises:
            ValueError: `mapping` is no order of the six fields.
        """
        mapping = self.address_mapping if mapping is None else mapping
        names = [mapping[i : i + 2] for i in range(0, len(mapping), 2)]
        if sorted(names) != sorted(ADDRESS_FIELDS):
            raise ValueError(
                f"{self.name}.address_mapping must have each of {', '.join(ADDRESS_FIELDS)} once, highest "
                f"bits first, as rochrababgco, not {mapping!r}"
            )
        sizes = {
            "ch": 1,
            "ra": self.ranks,
            "bg": self.bankgroups,
            "ba": self.banks_per_group,
            "ro": self.rows,
            "co": self._columns // self.bl,
        }
        position = self.burst_bytes.bit_length() - 1
        found = {}
        for name in reversed(names):
            width = sizes[name].bit_length() - 1
            found[name] = (position, width)
            position += width
        return found

    def constraints(self, *, refresh: bool = True, closed_page: bool = False) -> NDArray[np.int64]:
        """The kernels' CONSTRAINTS, int64: least cycles from one command to another, and sizes.

        With one bank group the short times hold within it, too: the long ones are those of parts that
        group their banks.
        """
        burst, one_group = self.burst_cycles, self.bankgroups == 1
        turn = self.al + self.cl + burst + self.trtrs - (self.al + self.cwl)
        values = {
            "ranks": self.ranks,
            "groups": self.bankgroups,
            "banks": self.banks_per_group,
            "burst_bits": self.burst_bytes.bit_length() - 1,
            "act_to_act": self.tras + self.trp,
            "act_to_act_group": self.trrd_s if one_group else self.trrd_l,
            "act_to_act_rank": self.trrd_s,
            "four_acts": self.tfaw,
            "act_to_column": self.trcd - self.al,
            "act_to_pre": self.tras,
            "read_to_read_group": max(burst, self.tccd_s if one_group else self.tccd_l),
            "read_to_read_rank": max(burst, self.tccd_s),
            "read_to_read_other": burst + self.trtrs,
            "read_to_write": turn,
            "read_to_pre": self.al + self.trtp,
            "write_to_write_group": max(burst, self.tccd_s if one_group else self.tccd_l),
            "write_to_write_rank": max(burst, self.tccd_s),
            "write_to_write_other": burst + self.trtrs,
            "write_to_read_group": self.write_delay + (self.twtr_s if one_group else self.twtr_l),
            "write_to_read_rank": self.write_delay + self.twtr_s,
            "write_to_read_other": max(1, self.write_delay + burst + self.trtrs - self.read_delay),
            "write_to_pre": self.write_delay + self.twr,
            "pre_to_act": self.trp,
            "pre_to_pre": self.tppd,
            "refresh_to_act": self.trfc,
            "refresh_interval": self.trefi // self.ranks if refresh else 0,
            "read_delay": self.read_delay,
            "write_delay": self.write_delay,
            "closes": int(closed_page),
            "two_buses": int(self.protocol in _HBM),
        }
        return np.array([values[name] for name in CONSTRAINTS], np.int64)


_SHOWN = {
    "bl": "BL",
    "tck": "tCK",
    "al": "AL",
    "cl": "CL",
    "cwl": "CWL",
    "trcd": "tRCD",
    "trp": "tRP",
    "tras": "tRAS",
    "trfc": "tRFC",
    "trefi": "tREFI",
    "trrd_s": "tRRD_S",
    "trrd_l": "tRRD_L",
    "twtr_s": "tWTR_S",
    "twtr_l": "tWTR_L",
    "tfaw": "tFAW",
    "twr": "tWR",
    "trtp": "tRTP",
    "tccd_s": "tCCD_S",
    "tccd_l": "tCCD_L",
    "trtrs": "tRTRS",
    "tppd": "tPPD",
}
"""The data sheet's spelling of fields that are not simply lower case."""

_TIMES = tuple(key for key in _SHOWN if key not in ("bl", "tck"))
_WORDS = ("protocol", "address_mapping")
_CURRENTS = ("VDD", "IDD0", "IDD2N", "IDD3N", "IDD4R", "IDD4W", "IDD5AB")
_FIELDS = {
    **{key: key for key in ("protocol", "bankgroups", "banks_per_group", "rows", "columns", "device_width")},
    **{key: key for key in ("channel_size", "bus_width", "address_mapping")},
    **{shown: key for key, shown in _SHOWN.items()},
}
_OPTIONAL = ("AL", "tRTRS", "tPPD")


def _shown(key: str) -> str:
    return _SHOWN.get(key, key)


def _rows(path: Path | None) -> dict[str, list[dict[str, str]]]:
    """The file's rows by part; the file that ships without a path."""
    source = resources.files("bitwright.sim") / "dram_parts.csv" if path is None else path
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path}: a file of DRAM parts must be UTF-8 text ({fault})") from None
    parts: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        if not {"part", "parameter", "value"} <= row.keys():
            raise ValueError(f"{path}: a file of DRAM parts has columns part, parameter, value")
        parts.setdefault(row["part"], []).append(row)
    return parts


def dram_part_names(path: Path | None = None) -> list[str]:
    """Names of the parts of a file, of those that ship without one."""
    return sorted(_rows(path))


def load_dram_part(
    name: str, path: Path | None = None, *, changes: Mapping[str, object] | None = None
) -> DramPart:
    """The part `name` of a CSV file, of the one that ships without a path.

    Args:
        path: columns part, parameter, value; more (unit, status, source) are allowed.
        changes: values to take in the place of the file's, by their names in data sheets.

    Raises:
        ValueError: the part or a parameter is unknown or missing, or a value is impossible.
        OSError: the file can't be read.
    """
    parts = _rows(path)
    if name not in parts:
        raise ValueError(f"unknown DRAM part {name!r}; known: {', '.join(sorted(parts))}")
    rows = parts[name]
    given = {row["parameter"]: row["value"] for row in rows} | {
        key: str(value) for key, value in (changes or {}).items()
    }
    known = {*_FIELDS, *_CURRENTS}
    for key in given:
        if key not in known:
            raise ValueError(f"unknown parameter {name}.{key}; allowed: {', '.join(sorted(known))}")
    missing = [key for key in _FIELDS if key not in given and key not in _OPTIONAL]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    values: dict[str, Any] = {
        _FIELDS[key]: _value(name, key, text) for key, text in given.items() if key in _FIELDS
    }
    return DramPart(name=name, currents=_currents(name, given, rows), **values)


def _value(name: str, key: str, text: str) -> int | float | str:
    if key in _WORDS:
        return text
    try:
        return float(text) if key == "tCK" else int(text)
    except ValueError:
        kind = "a number" if key == "tCK" else "a whole number"
        raise ValueError(f"{name}.{key} must be {kind}, not {text!r}") from None


def _currents(name: str, given: Mapping[str, str], rows: Iterable[Mapping[str, str]]) -> Currents | None:
    """The part's currents; None if it has none at all."""
    present = [key for key in _CURRENTS if key in given]
    if not present:
        return None
    if len(present) < len(_CURRENTS):
        absent = ", ".join(key for key in _CURRENTS if key not in given)
        raise ValueError(f"{name} has some currents, but lacks {absent}")
    try:
        numbers = {key.lower(): float(given[key]) for key in _CURRENTS}
    except ValueError as fault:
        raise ValueError(f"{name}: VDD and currents must be numbers: {fault}") from None
    assumed = any(row.get("status") == "assumed" for row in rows if row["parameter"] in _CURRENTS)
    return Currents(assumed=assumed, **numbers)

"""Results as tables on a terminal: one table a kind of result, numbers to stdout."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console

from .compress_tables import show_compressed, show_methods
from .form_sections import FORM_HEADS, MACHINE_HEADS, clock_words, form_rows, machine_rows
from .range_sections import RANGE_HEADS, range_rows
from .report import clock_of
from .table import plain as _plain
from .table import table as _table
from .units import amount, energy, percent, seconds, size

__all__ = ["show"]

_PLAIN_WIDTH = 200
"""Columns where stdout is no terminal: a pipe or a file cuts no line."""


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_PLAIN_WIDTH)
    return console


def _shape(tensor: dict[str, Any]) -> str:
    return "×".join(str(n) for n in tensor["shape"])


def _info(value: dict[str, Any], console: Console) -> None:
    console.print(
        f"{_plain(value['network'])}: {amount(value['macs'])} multiply-accumulates, "
        f"{amount(value['parameters'])} parameters, {size(value['bytes'])} of weights and biases; "
        f"input {_shape(value['input'])} {value['input']['format']}"
    )
    shares = value["shares"]
    if value["macs"]:
        each = (
            f"{word} {percent(part['macs'])}, {percent(part['parameters'])}" for word, part in shares.items()
        )
        console.print(f"Shares of MACs and of parameters: {'; '.join(each)}")
    # Of what the host runs, only layers that count are listed; the others are named below the table.
    listed = [row for row in value["layers"] if row["runs"] == "core" or row["macs"] or row["parameters"]]
    console.print(
        _table(
            ("layer", "kind", "weights", "output", "", "runs on", "MACs", "parameters", "bytes"),
            (
                (
                    layer["name"],
                    layer["kind"],
                    layer["weights"] or "",
                    _shape(layer["output"]),
                    layer["output"]["format"],
                    layer["runs"],
                    amount(layer["macs"]),
                    amount(layer["parameters"]),
                    amount(layer["bytes"]),
                )
                for layer in listed
            ),
            text=(0, 1, 2, 3, 4, 5),
        )
    )
    others = Counter(
        row["kind"]
        for row in value["layers"]
        if row["runs"] == "host" and not (row["macs"] or row["parameters"])
    )
    if others:
        kinds = ", ".join(f"{_plain(kind)} {count}" for kind, count in others.most_common())
        console.print(f"Without MACs and parameters, on the host: {kinds}", soft_wrap=True)
    for reason in dict.fromkeys(row["reason"] for row in value["host"]):
        count = sum(row["reason"] == reason for row in value["host"])
        console.print(f"On the host ({_plain(reason)}): {amount(count)} operators", soft_wrap=True)
    if value.get("ranges"):
        _ranges(value["ranges"], console)


def _ranges(ranges: dict[str, Any], console: Console) -> None:
    console.print(f"\nRanges over {amount(ranges['images'])} images")
    if ranges["correct"] is not None:
        part = percent(ranges["correct"] / ranges["images"])
        console.print(f"Correct by label: {amount(ranges['correct'])} of {amount(ranges['images'])}, {part}")
    console.print(_table(RANGE_HEADS, range_rows(ranges), text=(0, 1)))
    console.print(ranges["about"], soft_wrap=True)


def _map(value: dict[str, Any], console: Console) -> None:
    if value.get("template") == "abstract":
        _abstract_map(value, console)
        return
    slots = ", ".join(f"{count} of {name}" for name, count in value["slots"].items())
    console.print(
        f"{value['network']} on {value['machine']} for {value['objective']}: {amount(value['commands'])} "
        f"commands; tiles in the buffers: {slots}"
    )
    rows = []
    for layer in value["layers"]:
        tiles = layer["tiles"]
        rows.append(
            (
                layer["name"],
                tiles["count"],
                f"{tiles['K']} × {tiles['OY']} × {tiles['OX']}",
                f"{tiles['columns']} {tiles['column_mode']}",
                layer["order"],
                *(f"{size(used)} of {size(all_)}" for used, all_ in layer["buffers"].values()),
                amount(layer["dram_bytes"]),
                amount(layer["estimated_cycles"]),
                amount(layer["evaluated"]),
                "yes" if layer["optimal"] else "no",
            )
        )
    heads = ["layer", "tiles", "K × OY × OX", "columns", "outer loop"]
    heads += ["activations", "weights", "outputs", "DRAM bytes", "cycles (estimate)", "candidates", "optimal"]
    console.print(_table(heads, rows, text=(0, 2, 3, 4)))
    console.print(
        "Optimal: no tile, order or column mode of the search's space has a lower estimate; no: a split "
        "reduction, or the cycle model preferred another of the best few.",
        soft_wrap=True,
    )
    for layer in value["layers"]:
        if "nest" in layer:
            console.print()
            for line in layer["nest"]:
                console.print(_plain(line), soft_wrap=True)
    console.print(
        f"\nMemory: {size(value['memory_bytes'])}, of it {size(value['constant_bytes'])} of commands and "
        f"constants; tensors that live at once take {size(value['peak_tensor_bytes'])} at most",
        soft_wrap=True,
    )
    console.print(
        _table(
            ("tensor", "kind", "address", "bytes", "from layer", "to layer"),
            (
                (
                    row["name"], row["kind"], f"{row['address']:#x}", amount(row["bytes"]),
                    row["from"] or "(before)", row["to"] or "(after)",
                )
                for row in value["memory"]
            ),
            text=(0, 1, 4, 5),
        )
    )  # fmt: skip


def _run_line(value: dict[str, Any]) -> str:
    """What a simulated run came to, with or without a program."""
    total = value["total"]
    return (
        f"{value['network']} on {value['machine']} ({value['fidelity']}): "
        f"{amount(total['cycles'])} cycles = {seconds(total['cycles'] / value['clock_hz'])} at "
        f"{value['clock_hz'] / 1e6:g} MHz, utilization {percent(total['utilization'])}"
    )


def _simulate(value: dict[str, Any], console: Console) -> None:
    total = value["total"]
    console.print(_run_line(value))
    console.print(
        f"DRAM {amount(total['dram_read_bytes'])} bytes read, "
        f"{amount(total['dram_write_bytes'])} written; event energy {energy(total['energy_pj'])} "
        f"at {value['node_nm']} nm (counted events × table; not FPGA power)"
    )
    if encoded := value.get("encoded_weights"):
        console.print(
            f"weights of {encoded['layers']} layers are encoded, {amount(encoded['payload_bytes'])} bytes "
            f"(payload modelled): this run loads their dense image, {amount(encoded['dense_bytes'])} bytes"
        )
    if "dram_time_pj" in total:
        console.print(f"apart from that, refreshes and standby of its DRAM: {energy(total['dram_time_pj'])}")
    console.print(
        _table(
            ("layer", "cycles", "utilization", "read", "written", "energy", "stalled on"),
            (
                (
                    layer["name"],
                    amount(layer["cycles"]),
                    percent(layer["utilization"]),
                    amount(layer["read_bytes"]),
                    amount(layer["write_bytes"]),
                    energy(layer["energy_pj"]),
                    _worst(layer["stall_cycles"]),
                )
                for layer in value["layers"]
            ),
            text=(0, 6),
        )
    )


def _modelled(value: dict[str, Any], console: Console) -> None:
    total = value["total"]
    console.print(_run_line(value))
    console.print(
        f"DRAM {amount(round(total['dram_read_bytes']))} bytes read, "
        f"{amount(round(total['dram_write_bytes']))} written; {value['energy_title']} "
        f"{energy(total['energy_pj'])} at {value['node_nm']} nm"
    )
    for key in ("formats", "dram_rule"):
        if value.get(key):
            console.print(f"{key.replace('_', ' ')}: {value[key]}", soft_wrap=True)
    heads = ["layer", "MACs", "cycles", "utilization", "read", "written", "energy", "stalled on"]
    rows = [
        (
            layer["name"],
            amount(layer["macs"]),
            amount(layer["cycles"]),
            percent(layer["utilization"]),
            amount(round(layer["dram_read_bytes"])),
            amount(round(layer["dram_write_bytes"])),
            energy(layer["energy_pj"]),
            _worst(layer["stall_cycles"]),
        )
        for layer in value["layers"]
    ]
    console.print(_table(heads, rows, text=(0, 7)))
    unsure = [layer["name"] for layer in value["layers"] if not layer.get("optimal", True)]
    if unsure:
        console.print(f"best found, not certified: {', '.join(unsure)}", soft_wrap=True)
    _payloads(value, console)
    _queues(value, console)
    _pipeline(value, console)
    _planned(value, console)


def _payloads(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows how sparse weights were counted, where there are some."""
    rows = [(layer["name"], layer["payload"]) for layer in value["layers"] if "payload" in layer]
    if rows:
        console.print(
            _table(
                (
                    "encoded weights",
                    "tiles",
                    "KiB in all",
                    "mean tile",
                    "worst tile",
                    "of dense",
                    "imbalance",
                ),
                [
                    (
                        name,
                        amount(row["tiles"]),
                        f"{row['total_bits'] / 8192:.1f}",
                        f"{row['mean_bits'] / 8:.1f} B",
                        f"{row['worst_bits'] / 8:.1f} B",
                        percent(row["ratio"]),
                        f"{row['imbalance']:.2f}",
                    )
                    for name, row in rows
                ],
                text=(0,),
            )
        )
        console.print("Found at the mean payload and load, counted by the nests' own tiles.")
    means = [layer["name"] for layer in value["layers"] if layer.get("payload_exact") is False]
    if means:
        console.print(
            f"payload and load by their means, not tile by tile: {', '.join(means)}", soft_wrap=True
        )


def _queues(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows what fully connected layers did in queues, where there are some."""
    rows = [layer["queues"] for layer in value["layers"] if "queues" in layer]
    if not rows:
        return
    console.print("Entry by entry through the queues, µs:")
    heads = ("layer", "useful", "fillers", "imbalance", "in all", "rounding leaves", "weights", "activations")
    table = []
    for row in rows:
        parts = row["parts_us"]
        open_ = "" if row["low_us"] == row["high_us"] else f"{row['low_us']:.1f} to {row['high_us']:.1f}"
        table.append(
            (
                row["layer"],
                *(f"{parts[name]:.2f}" for name in ("useful", "fillers", "imbalance")),
                f"{row['modelled_us']:.2f}",
                open_,
                f"{percent(row['weight_density'])}, {row['weights']}",
                f"{percent(row['activation_density'])}, {row['activations_are']}",
            )
        )
    console.print(_table(heads, table, text=(0, 5, 6, 7)))
    away = [row["layer"] for row in rows if not row["resident"]]
    if away:
        console.print(f"not on chip, loaded from DRAM before each vector: {', '.join(away)}", soft_wrap=True)
    for row in rows:
        for line in row.get("analysis", ()):
            console.print(_plain(line), soft_wrap=True)
    console.print(f"not modelled: {'; '.join(rows[0]['not_modelled'])}", soft_wrap=True)


def _pipeline(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows a pipeline's units, where the result is one."""
    if "pipeline" not in value:
        return
    pipe = value["pipeline"]
    console.print(
        _table(
            ("unit", "rows × columns", "PE × SIMD", "cycles", "done at"),
            [
                (
                    layer["name"],
                    f"{layer['mh']} × {layer['mw']}",
                    f"{layer['pe']} × {layer['simd']}",
                    amount(layer["cycles"]),
                    amount(layer["done_cycle"]),
                )
                for layer in value["layers"]
            ],
            text=(0,),
        )
    )
    console.print(
        f"all units at work at once: an image every {amount(pipe['initiation_interval'])} cycles, "
        f"{amount(round(pipe['images_per_second']))} images/s; alone in the pipeline "
        f"{amount(pipe['latency_cycles'])} cycles; folding: {pipe['source']}",
        soft_wrap=True,
    )
    console.print(f"assumed: {'; '.join(pipe['assumptions'])}", soft_wrap=True)
    for line in value.get("published", ()):
        console.print(_plain(line), soft_wrap=True)


def _certainty(layer: dict[str, Any]) -> str:
    if layer["optimal"]:
        return "certified"
    return "not bounded" if layer["gap"] is None else f"within {percent(layer['gap'])}"


def _abstract_map(value: dict[str, Any], console: Console) -> None:
    console.print(
        f"{value['network']} on {value['machine']} (modelled): each layer's nest of least "
        f"{value['objective']}; {value['formats']}",
        soft_wrap=True,
    )
    rows = [
        (
            layer["name"],
            amount(layer["cycles"]),
            energy(layer["energy_pj"]),
            percent(layer["utilization"]),
            _certainty(layer),
            amount(layer["evaluated"]),
            f"{layer['seconds']:.2f}",
        )
        for layer in value["layers"]
    ]
    heads = ("layer", "cycles", "energy", "utilization", "optimal", "evaluated", "seconds")
    console.print(_table(heads, rows, text=(0, 4)))
    for layer in value["layers"]:
        if "nest" in layer:
            console.print()
            for line in layer["nest"].splitlines():
                console.print(_plain(line), soft_wrap=True)
    _payloads(value, console)
    _planned(value, console)


def _planned(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows what stays on chip, where the result has a plan."""
    if "planned" not in value:
        return
    plan, memory = value["planned"], value["memory"]
    before, after = plan["before"], plan["after"]
    console.print()
    if not value["kept_in"]:
        console.print(f"No tensor can stay on chip: {value['kept_in_why']}.", soft_wrap=True)
    for row in value["kept"]:
        console.print(
            _plain(f"stays in {value['kept_in']}: {row['tensor']}, {size(row['bytes'])}"), soft_wrap=True
        )
    for pair in value["fused"]:
        console.print(
            _plain(
                f"fused, {pair['kind']}: {pair['first']} and {pair['second']}, {pair['strips']} strips of "
                f"{pair['rows']} rows"
            ),
            soft_wrap=True,
        )
    rows = [
        (
            name,
            amount(part["cycles"]),
            energy(part["energy_pj"]),
            amount(round(part["dram_read_bytes"])),
            amount(round(part["dram_write_bytes"])),
        )
        for name, part in (("all through DRAM", before), ("as planned", after))
    ]
    console.print(_table(("network, moves included", "cycles", "energy", "read", "written"), rows, text=(0,)))
    sure = "no choice is better" if plan["optimal"] else "the best so far, not certified"
    console.print(
        f"Tensors in DRAM take {size(memory['peak_bytes'])} at most ({size(memory['bound_bytes'])} live at "
        f"once), on chip {size(memory['peak_on_chip_bytes'])}; {sure}; {plan['searches']} searches",
        soft_wrap=True,
    )


def _worst(stalls: dict[str, int]) -> str:
    rows = sorted(stalls.items(), key=lambda row: -row[1])
    return ", ".join(f"{name} {amount(count)}" for name, count in rows[:2] if count)


def _verify(value: dict[str, Any], console: Console) -> None:
    verdict = "agree" if value["agrees"] else "DIFFER"
    console.print(
        f"reference, cycle model and RTL {verdict}: {amount(value['cases'])} cases, "
        f"{amount(value['mismatches'])} mismatches, largest cycle difference "
        f"{amount(value['cycle_difference'])}, largest byte difference "
        f"{amount(value['byte_difference'])}"
    )
    console.print(
        f"{amount(value['rtl_cycles'])} cycles in RTL, {amount(value['model_cycles'])} in the model"
        f"; {value['seconds']:.1f} s"
    )
    if value.get("unmapped"):
        count = value["unmapped"]
        words = "network fits no mapping and was" if count == 1 else "networks fit no mapping and were"
        console.print(f"{amount(count)} drawn {words} left out")
    for failure in value.get("failures", ()):
        console.print(failure, soft_wrap=True)


def _against(value: dict[str, Any], console: Console) -> None:
    verdict = "agree" if value["agrees"] else "DIFFER"
    console.print(
        f"reference and {value['framework']} {verdict}: {amount(value['cases'])} images, "
        f"{amount(value['mismatches'])} mismatches"
    )
    rows = []
    for row in value["values"]:
        if "reason" in row:
            rows.append((row["value"], row["reason"], "", "", ""))
            continue
        ulp = amount(row["largest_ulp"]) if "largest_ulp" in row else ""
        relative = f"{row['largest_relative']:.2g}" if "largest_relative" in row else ""
        differing = f"{amount(row['values_differing'])} of {amount(row['values'])}"
        rows.append((row["value"], differing, f"{row['largest_difference']:g}", ulp, relative))
    heads = ("value", "differ", "largest difference", "in last places", "of the largest value")
    console.print(_table(heads, rows))
    for failure in value["failures"]:
        console.print(_plain(failure), soft_wrap=True)


_RESOURCES = ("lut", "ff", "dsp", "bram", "lutram")


def _cost(value: dict[str, Any], console: Console) -> None:
    part = "" if value["unit"] == "core" else f", {value['unit']} alone"
    console.print(f"{value['machine']}{part} on {value['target']}, out of context: {value['text']}")
    rows = []
    for name in _RESOURCES:
        have = value["resources"][name]["available"]
        note = "" if have is None else f"of {amount(have)}"
        rows.append((name.upper(), _count(value[name]), note))
    reached = "not reported" if value["fmax_mhz"] is None else f"{value['fmax_mhz']:.1f} MHz"
    placed = value["placed_mhz"]
    rows.append(("Fmax", reached, "" if placed is None else f"estimated after placing: {placed:.1f} MHz"))
    console.print(_table(("", "", ""), rows))
    console.print(f"Clock: {value['clock']}", soft_wrap=True)
    if len(value["fmax_by_seed"]) > 1:
        each = (f"{seed}: {mhz:.1f}" for seed, mhz in value["fmax_by_seed"].items() if mhz is not None)
        console.print(f"MHz by placer seed: {', '.join(each)}", soft_wrap=True)
    slowest = value["slowest"]
    if slowest:
        console.print(
            f"Slowest path: {slowest['source']} to {slowest['sink']}, "
            f"{slowest['logic_ns']} ns logic, {slowest['routing_ns']} ns routing",
            soft_wrap=True,
        )
    owners = value["modules"].items()
    console.print(
        _table(
            ("unit", *(name.upper() for name in _RESOURCES)),
            [(owner, *(_count(use[name]) for name in _RESOURCES)) for owner, use in owners],
            text=(0,),
        )
    )
    console.print(value["attribution"], soft_wrap=True)
    if len(value["tries"]) > 1:
        console.print(
            _table(
                ("Yosys options", "LUT", "FF", ""),
                [
                    (
                        row["recipe"],
                        _count(row["resources"]["lut"]),
                        _count(row["resources"]["ff"]),
                        "chosen" if row["recipe"] == value["recipe"] else "",
                    )
                    for row in value["tries"]
                ],
                text=(0, 3),
            )
        )


def _count(number: int | None) -> str:
    return "not reported" if number is None else amount(number)


def _machines(value: dict[str, Any], console: Console) -> None:
    console.print(
        _table(
            ("machine", "template", "rows", "columns", "int8 lanes", "MACs/cycle", "buffers", "bus"),
            (
                (
                    row["name"],
                    row["template"],
                    row["rows"],
                    row["cols"],
                    row["lanes"]["int8"],
                    row["macs_per_cycle"],
                    size(row["buffer_bytes"]),
                    f"{row['bus_bits']} bit",
                )
                for row in value["machines"]
                if row["template"] == "core"
            ),
            text=(0, 1),
        )
    )
    console.print(
        _table(
            ("machine", "template", "array", "PEs", "MACs/cycle", "memories, from the inner to the outer"),
            (
                (
                    row["name"],
                    row["template"],
                    row["array"],
                    row["pes"],
                    f"{row['macs_per_cycle']:g}",
                    ", ".join(row["levels"]),
                )
                for row in value["machines"]
                if row["template"] == "abstract"
            ),
            text=(0, 1, 2, 5),
        )
    )


def _zoo(value: dict[str, Any], console: Console) -> None:
    console.print(
        _table(
            ("network", "input", "MACs", "parameters", ""),
            (
                (
                    row["name"],
                    "×".join(str(n) for n in row["input"] or ()),
                    "" if row["macs"] is None else amount(row["macs"]),
                    "" if row["parameters"] is None else amount(row["parameters"]),
                    row["about"],
                )
                for row in value["networks"]
            ),
            text=(0, 1, 4),
        )
    )
    console.print("No trained weights: zoo:NAME has zeros that take no memory, zoo:NAME@SEED random ones.")


def _doctor(value: dict[str, Any], console: Console) -> None:
    console.print(
        _table(
            ("tool", "version", ""),
            ((row["tool"], row["version"] or "missing", row["hint"]) for row in value["tools"]),
            text=(0, 1, 2),
        )
    )


def _files(value: dict[str, Any], console: Console) -> None:
    for path in value["files"]:
        console.print(path, soft_wrap=True)


def _demo(value: dict[str, Any], console: Console) -> None:
    images = amount(value["accuracy"]["images"])
    console.print(_table(FORM_HEADS, form_rows(value["forms"]), title=f"Forms, on {images} test images"))
    console.print(
        _table(
            MACHINE_HEADS,
            machine_rows(value["machines"]),
            text=(0, 1),
            title="Cores, at equal DRAM bandwidth",
        )
    )
    console.print(clock_words(value["machines"]), soft_wrap=True)
    for part in value["runs"]:
        hertz, words = clock_of(part, value["costs"])
        cycles = part["total"]["cycles"]
        console.print(
            f"{part['network']} on {part['machine']}: {amount(cycles)} cycles, "
            f"{seconds(cycles / hertz)} an image at {words}, "
            f"utilization {percent(part['total']['utilization'])}"
        )
    for row in value["mappings"]["rows"]:
        before, after = row["bytes"], row["latency"]
        console.print(
            f"{row['network']} on {row['machine']}: mapped for least DRAM bytes {amount(before['cycles'])} "
            f"cycles, utilization {percent(before['utilization'])}; for latency {amount(after['cycles'])}, "
            f"{percent(after['utilization'])}"
        )
    _verify(value["verify"], console)
    console.print(
        _table(
            ("phase", "seconds"),
            [(row["name"], f"{row['seconds']:.1f}") for row in value["phases"]],
        )
    )
    console.print(f"report: {value['report']}", soft_wrap=True)


_KINDS = {
    "info": _info,
    "map": _map,
    "result": _simulate,
    "modelled": _modelled,
    "verify": _verify,
    "against": _against,
    "cost": _cost,
    "machines": _machines,
    "zoo": _zoo,
    "compress": show_compressed,
    "methods": show_methods,
    "doctor": _doctor,
    "rtl": _files,
    "demo": _demo,
}


def show(value: dict[str, Any]) -> None:
    """Nothing; prints the result's table on stdout, by its `kind`."""
    _KINDS[value["kind"]](value, _console())

"""PyTorch networks: torch.export programs, plain modules, and modules trained with our quantisers."""

from __future__ import annotations

import copy
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..graph import Graph
from ..storage import ImportModelError
from .model import Model
from .quantised import lower_graph
from .torch_archive import Program, Ref, read_program
from .torch_operators import lowering_of

if TYPE_CHECKING:
    import torch

__all__ = ["import_torch", "load_torch"]


def import_torch(
    source: str | Path | torch.nn.Module | torch.export.ExportedProgram,
    example_input: torch.Tensor | None = None,
    *,
    name: str | None = None,
) -> Model:
    """A PyTorch network and how it runs here.

    A module trained with our quantisers (`train_qat`) becomes integers, with float only before and after;
    everything else is a float graph, which the host runs.

    Args and errors as `load_torch`.
    """
    if not isinstance(source, str | Path):
        from ..qat import DigitsNet

        if isinstance(source, DigitsNet) and source.form is not None:
            from .torch_trained import from_trained

            return from_trained(source, name=name or "digits")
    return lower_graph(load_torch(source, example_input, name=name))


def load_torch(
    source: str | Path | torch.nn.Module | torch.export.ExportedProgram,
    example_input: torch.Tensor | None = None,
    *,
    name: str | None = None,
) -> Graph:
    """The graph of a `.pt2` file, a module or an exported program, in ONNX's vocabulary.

    Files are read without torch and nothing in them is unpickled. Modules are exported by torch as they
    run in evaluation mode; the module given stays as it is. Layers are called as their modules are
    (`layer1.0.conv1`), weights as in the state dict.

    Args:
        source: the path of a file by torch.export.save of torch 2.8 or later, a module, or a program.
        example_input: what a module takes, its batch first; only its first example counts.
        name: of the graph; None is the file's stem or the module's class.

    Raises:
        ImportModelError: the file is missing, damaged, pickled, of another version, has an operator or
            option that isn't accepted or a size that isn't fixed, or torch can't export the module; one line.
        TypeError: an example is missing, or given for a file or program.
    """
    from_file = isinstance(source, str | Path)
    needs_example = not from_file and callable(getattr(source, "forward", None))
    if needs_example != (example_input is not None):
        raise TypeError("a module needs an example_input, files and programs take none")
    where = str(source) if from_file else f"module {type(source).__name__}"
    try:
        if isinstance(source, str | Path):
            with Path(source).open("rb") as file:
                program = read_program(file)
            return _graph(program, name or Path(source).stem)
        return _graph(read_program(_exported(source, example_input)), name or type(source).__name__)
    except OSError as fault:
        reason = fault.strerror or str(fault)
    except zipfile.BadZipFile as fault:
        reason = f"it is no .pt2 file, or a damaged one ({fault})"
    except RecursionError:
        reason = "its program is nested too deeply"
    except KeyError as fault:
        reason = f"its program lacks {fault.args[0]!r}"
    except (TypeError, AttributeError, IndexError, NotImplementedError, EOFError) as fault:
        reason = f"its program is damaged ({fault})"
    except (ValueError, OverflowError) as fault:
        reason = str(fault)
    raise ImportModelError(f"{_line(where)}: {_line(reason)}")


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:300]


def _exported(
    source: torch.nn.Module | torch.export.ExportedProgram, example_input: torch.Tensor | None
) -> io.BytesIO:
    """The file that torch writes of a module or program, in memory, so that there is one reader for all."""
    import torch

    if isinstance(source, torch.export.ExportedProgram):
        program = source
    else:
        assert example_input is not None  # the caller sees to it
        module = copy.deepcopy(source).eval()
        try:
            with torch.no_grad():
                program = torch.export.export(module, (example_input[:1],))
        except Exception as fault:  # torch raises what it likes
            raise ValueError(f"torch can't export it: {str(fault).strip().splitlines()[0]:.200}") from None
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return file


def _graph(program: Program, name: str) -> Graph:
    lowering = lowering_of(program)
    for call in program.calls:
        lowering.add(call)
    outputs = tuple(lowering.value(Ref(output)) for output in program.outputs)
    return Graph(
        name=name,
        source="torch",
        inputs=tuple(value.name for value in program.inputs),
        outputs=outputs,
        nodes=tuple(lowering.nodes),
        constants=lowering.constants,
        values=lowering.values,
    )

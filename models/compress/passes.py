"""Passes: what a recipe is made of. Each has a name, checked options, and layers that it is for."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .subject import Subject
from .trainable import TrainableGraph, WeightedLayer
from .training import TrainingOptions

__all__ = ["PASSES", "Pass", "make_pass", "select_layers"]

PASSES: Mapping[str, str] = types.MappingProxyType(
    {
        "binary.connect": "binary_connect:BinaryConnectPass",
        "binary.expectation": "expectation_backpropagation:ExpectationPass",
        "binary.local": "local_binary:LocalBinaryPass",
        "binary.loss-aware": "loss_aware:LossAwarePass",
        "binary.network": "binarized_networks:BinarizedNetworkPass",
        "binary.sketch": "sketching:SketchPass",
        "binary.weights": "scaled_binary:BinaryWeightsPass",
        "binary.xnor": "binarized_networks:XnorNetPass",
        "quantise.allocate": "bit_allocation:BitAllocationPass",
        "quantise.dynamic-tree": "dynamic_tree:DynamicTreePass",
        "quantise.fixed": "fixed_point:FixedPointPass",
        "ternary.synapses": "synapse_sampling:SynapsePass",
        "ternary.threshold": "ternary:ThresholdTernaryPass",
        "ternary.trained": "trained_ternary:TrainedTernaryPass",
        "train.fixed-point": "fixed_point_training:FixedPointTrainingPass",
        "train": "training_passes:Train",
        "codebook.product": "codebook_passes:ProductCodebook",
        "codebook.response": "codebook_passes:ResponseCodebook",
        "codebook.scalar": "codebook_passes:ShareWeights",
        "encode": "encoding_pass:Encode",
        "train.bimodal": "codebook_passes:BimodalTraining",
        "merge.neurons": "neuron_merging:MergeNeurons",
        "prune.correlation": "correlation_pruning:PruneByCorrelation",
        "prune.fan-in": "synapse_sampling:PruneFanIn",
        "prune.groups": "group_pruning:PruneByGroups",
        "prune.inbound": "activation_variance:PruneInbound",
        "prune.lasso": "channel_passes:PruneByLasso",
        "prune.lattice": "lattice:PruneToLattice",
        "prune.magnitude": "element_pruning:PruneByMagnitude",
        "prune.obd": "element_pruning:PruneByDamage",
        "prune.obs": "surgeon_passes:PruneBySurgeon",
        "prune.reuse": "channel_passes:PruneByReuse",
        "prune.surgery": "dynamic_surgery:DynamicSurgery",
        "prune.thinet": "channel_passes:PruneByThinet",
        "shrink": "shrinking:Shrink",
        "train.group-damage": "group_lasso:GroupDamage",
        "train.group-lasso": "group_lasso:GroupLasso",
    }
)
"""By name in a recipe: module and class, imported when they are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A step of a recipe; its fields are the keys of a recipe's table.

    `layers` selects by names with * and ?, or by the words all, conv, linear, first, last, hidden (neither
    first nor last); what starts with ! is taken out again.
    """

    name: ClassVar[str]
    layers: tuple[str, ...] = ("all",)
    training: TrainingOptions | None = None
    """Its own; None is the recipe's."""

    def selected(self, subject: Subject) -> tuple[WeightedLayer, ...]:
        """The layers that it is for.

        Raises:
            ValueError: a selector that matches nothing.
        """
        return select_layers(subject.model, self.layers, self.name)

    def check(self, subject: Subject) -> None:
        """Nothing; called before any pass has run, with the network as it came in.

        Raises:
            ValueError: a layer that it can't serve, an impossible budget, too little data; names the layer.
        """
        self.selected(subject)

    def tune(self, subject: Subject, part: str = "") -> None:
        """Nothing; trains, if the pass's training, or else the recipe's, has epochs."""
        if (self.training or subject.training).epochs:
            subject.train(self.training, what=f"{self.name}: {part}" if part else self.name)

    def apply(self, subject: Subject) -> None:
        """Nothing; does its work on the subject.

        Raises:
            ValueError: it can't be done; DivergedError: training fails.
        """
        raise NotImplementedError


def select_layers(model: TrainableGraph, selectors: tuple[str, ...], where: str) -> tuple[WeightedLayer, ...]:
    """The layers with weights that `selectors` name, in order.

    Raises:
        ValueError: one that matches nothing, or nothing left.
    """
    layers = model.layers
    ends = {layers[0].name, layers[-1].name} if layers else set()
    words = {
        "all": {layer.name for layer in layers},
        "conv": {layer.name for layer in layers if layer.op == "Conv"},
        "linear": {layer.name for layer in layers if layer.op == "Gemm"},
        "first": {layer.name for layer in layers[:1]},
        "last": {layer.name for layer in layers[-1:]},
        "hidden": {layer.name for layer in layers} - ends,
    }
    chosen: set[str] = set()
    for selector in selectors:
        plain = selector.removeprefix("!")
        found = words.get(plain)
        if found is None:
            found = {layer.name for layer in layers if fnmatch.fnmatchcase(layer.name, plain)}
        if not found:
            known = ", ".join(layer.name for layer in layers)
            raise ValueError(
                f"{where}: the selector {selector!r} matches no layer; there are {known:.300}, and the words "
                "all, conv, linear, first, last, hidden"
            )
        chosen = chosen - found if selector.startswith("!") else chosen | found
    if not chosen:
        raise ValueError(f"{where}: the selectors {', '.join(selectors)} leave no layer")
    return tuple(layer for layer in layers if layer.name in chosen)


def make_pass(table: Mapping[str, Any], where: str, training: TrainingOptions) -> Pass:
    """The pass that a recipe's table describes.

    Args:
        table: with `kind`, and the pass's fields.
        where: the table's path in the recipe, for messages.
        training: the recipe's, which a pass's own `training` table starts from.

    Raises:
        ValueError: an unknown pass or key, or a value that can't be; names the key's path.
    """
    kind = table.get("kind")
    if kind not in PASSES:
        raise ValueError(f"{where}.kind must be one of {', '.join(sorted(PASSES))}, not {kind!r:.60}")
    module, _, name = PASSES[str(kind)].partition(":")
    found: type[Pass] = getattr(importlib.import_module(f".{module}", __package__), name)
    rest = {key: value for key, value in table.items() if key != "kind"}
    made: Pass = from_table(found, rest, where, training)
    return made


def from_table(
    kind: type[Any], table: Mapping[str, Any], where: str, training: TrainingOptions | None = None
) -> Any:
    """A dataclass whose fields a TOML table gives, each checked against its type.

    Raises:
        ValueError: an unknown key or a value of another type, with its path; what the class itself refuses.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"{where}.{key} is no key; there are {', '.join(sorted(known))}")
        if key == "training" and training is not None:
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}.training must be a table, not {value!r:.40}")
            started = {**dataclasses.asdict(training), **value}
            values[key] = from_table(TrainingOptions, started, f"{where}.training")
        else:
            values[key] = _converted(value, hints[key], f"{where}.{key}")
    missing = [
        name
        for name, field in known.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}.{missing[0]} is missing")
    try:
        return kind(**values)
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from None


def _converted(value: Any, hint: Any, path: str) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [part for part in parts if part is not type(None)]
        return _converted(value, kinds[0], path)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_converted(item, parts[0], f"{path}[{i}]") for i, item in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{path} must be a table, not {value!r:.40}")
        return {str(key): _converted(item, parts[1], f"{path}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{path} must be of type {hint.__name__}, not {value!r:.40}")
    return value

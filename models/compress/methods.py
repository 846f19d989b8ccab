"""The survey's methods: what each is, which recipe shows it, and what the core does with its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["GAINS", "HARDWARE", "METHODS", "Method", "shipped_recipes"]

HARDWARE = {
    "rtl-exact": "the integer network runs on reference, cycle model and RTL, bit for bit and cycle for "
    "cycle; what it saves there is told beside it",
    "modelled": "the integer network is rtl-exact with dense weights; payload bytes are those of a real "
    "encoder, whose decoder is not in the core",
    "host": "what is special in it runs on the host, or only while training; the rest is an ordinary network",
}
"""What the core does with a method's result."""

GAINS = {
    "steps": "weight steps that are zero in all rows and lanes cost no cycle and no byte",
    "shapes": "channels are gone: a smaller dense network",
    "int8": "integers, loaded and run as int8: fewer bits than 8 save payload only",
    "binary": "a bit a weight, on int8 activations: more lanes, fewer bytes",
    "ternary": "two bits a weight: more lanes, fewer bytes",
    "signs": "one or two bits a weight and an activation: most lanes, fewest bytes",
    "two scales": "two ternary passes a layer, added in POST",
    "planes": "a binary pass a plane, scaled and added in POST",
}
"""What an rtl-exact method's result saves on the core, by the name that a row gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A row of the survey's tables.

    Raises:
        ValueError: an unknown hardware path or gain.
    """

    name: str
    references: tuple[str, ...]
    """The survey's numbers, or who has none."""
    title: str
    primitive: str
    recipe: str
    """The stem of its recipe's file."""
    hardware: str
    """A key of `HARDWARE`."""
    gain: str = ""
    """A key of `GAINS`, where the method is rtl-exact and works."""

    def __post_init__(self) -> None:
        if self.hardware not in HARDWARE:
            raise ValueError(
                f"{self.name}: hardware must be one of {', '.join(HARDWARE)}, not {self.hardware}"
            )
        if self.gain and (self.gain not in GAINS or self.hardware != "rtl-exact"):
            raise ValueError(
                f"{self.name}: gain must be one of {', '.join(GAINS)}, and only of what is rtl-exact, not "
                f"{self.gain!r} of {self.hardware}"
            )

    @property
    def state(self) -> str:
        """works, where its recipe ships; else planned."""
        return "works" if self.recipe in shipped_recipes() else "planned"


def shipped_recipes() -> frozenset[str]:
    """The stems of the recipes that come with the package."""
    from .recipe import SHIPPED

    return frozenset(path.stem for path in SHIPPED.glob("*.toml") if not path.name.endswith(".quick.toml"))


_ROWS = """
optimal-brain-damage | LeCun | P1 | modelled | Optimal Brain Damage: saliency by the diagonal Hessian
optimal-brain-surgeon | 15 | P1 | modelled | Optimal Brain Surgeon: full inverse Hessian, weights updated
recurrent-damage | 16 | P1 | host | Optimal Brain Damage on an unrolled recurrent network
magnitude | 17 | P1 | modelled | learn weights and connections: magnitude, retrained
deep-compression | 18 | P1+P3+P4 | modelled | pruned, shared weights, Huffman over codes and gaps
dynamic-surgery | 19 | P1 | modelled | dynamic network surgery with splicing
neuron-correlation | 20 | P1 | modelled | connections kept by the correlation of their neurons
neuron-merging | 21 | P1 | rtl-exact, shapes | data-free merging of like neurons
strided-kernels | 22 | P2 | rtl-exact, steps | strided lattices inside kernels
granularity | 23 | P2 | rtl-exact, steps | weights, vectors, kernels and filters at one density
brain-damage-groups | 24 | P2 | rtl-exact, steps | group-wise brain damage: columns of im2col
structured-sparsity | 25 | P2 | rtl-exact, shapes | group Lasso over filters, channels and shapes
inbound-pruning | 26 | P2 | rtl-exact, shapes | inbound pruning by activation variance, reduce and reuse
thinet | 27 | P2 | rtl-exact, shapes | channels chosen greedily by the next layer, least squares
channel-lasso | 28 | P2 | rtl-exact, shapes | channels chosen by LASSO, least squares
vector-quantisation | 29 | P3 | modelled | scalar, product and residual codebooks
quantised-cnn | 30 | P3 | modelled | product codebooks corrected by the layer's response
bimodal | 31 | P3 | modelled | bimodal regulariser, then product codebooks
dynamic-tree | 32 | P5 | modelled | 8-bit dynamic-tree codes of what is exchanged
stochastic-rounding | 33 | P5 | rtl-exact, int8 | fixed point with stochastic rounding
bit-allocation | 34 | P5 | rtl-exact, int8 | bits by layer from the signal-to-noise ratio
expectation-backprop | 35 | P6 | rtl-exact, signs | expectation backpropagation, binary weights read out
binary-connect | 36 | P6 | rtl-exact, binary | BinaryConnect, deterministic and stochastic
stochastic-synapses | 37 | P6 | rtl-exact, signs | synapses sampled at deployment, fan-in in blocks
binarised | 38 | P6 | rtl-exact, signs | binary weights and activations
xnor-net | 39 | P6 | rtl-exact, signs | binary weights with a scale, binary activations
loss-aware | 40 | P6 | rtl-exact, binary | loss-aware binarisation by proximal Newton
local-binary | 41 | P6+P8 | rtl-exact, ternary | fixed sparse ternary filters and learnt 1×1
sketching | 42 | P6 | rtl-exact, planes | sums of binary planes, direct and refined
trained-ternary | 43 | P6 | rtl-exact, two scales | trained ternary quantisation with two scales
threshold-ternary | Li2016 | P6 | rtl-exact, ternary | ternary weights by a threshold
separable | 44 | P7 | rtl-exact | d×1 and 1×d convolutions
biclustered | 45 | P7 | rtl-exact | monochromatic first layer, biclustered factors
sparse-basis | 46 | P7+P1 | modelled | channel bases and sparse factors
perforated | 47 | P9 | host | output positions left out and interpolated
response-reconstruction | 48 | P7 | rtl-exact | non-linear response reconstruction
tucker | 49 | P7 | rtl-exact | Tucker-2 with ranks by variational Bayes
block-term | 50 | P7+P8 | rtl-exact | sums of Tucker blocks
cp | 51 | P7+P8 | rtl-exact | canonical polyadic decomposition
cnnpack | 52 | P10+P3+P4 | modelled | cosine transforms of kernels, clustered
circulant | 53 | P10 | host | circulant projections of feature maps
hashed | 54 | P10 | modelled | weights shared by a hash
functional-hashing | 55 | P10 | modelled | several hashes and a small reconstruction network
model-compression | 56 | P11 | rtl-exact | a small network fitted to an ensemble on synthetic data
distillation | 57 | P11 | rtl-exact | softened targets of a teacher
fitnets | 58 | P11 | rtl-exact | hints from inner layers
neuron-selection | 59 | P11 | rtl-exact | informative hidden neurons matched
highway-student | 60 | P11 | rtl-exact | teacher and student for acoustic models
task-specified | 61 | P11 | rtl-exact | only the classes that are asked for
flow-of-solution | 62 | P11 | rtl-exact | Gram matrices between layers
detection-distillation | 63 64 65 | P11 | rtl-exact | distilled detectors
sequence-distillation | 81 | P11 | rtl-exact | trained on a teacher's sequences
privileged | 82 | P11 | rtl-exact | a teacher with privileged features
logic-rules | 83 | P11 | rtl-exact | teachers by logic rules
graph-distillation | 84 | P11 | rtl-exact | several modalities imitate one another
nin | 66 | P8 | rtl-exact | 1×1 convolutions and a global average
googlenet | 67 | P8 | rtl-exact | inception modules
resnet | 68 | P8 | rtl-exact | residual bottlenecks
densenet | 69 | P8 | rtl-exact | features concatenated
squeezenet | 70 | P8+P1+P3 | rtl-exact | fire modules
resnext | 71 | P8 | rtl-exact | grouped 3×3 convolutions
mobilenet | 72 | P8 | rtl-exact | depthwise and pointwise convolutions
shufflenet | 73 | P8 | rtl-exact | grouped pointwise convolutions and shuffles
darknet | 74 75 | P8 | rtl-exact | stacks of 3×3 and 1×1 with leaky units
dropout | 76 77 | P11 | host | Dropout and DropConnect
activation-sparsity | 1 78 | P9 | host | ReLU and PReLU
hybrid | 79 | all | modelled | pruning, quantisation and approximation together
landmarks | 80 | all | modelled | the same on facial landmarks
"""


def _methods() -> Iterator[Method]:
    for line in _ROWS.strip().splitlines():
        name, references, primitive, path, title = (part.strip() for part in line.split("|"))
        hardware, _, gain = path.partition(", ")
        yield Method(
            name=name,
            references=tuple(references.split()),
            title=title,
            primitive=primitive,
            recipe=name,
            hardware=hardware,
            gain=gain,
        )


METHODS: tuple[Method, ...] = tuple(_methods())
"""Every row, in the survey's order."""

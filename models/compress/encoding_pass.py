"""The pass that chooses how a layer's codes lie in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..payload.encoding import Encoding as Layout
from .layer_size import ENTROPY, best_encoding, weight_codes_of
from .passes import Pass
from .subject import Encoding, Subject

__all__ = ["Encode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode(Pass):
    """Gives layers an encoding, in so many independently decodable streams.

    Layers that no pass has coded stay float32 and are passed over.
    """

    name: ClassVar[str] = "encode"
    encoding: str = "best"
    """A name of `models.payload.encoding`, such as relative4+huffman, or best: the smallest."""
    streams: int = 1

    def __post_init__(self) -> None:
        if self.encoding != "best":
            Layout.parse(self.encoding)
        if self.streams < 1:
            raise ValueError(f"streams must be at least 1, not {self.streams}")

    def apply(self, subject: Subject) -> None:
        """Nothing; sets the encoding of each selected layer.

        Raises:
            ValueError: a layer's codes can't be encoded so; names the layer.
        """
        chosen = {}
        for layer in self.selected(subject):
            code = subject.codes.get(layer.name)
            if code is None:
                continue
            codes, bits = weight_codes_of(code)
            names = ENTROPY if self.encoding == "best" else (self.encoding,)
            try:
                name, _ = best_encoding(codes, bits, names, self.streams)
            except ValueError as fault:
                raise ValueError(f"layer {layer.name}: {fault}") from None
            subject.encodings[layer.name] = Encoding(name=name, streams=self.streams)
            chosen[layer.name] = name
        subject.notes["encodings"] = chosen

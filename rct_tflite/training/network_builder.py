"""Growing the exported network op by op, from the values of a Keras model."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence

from rct_tflite.spec.graph import OpKind, OpOptions, ReshapeOptions, TableOptions
from rct_tflite.spec.network import INPUT, TrainedLayer, TrainedNetwork, TrainedWeights
from rct_tflite.spec.quantization import AffineQuantization

_TAKES_ANY_GRID = (
    OpKind.ADD,
    OpKind.CONV_2D,
    OpKind.DEPTHWISE_CONV_2D,
    OpKind.FULLY_CONNECTED,
    OpKind.HARD_SWISH,
    OpKind.LEAKY_RELU,
    OpKind.MEAN,
    OpKind.MUL,
    OpKind.QUANTIZE,
    OpKind.RELU,
    OpKind.SUB,
    OpKind.TRANSPOSE_CONV,
)
"""Ops that round to their output's quantisation, whichever it is."""
_KEEPS_GRID = (OpKind.AVERAGE_POOL_2D, OpKind.MAX_POOL_2D, OpKind.PAD, OpKind.RESHAPE)
"""Ops with one input, whose quantisation their output has."""


class NetworkBuilder:
    """The exported network while it grows; layers are known by their places.

    Args:
        input_shape: Without batch axis.
        grid: Quantisation of the input.
    """

    def __init__(self, input_shape: tuple[int, ...], grid: AffineQuantization):
        self._input = (input_shape, grid)
        self._layers: list[TrainedLayer] = []
        self._names: set[str] = set()
        self._synthetic: set[int] = set()

    def shape(self, place: int) -> tuple[int, ...]:
        """Returns the shape of a layer's result, without batch axis."""
        return self._input[0] if place == INPUT else self._layers[place].output_shape

    def has(self, name: str) -> bool:
        """Whether a layer has this name."""
        return name in self._names

    def grid(self, place: int) -> AffineQuantization:
        """Returns the quantisation of a layer's result."""
        return self._input[1] if place == INPUT else self._layers[place].output

    def add(
        self,
        name: str,
        op: tuple[OpKind, OpOptions],
        sources: Sequence[int],
        shape: Sequence[int],
        grid: AffineQuantization,
        weights: TrainedWeights | None = None,
    ) -> int:
        """Adds a layer and returns its place.

        Args:
            name: Gets a number behind it where it is taken.
            op: Kind and options.
            sources: Places of what it reads.
            shape: Of the result, without batch axis.
            grid: Of the result.
            weights: None for an op without.
        """
        layer = TrainedLayer(self._free_name(name), *op, tuple(shape), grid, weights, tuple(sources))
        self._layers.append(layer)
        return len(self._layers) - 1

    def reshaped(self, place: int, shape: Sequence[int], name: str) -> int:
        """Returns the place of a value in another shape: it is added where it is not there yet."""
        wanted = tuple(shape)
        if self.shape(place) == wanted:
            return place
        place = self.original(place)
        if self.shape(place) == wanted:
            return place
        added = self.add(f"{name}_reshape", (OpKind.RESHAPE, ReshapeOptions()), [place], wanted, self.grid(place))
        self._synthetic.add(added)
        return added

    def original(self, place: int) -> int:
        """Returns the place of a value in the shape in which it was computed."""
        while place in self._synthetic:
            (place,) = self._layers[place].sources or ()
        return place

    def requantized(self, place: int, grid: AffineQuantization, name: str) -> int:
        """Returns the place of a value on another quantisation."""
        if self.grid(place) == grid:
            return place
        op = (OpKind.QUANTIZE, TableOptions())
        return self.add(f"{name}_quantize", op, [place], self.shape(place), grid)

    def network(self, name: str, output: int, rounding: str) -> TrainedNetwork:
        """Returns the network whose output is that of one layer; layers that do not lead there are left out."""
        layers = _merged_quantize([dataclasses.replace(layer) for layer in self._layers], output)
        needed = _needed(layers, output)
        places = {INPUT: INPUT} | {old: new for new, old in enumerate(needed)}
        kept = [
            dataclasses.replace(layers[old], sources=tuple(places[source] for source in layers[old].sources or ()))
            for old in needed
        ]
        return TrainedNetwork(name, *self._input, tuple(kept), rounding)

    def _free_name(self, name: str) -> str:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        free = next(candidate for candidate in candidates if candidate not in self._names)
        self._names.add(free)
        return free


def _needed(layers: list[TrainedLayer], output: int) -> list[int]:
    """Returns the places of the layers that lead to the output, which comes last."""
    found: set[int] = set()
    open_places = [output]
    while open_places:
        place = open_places.pop()
        if place != INPUT and place not in found:
            found.add(place)
            open_places += layers[place].sources or ()
    return sorted(found)


def _merged_quantize(layers: list[TrainedLayer], output: int) -> list[TrainedLayer]:
    """Lets what is read by a QUANTIZE alone round to its quantisation at once, and reads around the QUANTIZE."""
    needed = _needed(layers, output)
    readers = Counter(source for place in needed for source in layers[place].sources or ())
    around: dict[int, int] = {}
    for place in needed:
        layer = layers[place]
        layer = layers[place] = dataclasses.replace(
            layer, sources=tuple(around.get(source, source) for source in layer.sources or ())
        )
        if layer.kind is OpKind.QUANTIZE and place != output:
            path = _path_to_round(layers, readers, layer)
            for above in path:
                layers[above] = dataclasses.replace(layers[above], output=layer.output)
            if path:
                around[place] = path[0]
    return layers


def _path_to_round(layers: list[TrainedLayer], readers: Counter[int], quantize: TrainedLayer) -> list[int]:
    """Returns the layers, last first, that can have the quantisation of a QUANTIZE; none where they cannot."""
    path: list[int] = []
    (place,) = quantize.sources or ()
    while place != INPUT and readers[place] == 1:
        path.append(place)
        if layers[place].kind in _TAKES_ANY_GRID:
            return path
        if layers[place].kind not in _KEEPS_GRID:
            break
        (place,) = layers[place].sources or ()
    return []

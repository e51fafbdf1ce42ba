"""Layers that get more bits before they are exported: `--weight-bits BITS | NAME:BITS,...`."""

from collections.abc import Mapping

from rct_tflite.errors import RecipeError
from rct_tflite.planning.selection import trainable
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import MAX_BITS, MIN_BITS
from rct_tflite.spec.training_plan import TrainingPlan


def read_widths(graph: Graph, text: str) -> dict[str, int]:
    """Reads bit-widths by the name of the layer, of those that get more than they have.

    Args:
        graph: The network.
        text: A number for all layers that can learn, of which wider ones stay as they are, or `NAME:BITS` with commas
            between.

    Raises:
        RecipeError: If it cannot be read, names a layer that cannot learn, or one that has more bits.
    """
    present = {op.name: graph.bits_of(op) for op in graph.ops if op.name in trainable(graph)}
    allowed = {str(bits): bits for bits in range(MIN_BITS, MAX_BITS + 1)}
    if text in allowed:
        return {name: allowed[text] for name, bits in present.items() if bits < allowed[text]}
    widths = {}
    for item in text.split(","):
        name, _, bits = item.strip().rpartition(":")
        if name not in present or name in widths or not present[name] <= allowed.get(bits, 0):
            raise RecipeError(
                f"Cannot widen weights. Expected a number of {MIN_BITS} to {MAX_BITS} bits, or NAME:BITS with commas "
                f"between, each name once and with no fewer bits than the layer has: {present}. Received: {text!r}. "
                "Narrower weights come from training: Recipe(max_bits=...)."
            )
        widths[name] = allowed[bits]
    return {name: bits for name, bits in widths.items() if bits > present[name]}


def learning_widths(plan: TrainingPlan, text: str, widths: Mapping[str, int]) -> dict[str, int]:
    """Returns the widths of the layers whose weights learn: others are only read, which takes 8 bits at most.

    Args:
        plan: What learns.
        text: What the user wrote.
        widths: What `read_widths()` made of it.

    Raises:
        RecipeError: If the user named a layer whose weights do not learn.
    """
    still = [name for name in widths if not plan.learns_weights(name)]
    if still and ":" in text:
        raise RecipeError(
            f"More than 8 bits are of use only where weights learn. Expected some of "
            f"{[name for name in plan.trained if plan.learns_weights(name)]}. Received: {still}. Train them (--train), "
            "or leave them out of --weight-bits."
        )
    return {name: bits for name, bits in widths.items() if name not in still}

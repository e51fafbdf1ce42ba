"""What each loss reads, and the constants of the error that it starts the backward pass with (ARITHMETIC.md 3)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.constants import EXP_TABLE_ONE, exp_table
from rct_tflite.reference.tables import VALUES
from rct_tflite.spec.graph import Graph, OpKind
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.spec.training_plan import Loss

IntArray = npt.NDArray[np.int64]
HUBER_DELTA = 1.0
"""Beyond this real difference HUBER's slope stays the same, as in Keras."""
_LAST_ACTIVATION = {Loss.SOFTMAX_CROSS_ENTROPY: OpKind.SOFTMAX, Loss.SIGMOID_CROSS_ENTROPY: OpKind.LOGISTIC}


@dataclass(frozen=True, eq=False)
class LossConstants:
    """Of one network.

    Attributes:
        table: `exp_table()` of softmax cross-entropy; 2**15 * sigmoid for -128 to 127; empty for the others.
        limit: Largest difference between output and target that counts, in steps of the output.
        scale: Constant of the error.
    """

    table: IntArray
    limit: int
    scale: float


def loss_tensor(graph: Graph, loss: Loss) -> int:
    """Returns the tensor that the loss reads: the output, or what the loss' own activation at the end reads."""
    last = graph.ops[-1]
    return last.inputs[0] if last.kind is _LAST_ACTIVATION.get(loss) else graph.output


def loss_constants(graph: Graph, loss: Loss) -> LossConstants:
    """Returns what the error at the loss needs."""
    tensor = graph.tensors[loss_tensor(graph, loss)]
    largest, nothing = ACTIVATION_MAX - ACTIVATION_MIN, np.zeros(0, np.int64)
    share = 1.0 / tensor.size
    match loss:
        case Loss.SOFTMAX_CROSS_ENTROPY:
            return LossConstants(exp_table(tensor), 0, 1.0)
        case Loss.SIGMOID_CROSS_ENTROPY:
            probability = 1.0 / (1.0 + np.exp(-(VALUES - tensor.zero_point) * tensor.scale))
            return LossConstants(np.floor(EXP_TABLE_ONE * probability + 0.5).astype(np.int64), 0, share)
        case Loss.MEAN_SQUARED_ERROR:
            return LossConstants(nothing, largest, 2.0 * tensor.scale * share)
        case Loss.HUBER:
            delta = min(max(round(HUBER_DELTA / tensor.scale), 1), largest)
            return LossConstants(nothing, delta, tensor.scale * share)
    return LossConstants(nothing, 1, share)

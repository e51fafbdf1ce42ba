"""The user's samples: read, checked, and quantised as the network's input wants them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError
from rct_tflite.spec.graph import Graph, Inputs
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.spec.training_plan import Loss

_REAL = "biuf"
"""NumPy's kinds of real numbers: bool, signed, unsigned, float."""

_WRITE = "Write the file with numpy.savez(path, x=samples, y=labels)."


@dataclass(frozen=True, eq=False)
class Samples:
    """Quantised samples.

    Attributes:
        inputs: int8, or int32 where the network takes ids, (n, *input shape without batch).
        labels: int64 (n,), or None where the file has none, or the loss takes targets.
        targets: int8 (n, outputs) in the format that the loss takes, or None.
    """

    inputs: Inputs
    labels: npt.NDArray[np.int64] | None
    targets: npt.NDArray[np.int8] | None = None

    def first(self, count: int) -> "Samples":
        """Returns the first samples."""
        labels = None if self.labels is None else self.labels[:count]
        targets = None if self.targets is None else self.targets[:count]
        return Samples(self.inputs[:count], labels, targets)

    def require_wanted(self, loss: Loss) -> None:
        """Refuses samples without what the loss compares outputs with.

        Raises:
            DataError: If there are no labels, or no targets.
        """
        if loss.takes_class:
            self.labelled()
        elif self.targets is None:
            raise DataError(
                f"The samples have no targets. Expected an .npz with arrays 'x' and 'y' for the loss {loss}; 'y' may "
                "be left out where a network repeats its input. Received: 'x' alone."
            )

    def labelled(self) -> npt.NDArray[np.int64]:
        """Returns the labels.

        Raises:
            DataError: If there are none.
        """
        if self.labels is None:
            raise DataError(
                "The samples have no labels. Expected an .npz with arrays 'x' and 'y'. Received: 'x' alone."
            )
        return self.labels


def read_samples(path: Path, graph: Graph, loss: Loss = Loss.SOFTMAX_CROSS_ENTROPY) -> Samples:
    """Reads samples and brings them to int8; ids stay what they are.

    Args:
        path: `.npz` with `x` (n, *input shape) and, for learning and evaluation, `y`; or `.npy` with x alone.
            x is in the user's units: the network sees `x * input_scale + input_offset`, or ids. y has the class of each
            sample, (n,), or a target for each output, (n, *output shape), in real numbers. Without y, a network whose
            output is as large as its input learns to repeat it.
        graph: The network.
        loss: Says which.

    Raises:
        DataError: If the file cannot be read, a shape or dtype is wrong, a value is not finite, or an id out of range.
    """
    values, wanted = _load(path)
    inputs = quantize_inputs(values, graph)
    if loss.takes_class:
        return Samples(inputs, None if wanted is None else check_labels(wanted, len(values), graph))
    output = graph.tensors[graph.output]
    repeats = output.size == graph.tensors[graph.input].size and not graph.takes_ids
    if wanted is None and repeats and loss is not Loss.SIGMOID_CROSS_ENTROPY:
        wanted = values.astype(np.float64) * graph.training.input_scale + graph.training.input_offset
    return Samples(inputs, None, None if wanted is None else quantize_targets(wanted, len(values), graph, loss))


def quantize_targets(wanted: npt.NDArray[np.generic], count: int, graph: Graph, loss: Loss) -> npt.NDArray[np.int8]:
    """Quantises real targets (n, *output shape) as the loss takes them: int8 (n, outputs).

    Raises:
        DataError: If the shape or dtype is wrong, or a value is not finite.
    """
    output = graph.tensors[graph.output]
    real = wanted.dtype.kind in _REAL
    if not real or wanted.size != count * output.size or not np.isfinite(wanted.astype(np.float64)).all():
        raise DataError(
            f"The targets do not match the samples. Expected finite numbers of shape ({count}, "
            f"{', '.join(map(str, output.shape[1:]))}). Received: {wanted.dtype} of shape {wanted.shape}."
        )
    values = wanted.astype(np.float64).reshape(count, -1)
    if loss is Loss.SIGMOID_CROSS_ENTROPY:
        integers = np.round(values * (ACTIVATION_MAX - ACTIVATION_MIN)) + ACTIVATION_MIN
    else:
        integers = np.round(values / output.scale) + output.zero_point
    return np.clip(integers, ACTIVATION_MIN, ACTIVATION_MAX).astype(np.int8)


def quantize_inputs(values: npt.NDArray[np.generic], graph: Graph) -> Inputs:
    """Quantises samples in the user's units.

    Args:
        values: Numbers (n, *input shape without batch), or integers where the network takes ids.
        graph: The network.

    Returns:
        int8 of the same shape, where values outside the range of the input saturate; ids as int32.

    Raises:
        DataError: If the shape or dtype is wrong, there is no sample, a value is not finite, or an id out of range.
    """
    tensor = graph.tensors[graph.input]
    expected = tensor.shape[1:]
    if values.shape[1:] != expected or values.ndim == 0 or len(values) == 0:
        raise DataError(
            f"The samples have the wrong shape. Expected (n, {', '.join(map(str, expected))}) with n of at least 1. "
            f"Received: {values.shape}."
        )
    if graph.takes_ids:
        return _ids(values, graph)
    if values.dtype.kind not in _REAL:
        raise DataError(
            f"The samples are not real numbers. Expected a dtype such as float32 or uint8. Received: {values.dtype}. "
            "Convert them with x.astype('float32')."
        )
    real = values.astype(np.float64) * graph.training.input_scale + graph.training.input_offset
    bad = int(np.count_nonzero(~np.isfinite(real)))
    if bad:
        first = int(np.argmax(~np.isfinite(real.reshape(len(real), -1)).all(axis=1)))
        raise DataError(
            f"The samples hold {bad} values that are not finite (NaN or infinity), the first in sample {first}. "
            "Remove these samples."
        )
    integers = np.round(real / tensor.scale) + tensor.zero_point
    return np.clip(integers, ACTIVATION_MIN, ACTIVATION_MAX).astype(np.int8)


def _ids(values: npt.NDArray[np.generic], graph: Graph) -> npt.NDArray[np.int32]:
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(
            f"The network takes ids, the numbers of rows of its table. Expected integers from 0 to "
            f"{graph.id_limit - 1}. Received: {values.dtype}. Convert them with x.astype('int32')."
        )
    graph.check_ids(values)
    return values.astype(np.int32)


def check_labels(labels: npt.NDArray[np.generic], count: int, graph: Graph) -> npt.NDArray[np.int64]:
    """Returns labels as int64, if each is a class of the network.

    Raises:
        DataError: If the number, dtype or range is wrong.
    """
    classes = graph.tensors[graph.output].size
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"The labels do not match the samples. Expected integers of shape ({count},). "
            f"Received: {labels.dtype} of shape {labels.shape}. Give the number of its class for each sample, such as "
            "y.argmax(axis=1) of one-hot labels, or y.reshape(-1).astype('int64')."
        )
    if count and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"A label is out of range. Expected 0 to {classes - 1}. Received: {labels.min()} to {labels.max()}. "
            "Number the classes as the network's outputs."
        )
    return labels.astype(np.int64)


def _load(path: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic] | None]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content, None
        with content:
            found = sorted(content.files)
            arrays = {name: np.asarray(content[name]) for name in ("x", "y") if name in found}
    except Exception as error:  # whatever a damaged file makes NumPy, zipfile and their decompressors raise
        raise DataError(
            f"Cannot read the samples in {path}. Expected an .npz with arrays 'x' and 'y', or an .npy. "
            f"Received: {error}. {_WRITE}"
        ) from error
    if "x" not in arrays:
        raise DataError(f"The samples in {path} have no array 'x'. Expected 'x' and 'y'. Received: {found}. {_WRITE}")
    return arrays["x"], arrays.get("y")

"""The callback that gives each layer the bits that it needs, while the model trains."""

import math
import sys
from typing import Any

import keras

from rct_tflite.errors import QuantizationError, RecipeError
from rct_tflite.spec.quantization import EXPORT_BITS, MAX_BITS, MIN_BITS
from rct_tflite.training.memory import ParameterBytes, parameter_bytes
from rct_tflite.training.model import RCTModel
from rct_tflite.training.policy import BitPolicy
from rct_tflite.training.quantized_layer import QuantizedLayer


class RCTCallback(keras.callbacks.Callback):
    """Adapts the bit-width of each layer to how well it learns, and reports it.

    Every `interval` batches, a layer whose Gavg is below `t_min` gets one bit more, and one whose Gavg is above
    `t_max` gives one back. Gavg, the mean of `abs(gradient) / scale`, holds no learning rate, so a schedule that
    lowers the rate does not drive the bits up.

    `logs` and the history get `bits` (mean over the weights) and `parameter_bytes`; the history also gets, per
    layer, `bits/<layer>`, `gavg/<layer>`, `underflow/<layer>` and `saturated/<layer>`.

    Args:
        t_min: Below this Gavg a layer gets a bit. What matters is `learning_rate * t_min`: with stochastic
            rounding accuracy stops to grow at about 0.1 (the default at a learning rate of 0.1; take 5 at 0.02),
            truncation needs about 0.6. Measured in `models/digits/README.md`.
        t_max: Above this Gavg a layer gives a bit back; at least `2 * t_min`.
        interval: Batches between two decisions.
        min_bits: Narrowest width; None for that of each layer's recipe.
        max_bits: Widest width; None for that of each layer's recipe.
        verbose: 1 prints one line per epoch; use with `fit(verbose=0)`.

    Raises:
        RecipeError: If a threshold, the interval or a limit is out of range.
    """

    def __init__(
        self,
        t_min: float = 1.0,
        t_max: float = 4.0,
        interval: int = 25,
        min_bits: int | None = None,
        max_bits: int | None = None,
        verbose: int = 0,
    ):
        super().__init__()
        self.policy = BitPolicy(t_min, t_max)
        self.interval, self.min_bits, self.max_bits, self.verbose = interval, min_bits, max_bits, verbose
        low = MIN_BITS if min_bits is None else min_bits
        high = MAX_BITS if max_bits is None else max_bits
        if interval < 1 or not MIN_BITS <= low <= high <= MAX_BITS:
            raise RecipeError(
                f"Expected interval >= 1 and {MIN_BITS} <= min_bits <= max_bits <= {MAX_BITS}. "
                f"Received: interval={interval}, min_bits={min_bits}, max_bits={max_bits}."
            )
        self._decided = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks that the model has layers whose bits can change within the limits."""
        del logs
        if not isinstance(self.model, RCTModel):
            raise RecipeError(
                "RCTCallback adapts the bit-widths of an RCTModel. "
                f"Received: {type(self.model).__name__}. Make one with rct.quantize(model)."
            )
        for layer in self.model.quantized_layers:
            low, high = self._limits(layer)
            if low > high or (high > EXPORT_BITS and layer.recipe.max_bits <= EXPORT_BITS):
                raise RecipeError(
                    f"The limits of the callback do not fit layer {layer.name!r}. Received: min_bits={low}, "
                    f"max_bits={high}, with {layer.recipe}. Quantise with a Recipe that allows these bit-widths."
                )
        self._decided = self._interval_number()

    def _interval_number(self) -> int:
        # The optimizer's count goes on after loading a model, and over several steps per execution.
        return int(self.model.optimizer.iterations) // self.interval

    def _limits(self, layer: QuantizedLayer) -> tuple[int, int]:
        low = layer.recipe.min_bits if self.min_bits is None else self.min_bits
        high = layer.recipe.max_bits if self.max_bits is None else self.max_bits
        return low, high

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Decides on the bit-widths at the end of an interval."""
        del batch, logs
        number = self._interval_number()
        if number == self._decided:
            return
        self._decided = number
        for layer in self.model.quantized_layers:
            if layer.trainable:
                bits = int(layer.bits)
                layer.set_bits(self.policy.next_bits(bits, float(layer.gavg), *self._limits(layer)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Reports the epoch.

        Raises:
            QuantizationError: If the loss is not a finite number.
        """
        logs = {} if logs is None else logs
        if not math.isfinite(logs.get("loss", 0.0)):
            raise QuantizationError(
                f"Training diverged in epoch {epoch + 1}: the loss is {logs['loss']}. Expected a finite number. "
                "Look for NaN in the data, or lower the learning rate."
            )
        size = parameter_bytes(self.model)
        if self.verbose:
            sys.stdout.write(self._line(epoch, logs, size) + "\n")
            sys.stdout.flush()
        layers = self.model.quantized_layers
        weights = sum(layer.weight_count for layer in layers)
        logs["bits"] = sum(int(layer.bits) * layer.weight_count for layer in layers) / weights
        logs["parameter_bytes"] = size.rct
        # Per layer only into the history: in the logs they would fill Keras's progress bar.
        history = self.model.history.history
        for layer in layers:
            for name in ("bits", "gavg", "underflow", "saturated"):
                value = keras.ops.convert_to_numpy(getattr(layer, name)).item()
                history.setdefault(f"{name}/{layer.name}", []).append(value)

    def _line(self, epoch: int, logs: dict[str, Any], size: ParameterBytes) -> str:
        epochs = self.params.get("epochs", epoch + 1)
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        bits = " ".join(f"{layer.name}:{int(layer.bits)}" for layer in self.model.quantized_layers)
        return (
            f"epoch {epoch + 1:{len(str(epochs))}}/{epochs}  {metrics}  bits {bits}  {size.rct / 1000:.1f} kB "
            f"(float32 {size.float32 / 1000:.1f} kB, QAT {size.qat / 1000:.1f} kB)"
        )

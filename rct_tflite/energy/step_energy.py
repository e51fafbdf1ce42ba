"""The papers' energy of a training step, in joules of a target: what a run can be steered by.

**A model, not a measurement.** The kernels that we ship multiply 8-bit numbers whatever the width of the weights is,
and unpack narrower ones first: counted on a Cortex-M4, a step of a fully connected network takes more instructions at
6 bits than at 8. Narrower weights save their bytes there, not joules. What falls with the bits is the energy of the
papers' model (`paper_model.py`), of hardware whose multipliers shrink. Here that model is given a scale: at 8 bits a
multiply-accumulate costs what it costs with our kernels on the target, and a bit of a weight that is moved a 32nd of
a word's load. So a budget ranks bit-widths as the papers do, in a unit of the target; `rct-tflite estimate` says what
a step draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rct_tflite.energy.estimate import JOULES_PER_CYCLE
from rct_tflite.energy.paper_model import ACCESSES, GemmModel, LayerWork, gemm_energy, moved_bits
from rct_tflite.errors import TargetError
from rct_tflite.spec.target import Target

INSTRUCTIONS_PER_MAC = 3.0
"""Of our kernels at 8 bits, rounded: 736 thousand instructions for the 264 thousand of MLPerf Tiny's autoencoder."""
WORD_BITS = 32
ANCHOR_BITS = 8


@dataclass(frozen=True)
class StepEnergy:
    """The papers' energy of a training step of one sample, in joules.

    Attributes:
        mac_j: Of one multiply-accumulate in float32, by the model.
        bit_j: Of moving one bit of a weight.
        model: How a multiply-accumulate shrinks with the bits.

    Example:
        >>> step = StepEnergy(mac_j=16e-9, bit_j=0.0)
        >>> wide, narrow = (LayerWork(bits, 100, 1000, input_gradient=False) for bits in (8, 4))
        >>> round(step.joules([wide]) * 1e6, 3), round(step.joules([narrow]) * 1e6, 3)
        (2.0, 1.5)
    """

    mac_j: float
    bit_j: float
    model: GemmModel = GemmModel.BITS_PRODUCT

    def joules(self, layers: Sequence[LayerWork]) -> float:
        """Returns the energy of a step: all GEMMs, and all weights moved four times.

        Args:
            layers: The weights that the step works with.
        """
        return sum(self._layer(layer) for layer in layers)

    def _layer(self, layer: LayerWork) -> float:
        moved = layer.weight_count * moved_bits(layer.bits, ACCESSES[-1])
        return self.mac_j * gemm_energy(layer, self.model) + self.bit_j * moved


def joules_by_bits(step: StepEnergy, layer: LayerWork, most_bits: int) -> tuple[float, ...]:
    """Returns a layer's part of a step's energy at each width from 0 to `most_bits`, in joules.

    Example:
        >>> joules_by_bits(StepEnergy(mac_j=0.0, bit_j=1.0), LayerWork(8, 10, 0), 2)
        (0.0, 40.0, 80.0)
    """
    return tuple(step.joules([replace(layer, bits=bits)]) for bits in range(most_bits + 1))


def step_energy(target: Target, model: GemmModel = GemmModel.BITS_PRODUCT) -> StepEnergy:
    """Returns the papers' energy of a training step with the scale of a target.

    Args:
        target: Its cycles per instruction and power; the middles of their intervals.
        model: How a multiply-accumulate shrinks with the bits.

    Raises:
        TargetError: If the target draws nothing.

    Example:
        >>> from rct_tflite.spec.target_file import find_target
        >>> 1e-10 < step_energy(find_target("stm32l4r5")).mac_j / 16 < 1e-8
        True
    """
    power = target.active_mw_per_mhz.value
    if not power > 0:
        raise TargetError(f"A budget in joules needs a target that draws power. Received: {target.name}, {power}.")
    cpi = dict(target.op_cpi)
    mac_cpi, move_cpi = (cpi.get(name, target.cycles_per_instruction).value for name in ("mac", "move"))
    anchor = LayerWork(ANCHOR_BITS, 1, 1.0, input_gradient=False, weight_gradient=False)
    mac_j = INSTRUCTIONS_PER_MAC * mac_cpi * power * JOULES_PER_CYCLE
    return StepEnergy(
        mac_j=mac_j / gemm_energy(anchor, model),
        bit_j=move_cpi * power * JOULES_PER_CYCLE / WORD_BITS,
        model=model,
    )

"""By what a search judges update sets: what rows and biases promise, and what a whole fine-tuning would come to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rct_tflite.planning.forecast import Forecast, Forecaster
from rct_tflite.planning.gains import LayerGain, Progress, measure_gains, unseen
from rct_tflite.planning.tangents import measure_tangents
from rct_tflite.spec.aid_options import NO_AIDS
from rct_tflite.spec.graph import Graph, Inputs
from rct_tflite.spec.step_options import PLAIN_STEP
from rct_tflite.spec.training_plan import TrainingPlan

FORECAST = (
    "smallest loss after fine-tuning: the geometric mean of that on your samples, learnt and held out, as foretold by "
    "the network's tangents"
)
GAIN = (
    "largest sum of learning rate * squared gradient: mean first-order decrease of the loss by a step on a sample (the "
    "network has too many outputs or weights to foretell a whole fine-tuning)"
)


@dataclass(frozen=True, eq=False)
class Prospects:
    """Of one network and the user's samples.

    Attributes:
        gains: Of each op that may learn.
        forecaster: None where the network has too many outputs or weights for it.
    """

    gains: Mapping[str, LayerGain]
    forecaster: Forecaster | None = None

    @property
    def criterion(self) -> str:
        """What the best update set has most, or least, of."""
        return FORECAST if self.forecaster else GAIN

    def gain(self, plan: TrainingPlan) -> float:
        """Returns the sum of what an update set's biases and rows promise, in units of the loss for a step."""
        total = 0.0
        for name in plan.trained:
            weights = self.gains[name].weights
            total += self.gains[name].biases + float(weights[list(plan.channels_of(name, len(weights)))].sum())
        return total

    def forecast(self, plan: TrainingPlan) -> Forecast | None:
        """Returns what fine-tuning of an update set would come to, where that can be foretold."""
        return self.forecaster.forecast(plan) if self.forecaster else None


def measure_prospects(
    graph: Graph,
    plan: TrainingPlan,
    inputs: Inputs,
    wanted: npt.NDArray[np.signedinteger],
    progress: Progress = unseen,
) -> Prospects:
    """Measures with the integer reference what may learn, on the user's samples; nothing learns meanwhile.

    Args:
        graph: The network.
        plan: What may learn, all of it; its learning rate, loss and options of the step.
        inputs: int8, or int32 ids, (n, *input shape without batch); of many, some that are spread over all are taken.
        wanted: The class of each, (n,), or int8 targets (n, outputs), as the loss takes it.
        progress: Called with how many samples are done, and of how many; they are looked at once for gains, and once
            for forecasts.
    """
    plain = replace(plan, options=PLAIN_STEP, aids=NO_AIDS)
    gains = measure_gains(graph, plain, inputs, wanted, progress)
    tangents = measure_tangents(graph, plain, inputs, progress)
    if tangents is None:
        return Prospects(gains)
    return Prospects(gains, Forecaster(graph, plan, tangents, wanted[tangents.chosen]))

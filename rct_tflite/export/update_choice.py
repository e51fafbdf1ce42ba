"""What learns: as the user said it, or as a search finds it with their samples."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rct_tflite.errors import DataError, RecipeError
from rct_tflite.firmware.samples import read_samples
from rct_tflite.planning.gains import Progress, measure_gains, reachable, unseen
from rct_tflite.planning.options import NO_REQUEST, StepRequest, aid_options, step_options
from rct_tflite.planning.prospects import measure_prospects
from rct_tflite.planning.recomputation import AUTO as AUTO_RECOMPUTATION
from rct_tflite.planning.roomier_search import search_with_recomputation
from rct_tflite.planning.search import NO_LIMITS, Candidate, Limits, Search
from rct_tflite.planning.selection import select
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.step_options import StepOptions
from rct_tflite.spec.target import Target
from rct_tflite.spec.training_plan import TrainingPlan

AUTO = "auto"


@dataclass(frozen=True)
class UpdateChoice:
    """What the user said of what learns.

    Attributes:
        train: As `select()` reads it, or "auto".
        learning_rate: On the device; None takes the model's.
        loss: What a training step makes smaller; None takes the model's.
        samples: Labelled samples that say which layers and channels promise most.
        limits: Of what "auto" chooses.
        error_bits: Bit-width of the errors.
        recompute: What may be computed again so that a larger set fits, as `choose_recomputation()` reads it.
    """

    train: str
    learning_rate: float | None = None
    loss: str | None = None
    samples: Path | None = None
    limits: Limits = NO_LIMITS
    error_bits: int = 8
    recompute: str = AUTO_RECOMPUTATION


def choose_plan(
    graph: Graph,
    target: Target,
    choice: UpdateChoice,
    request: StepRequest = NO_REQUEST,
    progress: Progress = unseen,
) -> tuple[TrainingPlan, Search | None]:
    """Returns the plan, and the search that found it, if one did.

    Args:
        graph: The network.
        target: For the limits of a search, where the user set none.
        choice: What the user said.
        request: Options of the training step, and aids.
        progress: Called while the samples are looked at, with how many are done, and of how many.

    Raises:
        RecipeError: If what learns cannot be read, or limits but that of RAM come without "auto".
        DataError: If "auto" comes without samples, or they have no labels.
        FitError: If nothing is within the limits.
    """
    train, limits = choice.train, choice.limits
    options = step_options(graph, request)
    if train != AUTO and replace(limits, ram=None) != NO_LIMITS:
        raise RecipeError(
            "Limits but that of RAM are for a search. Expected --train auto with --flash, --time-per-step or "
            f"--energy-per-step. Received: --train {train}. Leave the limits out, or search."
        )
    if train == AUTO and choice.samples is None:
        raise DataError(
            "--train auto asks your samples what is worth learning. Expected --samples with an .npz of 'x' and 'y', "
            "such as what the device will learn from. Received: none. Give --samples, or say what learns."
        )
    if choice.samples is None:
        return _asked_for(select(graph, train, choice.learning_rate, choice.loss), choice, options, request), None
    everything = reachable(graph, select(graph, "all", choice.learning_rate, choice.loss))
    samples = read_samples(choice.samples, graph, everything.loss)
    samples.require_wanted(everything.loss)
    wanted = samples.labelled() if everything.loss.takes_class else samples.targets
    assert wanted is not None
    if train != AUTO:
        gains = measure_gains(graph, everything, samples.inputs, wanted, progress)
        rows = {name: gain.weights for name, gain in gains.items()}
        chosen = select(graph, train, choice.learning_rate, choice.loss, rows)
        return _asked_for(chosen, choice, options, request), None
    may_learn = _asked_for(everything, choice, options, request)
    prospects = measure_prospects(graph, may_learn, samples.inputs, wanted, progress)
    search = search_with_recomputation(graph, may_learn, prospects, target, limits, choice.recompute)
    return search.best.plan, search


def _asked_for(plan: TrainingPlan, choice: UpdateChoice, options: StepOptions, request: StepRequest) -> TrainingPlan:
    return replace(plan, options=options, aids=aid_options(plan.loss, request), error_bits=choice.error_bits)


def search_record(search: Search) -> dict[str, Any]:
    """Returns a search as JSON takes it, for the manifest."""
    return {
        "criterion": search.criterion,
        "limits": asdict(search.limits),
        "best": search.best.name,
        "instructions": {**asdict(search.counts.step), "guessed": list(search.counts.guessed)},
        "candidates": [_row(candidate) for candidate in search.candidates],
    }


def _row(candidate: Candidate) -> dict[str, Any]:
    plan = candidate.plan
    parts = {part.op: list(part.channels) for part in plan.partial}
    return {
        "name": candidate.name,
        "trained": list(plan.trained),
        "partial": parts,
        "recomputed": list(plan.recomputed),
        "gain": candidate.gain,
        "forecast": None if candidate.forecast is None else asdict(candidate.forecast),
        "fits": candidate.fits,
        **asdict(candidate.cost),
    }

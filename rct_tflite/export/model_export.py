"""From a `.keras` or `.tflite` to an artifact folder: the one door to everything after training."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rct_tflite.errors import DataError, ModelFileError
from rct_tflite.export.micro_artifacts import MicroArtifacts, write_micro_artifacts
from rct_tflite.export.output_folder import staged_folder
from rct_tflite.export.update_choice import UpdateChoice, choose_plan, search_record
from rct_tflite.firmware.manifest import MODEL_FILE, TARGET_FILE, Manifest, sha256
from rct_tflite.firmware.project import emulated, write_firmware
from rct_tflite.firmware.samples import read_samples
from rct_tflite.planning.adaptation import AdaptationOptions, adapt
from rct_tflite.planning.error_width import ErrorWidths, compare_error_widths
from rct_tflite.planning.fit import MemoryNeed, check_fit, memory_need
from rct_tflite.planning.flash import GOLDEN_VECTORS
from rct_tflite.planning.gains import Progress, unseen
from rct_tflite.planning.memory import MemoryPlan, plan_memory
from rct_tflite.planning.options import NO_REQUEST, StepRequest
from rct_tflite.planning.recomputation import AUTO, Recomputation, choose_recomputation
from rct_tflite.planning.search import NO_LIMITS, Limits, Search
from rct_tflite.planning.widths import learning_widths, read_widths
from rct_tflite.reference.rates import check_schedule
from rct_tflite.spec.aid_options import NO_AIDS
from rct_tflite.spec.graph import Graph, Inputs, TrainingMetadata
from rct_tflite.spec.step_options import PLAIN_STEP
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import find_target, target_path
from rct_tflite.spec.training_plan import Loss, TrainingPlan
from rct_tflite.tflite.reader import read_graph
from rct_tflite.tflite.rescale import widen_weights, without_wide_weights

MICRO_FOLDER = "tflite-micro"
GOLDEN_SEED = 7


@dataclass(frozen=True)
class ExportOptions:
    """What the user chose.

    Attributes:
        train: What learns, as `select()` reads it, or "auto".
        learning_rate: On the device; None takes the model's.
        data: Representative samples for the golden vectors; None takes random ones.
        labels: Names of the classes.
        force: Whether an existing folder is replaced.
        loss: What a training step makes smaller; None takes the model's.
        step: Of the training step, as the user wrote it.
        samples: Labelled samples that say which layers and channels promise most.
        limits: Of what "auto" chooses; that of RAM holds for any choice.
        error_bits: Bit-width of the errors of the backward pass.
        adaptation: How bit-widths follow the training on the device; None keeps them.
        weight_bits: Bit-widths that weights get before, as `read_widths()` reads them; None leaves them.
        recompute: Which activations the backward pass computes again, as `choose_recomputation()` reads it.
    """

    train: str = "all"
    learning_rate: float | None = None
    data: Path | None = None
    labels: tuple[str, ...] = ()
    force: bool = False
    loss: str | None = None
    step: StepRequest = NO_REQUEST
    samples: Path | None = None
    limits: Limits = NO_LIMITS
    error_bits: int = 8
    adaptation: AdaptationOptions | None = None
    weight_bits: str | None = None
    recompute: str = AUTO


@dataclass(frozen=True, eq=False)
class Export:
    """What was written.

    `inference` is what the network needs where nothing learns; `search` is None where the user said what learns,
    `errors` where nothing does, `recomputation` where everything that the backward pass reads is kept.
    """

    folder: Path
    graph: Graph
    plan: TrainingPlan
    memory: MemoryPlan
    need: MemoryNeed
    inference: MemoryNeed
    search: Search | None
    errors: ErrorWidths | None
    recomputation: Recomputation | None
    target: Target
    micro: MicroArtifacts


def export_model(
    model: Path, target_name: str, out: Path, options: ExportOptions, progress: Progress = unseen
) -> Export:
    """Writes `model.tflite`, the TFLite-Micro artifacts and the C project into a folder.

    Args:
        model: A `.keras` file of an RCT model, or any int8 `.tflite` of the supported ops.
        target_name: A known target, or the path of a target file.
        out: The folder to write; it appears whole or not at all.
        options: What the user chose.
        progress: Called while `--train auto` looks at the samples, with how many are done, and of how many.

    Raises:
        RCTError: If the target is unknown, the model cannot be read or does not fit, samples are wrong, or the folder
            exists.
    """
    target = find_target(target_name)
    emulated(target)  # refuses an unknown core before anything is converted
    with staged_folder(out, options.force) as folder:
        content = _tflite_of(model, options)
        content, plan, search = _choose(content, model.stem, target, options, progress)
        graph = read_graph(content, name=model.stem)
        # What is computed again follows from the whole plan, below.
        plan = dataclasses.replace(plan, recomputed=())
        if options.adaptation is not None:
            plan = adapt(graph, plan, options.adaptation)
        check_schedule(graph, plan)  # refuses what cannot be trained, before anything is written
        ram = target.ram.size if options.limits.ram is None else min(options.limits.ram, target.ram.size)
        recomputation = _recomputation(graph, plan, target, options.recompute, ram)
        plan = plan if recomputation is None else recomputation.plan
        memory = plan_memory(graph, plan)
        need = check_fit(graph, memory, target, ram)
        nothing = dataclasses.replace(plan, trained=(), partial=(), options=PLAIN_STEP, aids=NO_AIDS, adaptation=None)
        inference = memory_need(graph, plan_memory(graph, nothing), target)
        golden = _golden_inputs(graph, options.data, plan.loss)
        (folder / MODEL_FILE).write_bytes(content)
        shutil.copyfile(target_path(target_name), folder / TARGET_FILE)
        Manifest(
            network=graph.name,
            model_sha256=sha256(content),
            trained=plan.trained,
            learning_rate=plan.learning_rate,
            rounding=str(plan.rounding),
            loss=str(plan.loss),
            partial=plan.partial,
            options=plan.options,
            aids=plan.aids,
            adaptation=plan.adaptation,
            search=None if search is None else search_record(search),
            error_bits=plan.error_bits,
            recomputed=plan.recomputed,
        ).write(folder)
        write_firmware(folder, graph, plan, memory, target, golden)
        (folder / MICRO_FOLDER).mkdir()
        inference_file = without_wide_weights(content)
        micro = write_micro_artifacts(
            folder / MICRO_FOLDER, read_graph(inference_file, graph.name), inference_file, golden
        )
        errors = _error_widths(graph, plan, options) if plan.trained else None
    return Export(out, graph, plan, memory, need, inference, search, errors, recomputation, target, micro)


def _recomputation(graph: Graph, plan: TrainingPlan, target: Target, request: str, ram: int) -> Recomputation | None:
    beside = memory_need(graph, plan_memory(graph, plan), target)

    def fits(arena: int) -> bool:
        return dataclasses.replace(beside, arena=arena).ram <= ram

    return choose_recomputation(graph, plan, target.core, request, fits)


def _choose(
    content: bytes, name: str, target: Target, options: ExportOptions, progress: Progress
) -> tuple[bytes, TrainingPlan, Search | None]:
    """Returns the file with its weights widened, what learns, and the search for it, if there was one."""
    graph = read_graph(content, name)
    text = options.weight_bits
    widths = {} if text is None else read_widths(graph, text)
    choice = UpdateChoice(
        options.train,
        options.learning_rate,
        options.loss,
        options.samples,
        options.limits,
        options.error_bits,
        options.recompute,
    )
    widest = read_graph(widen_weights(content, widths), name)  # a search must know the RAM that they take
    plan, search = choose_plan(widest, target, choice, options.step, progress)
    if text is not None:
        content = widen_weights(content, learning_widths(plan, text, widths))
    return content, plan, search


def _tflite_of(model: Path, options: ExportOptions) -> bytes:
    if model.suffix == ".keras":
        # Imported here: a .tflite is exported without TensorFlow.
        from rct_tflite.export.tflite_export import export_tflite
        from rct_tflite.training.freeze import freeze
        from rct_tflite.training.saving import load_model

        # Exporting needs no loss, and a loss of the user may not be registered here.
        network = dataclasses.replace(freeze(load_model(model, compile=False)), name=model.stem)
        classes = int(np.prod(network.layers[-1].output_shape))
        _check_label_names(options.labels, classes)
        return export_tflite(network, TrainingMetadata(labels=options.labels, rounding=network.rounding))
    if model.suffix == ".tflite":
        if options.labels:
            raise DataError(
                "Labels cannot be put into a finished .tflite. Expected a .keras. Received: --labels with a .tflite. "
                "Leave --labels out."
            )
        try:
            return model.read_bytes()
        except OSError as error:
            raise ModelFileError(f"Cannot read {model}: {error}. Check the path.") from error
    raise ModelFileError(
        f"Cannot export {model.name}. Expected a .keras or a .tflite file. Received: {model.suffix!r}."
    )


def _check_label_names(labels: Sequence[str], classes: int) -> None:
    if labels and (len(labels) != classes or not all(labels)):
        raise DataError(
            f"The labels do not fit the model. Expected {classes} names with commas between, one for each output. "
            f"Received: {len(labels)}, {list(labels)}. Leave --labels out, or name each class."
        )


def _error_widths(graph: Graph, plan: TrainingPlan, options: ExportOptions) -> ErrorWidths:
    """Compares the bit-widths of errors of a plain step, on the user's labelled samples where there are any."""
    plain = dataclasses.replace(plan, options=PLAIN_STEP, aids=NO_AIDS, adaptation=None)
    path = options.samples or options.data
    samples = None if path is None else read_samples(path, graph, plan.loss)
    if samples is None:
        return compare_error_widths(graph, plain)
    wanted = samples.labels if plan.loss.takes_class else samples.targets
    return compare_error_widths(graph, plain, samples.inputs, wanted)


def _golden_inputs(graph: Graph, data: Path | None, loss: Loss) -> Inputs:
    if data is not None:
        return read_samples(data, graph, loss).inputs[:GOLDEN_VECTORS]
    return graph.random_inputs(GOLDEN_VECTORS, np.random.default_rng(GOLDEN_SEED))

"""Turns a graph, what learns in it and its memory plan into the generated model.c."""

from rct_tflite.firmware.adaptation_source import add_adaptation
from rct_tflite.firmware.backward_source import add_backward
from rct_tflite.firmware.forward_source import add_forward
from rct_tflite.firmware.option_source import add_accumulation, add_aids, add_error_scaling
from rct_tflite.firmware.source import ModelSource, names_of, places_of
from rct_tflite.firmware.tables import comment_text
from rct_tflite.planning.memory import MemoryPlan
from rct_tflite.reference.constants import mask_bounds
from rct_tflite.reference.losses import LossConstants, loss_constants, loss_tensor
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.random import DEFAULT_SEED
from rct_tflite.spec.graph import Graph, Inputs
from rct_tflite.spec.training_plan import Loss, TrainingPlan

RUNTIME_VERSION = 2
"""Must equal RCT_RUNTIME_VERSION of rct.h: the generated code refuses another one."""

_LOSS_KERNELS = {
    Loss.SOFTMAX_CROSS_ENTROPY: "rct_softmax_cross_entropy",
    Loss.SIGMOID_CROSS_ENTROPY: "rct_sigmoid_cross_entropy",
}
"""The others look at the difference between output and target."""


def model_source(graph: Graph, plan: TrainingPlan, memory: MemoryPlan, golden_inputs: Inputs) -> ModelSource:
    """Describes model.c.

    Args:
        graph: The network.
        plan: What learns.
        memory: Where everything lies.
        golden_inputs: int8, or int32 ids, (n, *input shape without batch); their outputs are the reference's.

    Raises:
        UnsupportedLayerError: If a size does not fit the runtime's tables.
    """
    names, read = names_of(graph, plan, memory), loss_tensor(graph, plan.loss)
    source = ModelSource(
        network=comment_text(graph.name),
        runtime_version=RUNTIME_VERSION,
        learns=bool(plan.trained),
        arena_bytes=memory.arena_bytes,
        parameter_bytes=memory.parameter_bytes,
        gains=max(len(memory.gains), 1),
        exponents=len(memory.exponents),
        error_bits=plan.error_bits,
        input_bytes=graph.input_bytes,
        input_count=graph.tensors[graph.input].size,
        classes=graph.tensors[graph.output].size,
        trace_bytes=sum(graph.tensors[op.output].size for op in graph.ops),
        golden_count=len(golden_inputs),
        input=names.operand(graph.input),
        output=names.operand(graph.output),
        logits=names.operand(read),
        loss_kernel=_LOSS_KERNELS.get(plan.loss, "rct_difference_error"),
        loss_error=names.error(read) if plan.trained else "",
        target="" if plan.loss.takes_class else "TARGET",
        places=places_of(names),
    )
    if graph.takes_ids:
        source.includes += ["rct_gather.h", "rct_input.h"]
        source.ids = f"rct_ids_are_sound(IDS, {source.input_count}, {graph.id_limit})"
    for op in graph.ops:
        add_forward(names, source, op)
        output, size = names.operand(op.output), graph.tensors[op.output].size
        if op.output in memory.masks:
            low, high = mask_bounds(graph, op)
            source.forward.append(f"rct_save_mask({output}, {size}, {low}, {high}, MASK_{op.output});")
        source.forward.append(f"rct_trace({output}, {size});")
    if plan.trained:
        _add_loss(source, loss_constants(graph, plan.loss), plan.loss)
        add_error_scaling(names, source)
        add_backward(names, source)
        add_adaptation(names, source)
        add_accumulation(names, source)
        source.reset += [f"gains[{index}] = RCT_GAIN_UNSET;" for index in range(source.gains)]
        source.reset.append(f"backward.random = {DEFAULT_SEED}u;")
        add_aids(names, source)
    ctype = "uint16_t" if graph.takes_ids else "int8_t"
    source.add_table("golden_inputs", ctype, "samples of the self-test", golden_inputs)
    outputs = ReferenceNetwork(graph).run(golden_inputs)
    source.add_table("golden_outputs", "int8_t", "what TFLite-Micro answers to them", outputs)
    return source


def _add_loss(source: ModelSource, c: LossConstants, loss: Loss) -> None:
    if loss.takes_class:
        source.add_table("exp_table", "uint16_t", "2**15 * exp(-scale * distance)", c.table)
        source.add_struct("rct_loss_t", "loss", exp_table="exp_table", exp_entries=c.table.size, classes=source.classes)
        return
    table = "NULL"
    if c.table.size:
        table = "sigmoid_table"
        source.add_table(table, "uint16_t", "2**15 * sigmoid", c.table)
    source.add_struct("rct_target_loss_t", "loss", sigmoid_table=table, count=source.classes, limit=c.limit)

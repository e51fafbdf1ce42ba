"""Bit-widths follow the training: NumPy, PC and emulated cores change the same widths and learn the same bytes."""

import dataclasses
import struct
from functools import cached_property

import numpy as np
import pytest

from rct_tflite.device.protocol import Command, LayerWidth, Request
from rct_tflite.emulator import available_emulators
from rct_tflite.errors import DeviceError
from rct_tflite.firmware.parameters import decode_parameters, decode_resolutions, tuned_model
from rct_tflite.firmware.session import emulated_runner, exchange, host_runner
from rct_tflite.planning.adaptation import AdaptationOptions
from rct_tflite.planning.memory import slots_at
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.packing import room_bytes
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation, LayerTraining, OpKind, TrainingMetadata
from rct_tflite.tflite.flatfile import load_model, pack_model, schema
from rct_tflite.tflite.metadata import METADATA_NAME, encode_metadata
from rct_tflite.tflite.oracle import run_micro
from rct_tflite.tflite.reader import read_graph
from tests.firmware.conftest import TARGET, Case, mixed
from tests.graphs import GraphBuilder
from tests.tflite.one_op import ModelBuilder, Quantised, branched

STEPS = 150


def dense(rounding):
    builder = GraphBuilder((24,)).dense(13, bits=5).dense(7, bits=6, per_channel=True)
    return builder.dense(4, Activation.NONE, bits=4).graph(rounding=rounding)


def spread_model(lowest=-128, told=True):
    """Depthwise, and transposed with a bias: a file of others, 8 bits, with -128 among its weights, and told widths."""
    random, builder = np.random.default_rng(3), ModelBuilder()
    source = builder.tensor(Quantised((1, 5, 4, 2), 0.05))
    weights = Quantised.constant(
        random.integers(lowest, 128, (1, 3, 2, 4), np.int8), random.uniform(0.004, 0.008, 4), axis=3
    )
    same = {"strideH": 1, "strideW": 1, "padding": 0, "fusedActivationFunction": 1}
    depthwise = {**same, "depthMultiplier": 2, "dilationHFactor": 1, "dilationWFactor": 1}
    hidden = builder.op(OpKind.DEPTHWISE_CONV_2D, [source, weights], Quantised((1, 5, 4, 4), 0.02, -128), **depthwise)
    shape = Quantised.constant(np.array((1, 5, 8, 3), np.int32))
    weights = Quantised.constant(random.integers(lowest, 128, (3, 2, 3, 4), np.int8), 0.004)
    bias = Quantised.constant(random.integers(-3000, 3000, 3).astype(np.int32), 0.02 * 0.004)
    result, transposed = Quantised((1, 5, 8, 3), 0.03), {"strideH": 1, "strideW": 2, "padding": 0}
    last = builder.op(OpKind.TRANSPOSE_CONV, [shape, weights, hidden, bias], result, **transposed)
    model = builder.model(source, last)
    return with_metadata(model) if told else model


def with_metadata(model):
    """The file with widths that it starts with."""
    tree, layers = load_model(model), [op.name for op in read_graph(model).ops if op.has_weights]
    content = encode_metadata(TrainingMetadata(layers=tuple(LayerTraining(name, 8) for name in layers)))
    tree.buffers.append(schema().BufferT(data=np.frombuffer(content, np.uint8)))
    tree.metadata = [schema().MetadataT(name=METADATA_NAME.encode(), buffer=len(tree.buffers) - 1)]
    return pack_model(tree)


def room(graph):
    return sum(room_bytes(*graph.row_shape(op), graph.bits_of(op)) for op in graph.ops if op.has_weights)


class Swinging(Case):
    """Samples that ask for little first, then for much, then for little again."""

    def __post_init__(self):
        super().__post_init__()
        zero_point, third = self.graph.tensors[self.graph.input].zero_point, self.steps // 3
        faint = [slice(0, third), slice(2 * third, None)]
        for part in faint:
            self.samples[part] = zero_point + self.samples[part] // 32
        self.samples[third : 2 * third] = np.where(self.samples[third : 2 * third] < 0, -128, 127)

    @cached_property
    def trainer(self):
        """The reference after all steps; checks the budget at each of them."""
        trainer = ReferenceTrainer(self.graph, self.plan)
        self.history = [(self.trainer_bits(trainer), trainer.adapter.octaves)]
        for sample, label in zip(self.samples, self.labels, strict=True):
            trainer.step(sample, int(label))
            self.history.append((self.trainer_bits(trainer), trainer.adapter.octaves))
            assert self.rows_bytes(trainer.adapter.bits) <= self.plan.adaptation.budget_bytes
            assert len(trainer.parameter_block()) == self.memory.parameter_bytes
        return trainer

    def trainer_bits(self, trainer):
        return tuple(trainer.adapter.bits.values())

    def rows_bytes(self, bits):
        learning = {slot.op: len(slot.channels) for slot in self.memory.slots}
        depths = {op.name: self.graph.row_shape(op)[1] for op in self.graph.ops if op.name in bits}
        return sum(room_bytes(learning[name], depth, bits[name]) for name, depth in depths.items())

    @cached_property
    def learnt(self):
        return self.trainer.parameter_block()

    @cached_property
    def moves(self):
        """Which kinds of changes the reference saw: widths up and down, ranges doubled."""
        assert self.trainer
        kinds = set()
        for (bits, octaves), (next_bits, next_octaves) in zip(self.history, self.history[1:], strict=False):
            for name, before, after in zip(octaves, bits, next_bits, strict=True):
                kinds |= {"up"} if after > before else {"down"} if after < before else set()
                kinds |= {f"to {after}"} if {before, after} == {8, 9} else set()
                kinds |= {"range"} if next_octaves[name] - octaves[name] > min(before, 8) - min(after, 8) else set()
        return kinds


def wide():
    """Narrow and wide beside each other; what crosses 8 bits, either way."""
    builder = GraphBuilder((5, 4, 2), seed=2).conv(5, bits=9, per_channel=True).max_pool(2)
    return builder.reshape(20).dense(7, bits=8).dense(4, Activation.NONE, bits=10).graph(rounding="truncate")


CASES = {
    "dense, truncated": (dense("truncate"), "2:8", 3.0, room(dense("truncate")) + 40),
    "mixed": (mixed(), "2:8", 3.0, room(mixed()) + 12),
    "spread": (read_graph(spread_model()), "2:8", 3.0, None),
    "branches": (branched(), "2:8", 3.0, None),
    "wide, truncated": (wide(), "4:16", 3.0, room(wide()) + 60),
    "wide, spread": (read_graph(spread_model()), "6:12", 20.0, None),
}
RECOMPUTED = ("branches",)


def case_of(folder, name, target=TARGET) -> Swinging:
    graph, limits, t_min, budget = CASES[name]
    options = AdaptationOptions(limits, budget_bytes=budget, interval=5, t_min=t_min)
    return Swinging(folder, graph, "all", target, steps=STEPS, adaptation=options, recomputes=name in RECOMPUTED)


@pytest.fixture(scope="module", params=CASES)
def swinging(request, tmp_path_factory) -> Swinging:
    return case_of(tmp_path_factory.mktemp("adapted"), request.param)


def test_widths_go_both_ways(swinging):
    assert swinging.moves >= {"up", "down"}
    assert swinging.graph is not CASES["branches"][0] or "range" in swinging.moves
    if swinging.plan.adaptation.max_bits > 8:
        assert swinging.moves >= {"to 8", "to 9"}


@pytest.fixture(scope="module")
def host_case(swinging):
    return swinging, host_runner(swinging.build("host", sanitize=True).image)


def test_host_learns_the_bytes_of_the_reference(host_case):
    """The parameter block holds the widths, too; sanitizers stop at an access outside of it."""
    case, runner = host_case
    requests = [Request(Command.SELF_TEST), *case.lessons(), Request(Command.READ_WIDTHS)]
    *_, widths, block = exchange(runner, [*requests, Request(Command.READ_PARAMETERS)])
    assert block.payload == case.learnt
    adapter = case.trainer.adapter
    told = zip(adapter.gavg.values(), adapter.bits.values(), adapter.octaves.values(), strict=True)
    assert LayerWidth.decode(widths.payload) == tuple(LayerWidth(*values) for values in told)


@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("dense, truncated", "cortex-m4"),
        ("dense, truncated", "cortex-m7"),
        ("mixed", "cortex-m4"),
        ("mixed", "cortex-m7"),
        ("spread", "cortex-m0plus"),
        ("wide, truncated", "cortex-m4"),
        ("wide, spread", "cortex-m0plus"),
    ],
)
def test_emulated_cores_learn_the_bytes_of_the_reference(tmp_path, name, core):
    case = case_of(tmp_path, name, dataclasses.replace(TARGET, core=core))
    assert case.learn(emulated_runner(available_emulators(core)[0], case.build(core).image)) == case.learnt


def test_damaged_widths_are_refused(host_case):
    case, runner = host_case
    assert exchange(runner, [Request(Command.WRITE_PARAMETERS, case.learnt)])
    adaptation = case.plan.adaptation
    widest = bytes([adaptation.max_bits, 0]) * len(case.plan.trained)
    over_budget = case.rows_bytes(dict.fromkeys(case.plan.trained, adaptation.max_bits)) > adaptation.budget_bytes
    for damage in (
        b"\x01",
        bytes([adaptation.max_bits + 1]),
        bytes([adaptation.min_bits, 0x7F]),
        *([widest] if over_budget else []),
    ):
        with pytest.raises(DeviceError, match="WRITE_PARAMETERS: ERR_ARGUMENT"):
            exchange(runner, [Request(Command.WRITE_PARAMETERS, damage + case.learnt[len(damage) :])])


def test_damaged_biases_are_refused(host_case):
    case, runner = host_case
    widths = {name: r.bits for name, r in decode_resolutions(case.graph, case.memory, case.learnt).items()}
    learning = {slot.op: slot.channels for slot in case.memory.slots}
    slots, _ = slots_at(case.graph, learning, widths, case.memory.header_bytes)
    block = bytearray(case.learnt)
    for bias in (2**31 - 1, -(2**31)):
        block[slots[-1].bias : slots[-1].bias + 4] = struct.pack("<i", bias)
        with pytest.raises(DeviceError, match="WRITE_PARAMETERS: ERR_ARGUMENT"):
            exchange(runner, [Request(Command.WRITE_PARAMETERS, bytes(block))])


def test_what_was_learnt_is_read_back(swinging):
    case = swinging
    decoded = decode_parameters(case.graph, case.memory, case.learnt)
    network = case.trainer.network
    for op in case.graph.ops:
        if op.has_weights:
            weights, bias = decoded[op.name]
            rows = case.graph.weights_of_rows(op, network.seen_weights(op))
            np.testing.assert_array_equal(weights, rows)
            np.testing.assert_array_equal(bias, network.biases[op.name])
    widths = decode_resolutions(case.graph, case.memory, case.learnt)
    assert {name: width.bits for name, width in widths.items()} == case.trainer.adapter.bits
    with pytest.raises(DeviceError, match="damaged"):
        decode_parameters(case.graph, case.memory, b"\x11" + case.learnt[1:])


@pytest.mark.parametrize(("limits", "t_min"), [("2:8", 3.0), ("6:12", 20.0)])
def test_the_tuned_file_computes_what_the_device_computes(tmp_path, limits, t_min):
    """Scales that moved and new widths travel back in the .tflite, which TFLite-Micro runs to the same bytes."""
    model = spread_model()
    options = AdaptationOptions(limits, interval=5, t_min=t_min)
    case = Swinging(tmp_path, CASES["spread"][0], "all", steps=90, adaptation=options)
    assert any(case.trainer.adapter.octaves.values())
    tuned = tuned_model(model, case.graph, case.memory, case.learnt)
    graph = read_graph(tuned)
    assert {op.name: graph.bits_of(op) for op in graph.ops if op.has_weights} == case.trainer.adapter.bits
    for op in graph.ops:
        if op.has_weights:
            np.testing.assert_array_equal(graph.full_rows(op), case.trainer.network.weights[op.name])
    samples = np.random.default_rng(2).integers(-128, 128, case.samples[:20].shape).astype(np.int8)
    expected = case.trainer.network.run(samples)
    np.testing.assert_array_equal(ReferenceNetwork(graph).run(samples), expected)
    np.testing.assert_array_equal(run_micro(tuned, samples).reshape(expected.shape), expected)

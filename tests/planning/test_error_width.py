"""What is said of both bit-widths of errors."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.planning import error_width
from rct_tflite.planning.error_width import compare_error_widths, told
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import select
from tests.graphs import GraphBuilder, dense_digits


@pytest.mark.parametrize("train", ["all", "last:1"])
def test_an_error_of_16_bits_takes_two_bytes(train):
    graph = dense_digits()
    plan = select(graph, train)
    for bits in (8, 16):
        memory = plan_memory(graph, dataclasses.replace(plan, error_bits=bits))
        sizes = {p.buffer.name: p.buffer.size for p in memory.placements if p.buffer.name.startswith("err")}
        expected = {op.output: graph.tensors[op.output].size for op in graph.ops[-len(plan.trained) :]}
        assert sizes == {f"err:{tensor}": size * bits // 8 for tensor, size in expected.items()}


def test_both_widths_are_told_with_their_ram():
    graph = dense_digits()
    plan = select(graph, "all")
    widths = compare_error_widths(graph, plan)
    assert widths.ram_bytes == {
        bits: plan_memory(graph, dataclasses.replace(plan, error_bits=bits)).ram_bytes for bits in (8, 16)
    }
    assert widths.ram_bytes[16] > widths.ram_bytes[8]
    more = widths.ram_bytes[16] - widths.ram_bytes[8]
    assert told(widths) == f"8 bits, 16 would take {more} B more RAM; 8 bits are advised"
    wide = compare_error_widths(graph, dataclasses.replace(plan, error_bits=16))
    assert told(wide) == f"16 bits, 8 would take {more} B less RAM; 8 bits are advised"


def test_samples_tell_the_direction_that_8_bits_keep(monkeypatch):
    graph, random = dense_digits(), np.random.default_rng(3)
    plan = select(graph, "all")
    samples, labels = random.integers(-128, 128, (12, 64), np.int8), random.integers(0, 10, 12)
    widths = compare_error_widths(graph, plan, samples, labels)
    assert list(widths.cosines) == ["layer1", "layer0"]
    assert all(0.99 < cosine < 1.0 for cosine in widths.cosines.values())
    assert widths.recommended == 8
    assert "(lowest: layer0)" in told(widths)
    monkeypatch.setattr(error_width, "BOUND", 1.0)
    assert compare_error_widths(graph, plan, samples, labels).recommended == 16


def test_very_deep_networks_take_16_bits():
    builder = GraphBuilder((4,))
    for _ in range(error_width.DEEPEST + 1):
        builder.dense(4)
    graph = builder.graph()
    assert compare_error_widths(graph, select(graph, "all")).recommended == 16
    assert compare_error_widths(graph, select(graph, "last:3")).recommended == 8

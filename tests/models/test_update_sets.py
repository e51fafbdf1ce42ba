import dataclasses
import json
from pathlib import Path

import numpy as np

from models.adaptation import data, update_sets
from models.adaptation.data import Part
from models.adaptation.host_builds import HostBuilds
from rct_tflite.device.protocol import Command, DeviceInfo, Request
from rct_tflite.firmware.session import exchange
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import select
from tests.graphs import conv_digits

random = np.random.default_rng(4)


def part(count: int) -> Part:
    y = np.arange(count, dtype=np.int32) % 10
    return Part(random.random((count, 8, 8, 1), np.float32), y)


def test_both_learn_in_the_same_ram(monkeypatch, tmp_path):
    monkeypatch.setattr(update_sets, "EPOCHS", 1)
    graph, target = conv_digits(), data.target("new", part(20), part(40), seed=0)
    plan = select(graph, "all", 0.01)
    rows = list(update_sets.rows_of("bearings", graph, plan, target, 0, HostBuilds(tmp_path)))
    assert [row.layers for row in rows] == [1, 2]
    for row in rows:
        assert row.ram[1] <= row.ram[0]
        assert select(graph, row.learns).trained
        assert all(0 <= score <= 100 for score in row.score)


def rows_with(gains, rate):
    ram = {1: (100, 90), 2: (200, 190)}
    return [
        update_sets.Row("bearings", rate, *key, ram[key[2]], "dense", (80.0, 80.0 + gain))
        for key, gain in gains.items()
    ]


def test_the_table_holds_what_was_measured(tmp_path):
    gains = {("a", 0, 1): 4.0, ("a", 0, 2): 0.0, ("a", 1, 1): 2.0, ("b", 0, 1): -1.0, ("b", 1, 1): -1.0}
    rows = rows_with(gains, 0.003)
    summary = update_sets.summary(rows)
    assert [summary[key]["difference"] for key in ("last:1", "all")] == [1.0, 0.5]
    assert summary["all"]["standard_error"] == 0.87  # of 2, 2, -1, -1: limits of one target and seed count once
    assert not update_sets.is_ahead(summary["all"])
    lines = update_sets.table(rows + rows_with(gains, 0.01))
    assert lines[0] == "| bearings | last:1 | 100 | 80.0 | 81.0 | +1.00 +- 1.22 | 1 of 2 |"
    assert lines[-1] == "| bearings | +0.50 +- 0.87 at 0.003 | +0.50 +- 0.87 at 0.01 |"
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows))
    assert update_sets.read_rows(file) == rows


def test_what_is_known_is_not_measured_again(monkeypatch, tmp_path):
    target = data.target("new", part(20), part(40), seed=0)
    monkeypatch.setattr(data, "load", lambda *_: (data.Domain(part(20), (target,)),))
    monkeypatch.setattr(update_sets, "read_graph", lambda _: conv_digits())
    monkeypatch.setattr(update_sets, "exported_network", lambda *_: tmp_path)
    monkeypatch.setattr(update_sets, "EPOCHS", 1)
    first = list(update_sets.measure("bearings", range(1), 1.0, tmp_path, tmp_path, ()))
    assert [(row.target, row.seed, row.layers) for row in first] == [("new", 0, 1), ("new", 0, 2)]
    assert list(update_sets.measure("bearings", range(1), 1.0, tmp_path, tmp_path, first)) == []
    assert len(list(update_sets.measure("bearings", range(1), 1.0, tmp_path, tmp_path, first[:1]))) == 2


def test_each_plan_has_its_own_build(tmp_path):
    graph, builds = conv_digits(), HostBuilds(tmp_path)
    for train in ("last:1", "all"):
        plan = select(graph, train)
        (answer,) = exchange(builds.runner(graph, plan, np.zeros((1, 8, 8, 1), np.int8)), [Request(Command.INFO)])
        assert DeviceInfo.decode(answer.payload).parameter_bytes == plan_memory(graph, plan).parameter_bytes


def test_the_readme_tells_the_measured_results():
    folder = Path(update_sets.__file__).parent
    text = (folder / "README.md").read_text()
    lines = update_sets.table(update_sets.read_rows(folder / "update_sets.jsonl"))
    assert len(lines) >= 6
    assert all(line in text for line in lines)

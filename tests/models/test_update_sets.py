import json
from pathlib import Path

import numpy as np

from models.adaptation import data, update_sets
from models.adaptation.data import Part
from rct_tflite.planning.selection import select
from tests.graphs import conv_digits

random = np.random.default_rng(4)


def part(count: int) -> Part:
    y = np.arange(count, dtype=np.int32) % 10
    return Part(random.random((count, 8, 8, 1), np.float32), y)


def test_both_learn_in_the_same_ram(monkeypatch):
    monkeypatch.setattr(update_sets, "EPOCHS", 1)
    graph, target = conv_digits(), data.target("new", part(20), part(40), seed=0)
    rows = list(update_sets.rows_of(graph, target, 0, 0.01))
    assert [row.layers for row in rows] == [1, 2]
    for row in rows:
        assert row.ram[1] <= row.ram[0]
        assert select(graph, row.learns).trained
        assert all(0 <= score <= 100 for score in row.score)


def test_the_table_holds_what_was_measured():
    rows = [
        update_sets.Row("a", 0, layers, (100 * layers, 90), "dense", (80.0, 80.0 + gain))
        for layers, gain in ((1, 1.0), (1, 3.0), (2, -1.0))
    ]
    summary = update_sets.summary(rows)
    assert [summary[key]["difference"] for key in ("last:1", "last:2", "all")] == [2.0, -1.0, 1.0]
    assert summary["last:1"]["standard_error"] == 1.0
    content = {"results": {"bearings": {"summary": summary}}}
    assert update_sets.table(content)[0] == "| bearings | last:1 | 100 | 80.0 | 82.0 | +2.00 +- 1.00 |"


def test_the_readme_tells_the_measured_results():
    folder = Path(update_sets.__file__).parent
    text = (folder / "README.md").read_text()
    lines = update_sets.table(json.loads((folder / "update_sets.json").read_text()))
    assert len(lines) >= 6
    assert all(line in text for line in lines)

import json
from pathlib import Path

import numpy as np

from models.adaptation import truncation
from models.adaptation.truncation import METHODS, Row
from rct_tflite.spec.quantization import Rounding
from tests.tflite.networks import Stack


def test_more_bits_leave_the_network_as_it_is(tmp_path):
    from rct_tflite.export.tflite_export import export_tflite
    from rct_tflite.spec.graph import TrainingMetadata

    model = tmp_path / "net.tflite"
    network = Stack(0, (6, 6, 2)).conv(4, 3).flatten().dense(3).network()
    model.write_bytes(export_tflite(network, TrainingMetadata()))
    graph = truncation.method_graph(model, "last:1", Rounding.TRUNCATE, 12)
    assert graph.training.rounding == "truncate"
    assert [graph.bits_of(op) for op in graph.ops if op.has_weights] == [8, 12]
    np.testing.assert_array_equal(graph.full_rows(graph.ops[-1]), graph.weight_rows(graph.ops[-1]) << 4)


def test_the_summary_compares_with_stochastic_rounding_at_the_same_rate():
    rows = [
        Row(target, 0, str(rounding), bits, rate, 100 * bits, 50.0, 70.0 + bits - 8 * (rounding is Rounding.STOCHASTIC))
        for rate in (0.01, 0.001)
        for target in ("a", "b")
        for rounding, bits in METHODS
    ]
    summary = truncation.summary(rows)
    assert [row["difference"] for row in summary] == 2 * [8.0, 10.0, 12.0, 0.0]
    line = "| heartbeats | 0.01 | truncate, 10 bits | 1,000 | 50.0 | 80.0 | +10.00 +- 0.00 |"
    assert truncation.table({"results": {"heartbeats": {"summary": summary}}})[1] == line


def test_the_page_shows_what_was_measured():
    folder = Path(truncation.__file__).parent
    content = json.loads((folder / "truncation.json").read_text())
    page = (folder / "README.md").read_text()
    assert [row for row in truncation.table(content) if row not in page] == []

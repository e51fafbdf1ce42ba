"""`rct-tflite inspect`: what a `.tflite` holds."""

from pathlib import Path

import click

from rct_tflite.cli.output import json_option, print_json
from rct_tflite.firmware.manifest import MODEL_FILE
from rct_tflite.reference.packing import row_bytes
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.tflite.reader import read_graph


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@json_option
def command(model: Path, as_json: bool) -> None:
    """Show the ops, bit-widths and scales of MODEL, a .tflite or a folder of 'rct-tflite export'.

    \b
    Examples:
      rct-tflite inspect build/kws
      rct-tflite inspect kws.tflite --json
    """
    path = model / MODEL_FILE if model.is_dir() else model
    graph = read_graph(path, name=path.stem)
    rows = [_row(graph, op) for op in graph.ops]
    training = graph.training
    if as_json:
        print_json(
            {
                "input": _input(graph),
                "ops": rows,
                "learning_rate": training.learning_rate,
                "rounding": training.rounding,
                "labels": list(training.labels),
            }
        )
        return
    _print(graph, rows)


def _input(graph: Graph) -> dict[str, object]:
    source = graph.tensors[graph.input]
    shape: dict[str, object] = {"shape": list(source.shape)}
    if graph.takes_ids:
        return {**shape, "ids": graph.id_limit}
    return {**shape, "scale": source.scale, "zero_point": source.zero_point}


def _row(graph: Graph, op: Op) -> dict[str, object]:
    result = graph.tensors[op.output]
    names = {graph.input: "input", **{other.output: other.name for other in graph.ops}}
    operands = op.inputs[:1] if op.has_weights else op.inputs
    row: dict[str, object] = {
        "name": op.name,
        "op": op.kind.name,
        "output_shape": list(result.shape),
        "output_scale": result.scale,
        "output_zero_point": result.zero_point,
        "reads": [names.get(index, graph.tensors[index].name) for index in operands],
    }
    if op.has_weights:
        weights = graph.tensors[op.inputs[1]]
        bits = graph.bits_of(op)
        channels, depth = graph.row_shape(op)
        assert weights.quantization is not None
        row |= {
            "weights": weights.size,
            "bits": bits,
            "packed_bytes": channels * row_bytes(depth, bits),
            "scales": weights.quantization.scales.size,
            "trainable": all(layer.trainable for layer in graph.training.layers if layer.name == op.name),
        }
    return row


def _print(graph: Graph, rows: list[dict[str, object]]) -> None:
    source = graph.tensors[graph.input]
    shape = "x".join(map(str, source.shape[1:]))
    if graph.takes_ids:
        told = f"ids {shape}, each below {graph.id_limit}"
    else:
        told = f"int8 {shape}, scale {source.scale:.6g}, zero point {source.zero_point}"
    click.echo(f"{graph.name}: input {told}")
    click.echo(f"  {'op':<20} {'kind':<17} {'output':<12} {'weights':>8} {'bits':>5} {'bytes':>7}  learns")
    before = "input"
    for row in rows:
        shape = "x".join(map(str, row["output_shape"][1:])) if isinstance(row["output_shape"], list) else ""
        weights = ""
        if "bits" in row:
            learns = "yes" if row["trainable"] else "no"
            weights = f"{row['weights']:>8} {row['bits']:>5} {row['packed_bytes']:>7}  {learns}"
        reads = row["reads"] if isinstance(row["reads"], list) else []
        branches = f"  reads {', '.join(reads)}" if reads != [before] else ""
        click.echo(f"  {row['name']:<20} {row['op']:<17} {shape:<12} {weights}".rstrip() + branches)
        before = str(row["name"])
    training = graph.training
    click.echo(f"  learning rate {training.learning_rate:g}, {training.rounding} rounding")
    if training.labels:
        click.echo(f"  labels {', '.join(training.labels)}")

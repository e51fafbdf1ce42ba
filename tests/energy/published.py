"""Synthetic tables of the published form: costs of known coefficients, so that the right answers are known."""

import csv
import subprocess

import numpy as np

from tools.energy_evaluation import layers as shapes
from tools.energy_evaluation.table import BENCHMARKS, LAYER_ENERGY, LAYERS, RESULTS, read_layers

# (op, kernel, stride, input shape, output shape, macs, weight bytes) of models with the op mixes of the published ones.
CONV, DEPTHWISE, DENSE, ADD = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD"


def conv(kernel, side, inputs, outputs):
    macs = side * side * kernel * kernel * inputs * outputs
    shape = f"1x{side}x{side}x"
    weights = kernel * kernel * inputs * outputs
    return (CONV, f"{kernel}x{kernel}", "1x1", f"{shape}{inputs}", f"{shape}{outputs}", macs, weights)


def depthwise(side, channels):
    shape = f"1x{side}x{side}x{channels}"
    return (DEPTHWISE, "3x3", "1x1", shape, shape, side * side * 9 * channels, 9 * channels)


MODELS = {
    "vww": [conv(3, 48, 3, 8), depthwise(24, 16), conv(1, 24, 16, 32), depthwise(12, 64), conv(1, 12, 64, 128)],
    "ic": [
        conv(3, 32, 3, 16),
        conv(3, 32, 16, 16),
        (ADD, "", "", "1x32x32x16", "1x32x32x16", 0, 0),
        conv(3, 16, 32, 32),
    ],
    "kws": [conv(3, 12, 1, 64), depthwise(12, 64), conv(1, 12, 64, 64), depthwise(12, 64), conv(1, 12, 64, 64)],
    "ad": [(DENSE, "", "", "1x640", "1x128", 81920, 81920), (DENSE, "", "", "1x128", "1x640", 81920, 81920)],
}
BOARDS = (
    ("A", "STM32L4R5", "Cortex-M4", 120, 1.8, 0.38, 1.0),
    ("B", "STM32U575", "Cortex-M33", 160, 1.8, 0.16, 0.8),
    ("C", "STM32H7A3", "Cortex-M7", 280, 3.0, 0.5, 0.5),
)
STACKS = (("TFLM 2.4.0 + CMSIS-NN (mbed)", 1.0), ("X-CUBE-AI 8.0.0", 0.5))
"""(stack, cycles against the cost items)"""


def write_table(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def layer_rows():
    names = ("op", "kernel", "stride", "input_shape", "output_shape", "macs", "weight_bytes")
    return [
        {"model": model, **dict(zip(names, layer, strict=True)), "output_elements": elements(layer[4])}
        for model, layers in MODELS.items()
        for layer in layers
    ]


def elements(shape):
    return int(np.prod([int(number) for number in shape.split("x")]))


def write_published(folder, noise=0.0):
    """Writes the three tables; returns the factor that the true costs have against the expected ones."""
    random = np.random.default_rng(7)
    write_table(folder / LAYERS, layer_rows())
    layers = read_layers(folder / LAYERS)
    true = shapes.default_costs().costs * np.exp(random.normal(0, 0.3, len(shapes.ITEMS)))
    results = []
    for board, mcu, core, clock, volt, power, speed in BOARDS:
        for stack, factor in STACKS:
            for model in BENCHMARKS:
                cycles = shapes.items_of_model(layers, model) @ true * speed * factor
                latency = cycles / clock / 1e3 * np.exp(random.normal(0, noise))
                energy = latency * power * clock * np.exp(random.normal(0, noise))
                results.append(result(board, mcu, core, clock, volt, stack, model, latency, energy))
    write_table(folder / RESULTS, results)
    board, mcu, core, clock, _, power, _ = BOARDS[0]
    measured = []
    for row, layer in zip(layer_rows(), layers, strict=True):
        if layer.model != "ad":
            cycles = shapes.items_of(layer) @ true
            values = {"duration_ms": cycles / clock / 1e3, "energy_uj": cycles * power / 1e3}
            measured.append({"mcu": mcu, "stack": STACKS[0][0], **row, **values})
    write_table(folder / LAYER_ENERGY, measured)


def result(board, mcu, core, clock, volt, stack, model, latency, energy):
    return {
        "version": "v1",
        "submitter": "test",
        "board": board,
        "mcu": mcu,
        "core": core,
        "clock_mhz": clock,
        "voltage_v": volt,
        "stack": stack,
        "benchmark": model,
        "latency_ms": latency,
        "energy_uj": energy,
        "device_class": "mcu",
        "precision": "int8",
        "energy_run_latency_ms": latency,
        "quality_flag": "",
    }


def commit(folder, files):
    """Makes a repository of some files; returns its commit."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()

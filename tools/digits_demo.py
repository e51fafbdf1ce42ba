"""The main job on real data: train in Keras, export, check, build, learn a drift on an emulated Cortex-M7, compare.

Run it through tools/demo, which sets up what it needs.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # models/ and tools/ are no part of the installed package

import rct_tflite as rct  # noqa: E402
from models.digits import model as digits  # noqa: E402
from models.digits.drift import rotate  # noqa: E402
from rct_tflite.cli.output import format_interval  # noqa: E402
from rct_tflite.energy.estimate import Interval  # noqa: E402
from rct_tflite.export.run_picture import draw_run  # noqa: E402
from rct_tflite.firmware.build import build_project  # noqa: E402
from rct_tflite.firmware.manifest import Project, read_project  # noqa: E402
from rct_tflite.firmware.parameters import tuned_model  # noqa: E402
from rct_tflite.firmware.samples import Samples, read_samples  # noqa: E402
from rct_tflite.firmware.session import fine_tune, host_runner  # noqa: E402
from rct_tflite.reference.network import ReferenceNetwork  # noqa: E402
from rct_tflite.reference.trainer import ReferenceTrainer  # noqa: E402
from rct_tflite.spec.run_log import read_run_log  # noqa: E402
from rct_tflite.tflite.oracle import run_micro  # noqa: E402
from rct_tflite.training.memory import parameter_bytes  # noqa: E402

TARGET = "cortex-m7"
DRIFT_DEGREES = 30.0
LEARN_SAMPLES = 300
FINE_TUNING_EPOCHS = 3


@dataclass(frozen=True)
class Files:
    """Everything that the demo writes."""

    folder: Path

    @property
    def keras(self) -> Path:
        """The trained model."""
        return self.folder / "digits.keras"

    @property
    def log(self) -> Path:
        """One row an epoch, for `rct-tflite report`."""
        return self.folder / "training.jsonl"

    @property
    def picture(self) -> Path:
        """How the training went."""
        return self.folder / "training.png"

    @property
    def export(self) -> Path:
        """The artifact folder."""
        return self.folder / "export"

    @property
    def clean(self) -> Path:
        """Test samples as the network knows them."""
        return self.folder / "clean.npz"

    @property
    def learn(self) -> Path:
        """Drifted samples with labels, to learn from."""
        return self.folder / "learn.npz"

    @property
    def test(self) -> Path:
        """Drifted samples that are never learnt from."""
        return self.folder / "test.npz"

    @property
    def tuned(self) -> Path:
        """The model with what the device has learnt."""
        return self.folder / "tuned.tflite"


def main() -> None:
    """Runs the whole path and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures of the table as one JSON object")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo", help="folder for everything written")
    arguments = parser.parse_args()
    started = time.monotonic()
    files = Files(arguments.out)
    files.folder.mkdir(parents=True, exist_ok=True)

    _say("1/5  Training on scikit-learn's digits, nothing but integers for weights")
    figures = _train(files)
    _say("2/5  Exporting")
    _write_samples(files)
    _rct_tflite("export", files.keras, "--target", TARGET, "--out", files.export, "--data", files.clean, "--force")
    project = read_project(files.export)
    _say("3/5  Checking model.tflite in TFLite-Micro")
    figures |= _check(project, files)
    _say(f"4/5  Learning on the emulated core: digits turned by {DRIFT_DEGREES:g} degrees, {LEARN_SAMPLES} samples")
    device = _learn_on_device(files)
    _say("5/5  Comparing what was learnt: device, host build, NumPy reference")
    figures |= _compare(project, files, device)
    figures |= {"device": device, "seconds": round(time.monotonic() - started, 1)}
    _print_table(figures, files)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _train(files: Files) -> dict[str, Any]:
    model = digits.train(callback=rct.RCTCallback(log=files.log, verbose=1))
    model.save(files.keras)
    draw_run(read_run_log(files.log), files.picture)
    size = parameter_bytes(model)
    return {
        "parameter_bytes": {"rct": size.rct, "float32": size.float32, "qat": size.qat},
        "bits": {weight.label: int(weight.bits) for weight in model.integer_weights},
    }


def _write_samples(files: Files) -> None:
    """Splits what training has not seen: to learn from and to test on; both drifted."""
    data = digits.load()
    images = np.concatenate([data.validation.images, data.test.images])
    labels = np.concatenate([data.validation.labels, data.test.labels])
    drifted = rotate(images, DRIFT_DEGREES)
    np.savez(files.clean, x=images, y=labels)
    np.savez(files.learn, x=drifted[:LEARN_SAMPLES], y=labels[:LEARN_SAMPLES])
    np.savez(files.test, x=drifted[LEARN_SAMPLES:], y=labels[LEARN_SAMPLES:])


def _check(project: Project, files: Files) -> dict[str, Any]:
    clean = read_samples(files.clean, project.graph)
    micro = run_micro(project.model, clean.inputs)
    ours = ReferenceNetwork(project.graph).run(clean.inputs).reshape(micro.shape)
    differing = int(np.count_nonzero(micro != ours))
    accuracy = _accuracy(micro, clean)
    print(
        f"     {len(micro)} digits: accuracy {accuracy:.1%}, {differing} of {micro.size} output bytes differ from ours"
    )
    _require(differing == 0, "our integer forward pass differs from TFLite-Micro's")
    return {"accuracy_clean": accuracy, "forward_bytes_differing": differing, "forward_samples": len(micro)}


def _learn_on_device(files: Files) -> dict[str, Any]:
    _rct_tflite("build", files.export)
    arguments = ["--test", files.test, "--learn", files.learn, "--epochs", FINE_TUNING_EPOCHS, "--save", files.tuned]
    result: dict[str, Any] = json.loads(_rct_tflite("run", files.export, *arguments, "--json", show=False))
    print(
        f"     accuracy on {len(np.load(files.test)['y'])} drifted digits it never learnt from: "
        f"{result['accuracy_before']:.1%} before, {result['accuracy_after']:.1%} after"
    )
    return result


def _compare(project: Project, files: Files, device: dict[str, Any]) -> dict[str, Any]:
    learn, test = read_samples(files.learn, project.graph), read_samples(files.test, project.graph)
    trainer = ReferenceTrainer(project.graph, project.plan)
    for _ in range(FINE_TUNING_EPOCHS):
        for sample, label in zip(learn.inputs, learn.labelled(), strict=True):
            trainer.step(sample, int(label))
    host = fine_tune(host_runner(build_project(files.export, "host").image), learn, test, FINE_TUNING_EPOCHS)
    tuned = files.tuned.read_bytes()
    equal = {
        "host": tuned_model(project.model, project.graph, project.memory, host.parameters) == tuned,
        "reference": tuned_model(project.model, project.graph, project.memory, trainer.parameter_block()) == tuned,
    }
    accuracy = _accuracy(run_micro(tuned, test.inputs), test)
    print(f"     tuned.tflite equals that of the host build: {equal['host']}, of the reference: {equal['reference']}")
    print(f"     tuned.tflite in TFLite-Micro: accuracy {accuracy:.1%}")
    _require(all(equal.values()), "the device, the host build and the reference did not learn the same bytes")
    _require(accuracy == device["accuracy_after"], "tuned.tflite does not score as the device did")
    return {"tuned_equal": equal, "accuracy_tuned_tflite": accuracy}


def _print_table(figures: dict[str, Any], files: Files) -> None:
    device, size = figures["device"], figures["parameter_bytes"]
    ram, flash = device["ram_bytes"], device["flash_bytes"]
    rows = [
        ("parameters while training", f"{size['rct']} B (float32 {size['float32']} B, QAT {size['qat']} B)"),
        ("accuracy, digits as trained", f"{figures['accuracy_clean']:.1%}"),
        ("accuracy, drifted, before", f"{device['accuracy_before']:.1%}"),
        ("accuracy, drifted, after", f"{device['accuracy_after']:.1%} after {device['training_steps']} steps"),
        ("inference", _cost(device["instructions_per_inference"], device["inference"])),
        ("training step", _cost(device["instructions_per_training_step"], device["training_step"])),
        ("RAM", f"arena {ram['arena']}, weights {ram['parameters']}, stack {ram['stack_used']}, "
                f"other {ram['state'] + ram['application']} B"),
        ("flash", f"code and tables {flash['code_and_tables']}, weights {flash['weights']} B"),
        ("tool chain", f"{device['toolchain']}, {device['emulator']}"),
    ]  # fmt: skip
    _say(f"Result for {device['target']} (time and energy are estimates, with their intervals)")
    for name, value in rows:
        print(f"  {name:<28} {value}")
    print(f"  {'everything took':<28} {figures['seconds']:.0f} s")
    print(f"  {'picture of the training':<28} {_shown(files.picture)}")
    print(f"  {'C project, .tflite, glue':<28} {_shown(files.export)}")


def _cost(instructions: int, cost: dict[str, Any]) -> str:
    time_s = format_interval(Interval(**cost["time_s"]), 1e3, "ms")
    energy_j = format_interval(Interval(**cost["energy_j"]), 1e6, "uJ")
    return f"{instructions:,} instructions, {time_s}, {energy_j}"


def _accuracy(logits: npt.NDArray[np.int8], samples: Samples) -> float:
    return float(np.mean(logits.reshape(len(logits), -1).argmax(axis=1) == samples.labelled()))


def _rct_tflite(*arguments: object, show: bool = True) -> str:
    words = [_shown(argument) if isinstance(argument, Path) else str(argument) for argument in arguments]
    print(f"     $ rct-tflite {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "rct_tflite.cli.main", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # the command has said why
    if show:
        print("".join(f"     {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
    return done.stdout


def _shown(path: Path) -> str:
    """Returns a path as the user would type it here."""
    return os.path.relpath(path)


def _require(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"Error: {message}.")


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()

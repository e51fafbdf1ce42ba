"""What training must know, as JSON in the `.tflite`'s own metadata table."""

import json
import math
from dataclasses import asdict, fields, replace
from typing import Any

from rct_tflite.errors import ModelFileError
from rct_tflite.spec.graph import LayerTraining, TrainingMetadata
from rct_tflite.spec.network import TrainedNetwork
from rct_tflite.spec.quantization import MAX_BITS, MIN_BITS, Rounding
from rct_tflite.spec.training_plan import Loss

METADATA_NAME = "rct_training"
METADATA_VERSION = 1

_LAYER_KEYS = frozenset(field.name for field in fields(LayerTraining))
_KEYS = frozenset(field.name for field in fields(TrainingMetadata)) | {"version"}


def encode_metadata(training: TrainingMetadata) -> bytes:
    """Returns the metadata as compact JSON with sorted keys.

    Args:
        training: What to store. Numbers must be finite.

    Raises:
        ModelFileError: If `decode_metadata()` would refuse the result.

    Example:
        >>> decode_metadata(encode_metadata(TrainingMetadata(labels=("no", "yes")))).labels
        ('no', 'yes')
    """
    record = {"version": METADATA_VERSION, **asdict(training)}
    if training.loss == TrainingMetadata.loss:  # files from before there was a choice have no such key
        del record["loss"]
    data = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    decode_metadata(data)
    return data


def decode_metadata(data: bytes) -> TrainingMetadata:
    """Reads what `encode_metadata()` wrote.

    Raises:
        ModelFileError: If the JSON is damaged, of another version, or has missing or unknown keys.
    """
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"it is not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("version") != METADATA_VERSION:
        version = record.get("version") if isinstance(record, dict) else None
        raise _damaged(f"expected version {METADATA_VERSION}, received {version!r}; use the rct-tflite that wrote it")
    record.setdefault("loss", TrainingMetadata.loss)
    _check_keys(record, _KEYS, "the metadata")
    layers = record["layers"]
    if not isinstance(layers, list):
        raise _damaged(f"'layers' must be a list, received {layers!r}")
    training = TrainingMetadata(
        layers=tuple(_decode_layer(layer) for layer in layers),
        learning_rate=_number(record, "learning_rate"),
        rounding=_rounding(record["rounding"]),
        labels=_labels(record["labels"]),
        input_scale=_number(record, "input_scale"),
        input_offset=_number(record, "input_offset"),
        loss=_loss(record["loss"]),
    )
    names = [layer.name for layer in training.layers]
    if len(set(names)) != len(names):
        raise _damaged(f"layer names must differ, received {names}")
    return training


def training_for(network: TrainedNetwork, training: TrainingMetadata) -> TrainingMetadata:
    """Completes the metadata with what the network knows: layer names, bit-widths, rounding, scaling of the input.

    Args:
        network: The network that is exported.
        training: With `layers=()`, layers and rounding are taken from the network, and its scaling of the input comes
            behind the given one. Given layers must be those of the network, in order; which of them learn is free.

    Raises:
        ModelFileError: If given layers are not the network's.
    """
    layers = tuple(
        LayerTraining(layer.name, int(layer.weights.bits), bool(layer.weights.trainable))
        for layer in network.layers
        if layer.weights is not None
    )
    if not training.layers:
        return replace(
            training,
            layers=layers,
            rounding=str(network.rounding),
            input_scale=training.input_scale * network.input_scale,
            input_offset=training.input_offset * network.input_scale + network.input_offset,
        )
    given, expected = ([(layer.name, layer.bits) for layer in part] for part in (training.layers, layers))
    if given != expected:
        raise ModelFileError(
            "The training metadata is not of this network. "
            f"Expected the layers and bit-widths {expected}. Received: {given}."
        )
    return training


def _damaged(why: str) -> ModelFileError:
    return ModelFileError(f"The metadata {METADATA_NAME!r} of the .tflite cannot be read: {why}.")


def _check_keys(record: dict[str, Any], expected: frozenset[str], what: str) -> None:
    if record.keys() != expected:
        missing, unknown = sorted(expected - record.keys()), sorted(record.keys() - expected)
        raise _damaged(f"{what} has missing keys {missing} and unknown keys {unknown}")


def _decode_layer(record: Any) -> LayerTraining:
    if not isinstance(record, dict):
        raise _damaged(f"a layer must be an object, received {record!r}")
    _check_keys(record, _LAYER_KEYS, "a layer")
    name, bits, trainable = record["name"], record["bits"], record["trainable"]
    if not isinstance(name, str) or not isinstance(trainable, bool):
        raise _damaged(f"a layer needs a name and a truth value 'trainable', received {record!r}")
    if type(bits) is not int or not MIN_BITS <= bits <= MAX_BITS:
        raise _damaged(f"'bits' of {name!r} must be {MIN_BITS} to {MAX_BITS}, received {bits!r}")
    return LayerTraining(name, bits, trainable)


def _number(record: dict[str, Any], key: str) -> float:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise _damaged(f"{key!r} must be a finite number, received {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise _damaged(f"{key!r} must be a finite number") from error


def _rounding(value: Any) -> str:
    if value not in tuple(Rounding):
        raise _damaged(f"'rounding' must be one of {[str(r) for r in Rounding]}, received {value!r}")
    return str(value)


def _loss(value: Any) -> str:
    if value not in tuple(Loss):
        raise _damaged(f"'loss' must be one of {[str(loss) for loss in Loss]}, received {value!r}")
    return str(value)


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise _damaged(f"'labels' must be a list of strings, received {value!r}")
    return tuple(value)

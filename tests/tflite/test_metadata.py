"""Training metadata survives the file; anything else is refused."""

import json

import pytest

from rct_tflite.errors import ModelFileError
from rct_tflite.spec.graph import LayerTraining, TrainingMetadata
from rct_tflite.tflite.metadata import decode_metadata, encode_metadata

FULL = TrainingMetadata(
    layers=(LayerTraining("conv", 3, False), LayerTraining("dense/1", 16)),
    learning_rate=0.1,
    rounding="truncate",
    labels=("no", "yes", "größer"),
    input_scale=1 / 255,
    input_offset=-0.5,
)


@pytest.mark.parametrize("training", [TrainingMetadata(), FULL])
def test_round_trip(training):
    assert decode_metadata(encode_metadata(training)) == training


def test_encoding_is_compact_and_sorted():
    data = encode_metadata(FULL)
    record = json.loads(data)
    assert list(record) == sorted(record)
    assert b" " not in data
    assert record["version"] == 1


def changed(**fields):
    return json.dumps(json.loads(encode_metadata(FULL)) | fields).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected version 1"),
        (changed(version=2), "expected version 1, received 2"),
        (changed(colour="red"), "unknown keys ['colour']"),
        (b'{"version":1}', "missing keys"),
        (changed(learning_rate="fast"), "'learning_rate' must be a finite number"),
        (changed(learning_rate=True), "finite number"),
        (changed(input_scale=float("nan")), "finite number"),
        (changed(input_offset=10**400), "finite number"),
        (changed(rounding="up"), "'rounding' must be one of"),
        (changed(labels="no"), "list of strings"),
        (changed(layers={}), "'layers' must be a list"),
        (changed(layers=[7]), "must be an object"),
        (changed(layers=[{"name": "a", "bits": 4}]), "missing keys ['trainable']"),
        (changed(layers=[{"name": "a", "bits": 17, "trainable": True}]), "must be 2 to 16"),
        (changed(layers=[{"name": "a", "bits": 4, "trainable": 1}]), "truth value"),
        (changed(layers=[{"name": "a", "bits": 4, "trainable": True}] * 2), "must differ"),
    ],
)
def test_other_content_is_refused(data, message):
    with pytest.raises(ModelFileError) as raised:
        decode_metadata(data)
    assert message in str(raised.value)


def test_what_cannot_be_read_is_not_written():
    with pytest.raises(ModelFileError):
        encode_metadata(TrainingMetadata(learning_rate=float("inf")))

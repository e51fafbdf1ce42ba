"""Loading a quantised model from a `.keras` file."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from rct_tflite.errors import ModelFileError, RCTError
from rct_tflite.spec.quantization import EXPORT_BITS, MAX_BITS, MIN_BITS, top
from rct_tflite.training.integer_weight import IntegerWeight
from rct_tflite.training.model import RCTModel

_REGISTERED_NAME = "rct_tflite>RCTModel"


def load_model(path: str | Path, compile: bool = True) -> RCTModel:
    """Loads a model that was saved with `model.save("name.keras")`, ready to predict and to train on.

    `keras.models.load_model()` does it too, without `custom_objects`, in a program that has used a name of this package
    (`rct.layers`, say): only then does Keras know its classes. It does not check the file as this does.

    Args:
        path: The `.keras` file.
        compile: Whether to restore loss, metrics and optimizer too; without, own losses need not be registered.

    Returns:
        The model, with the same integers, bit-widths, ranges and optimizer state.

    Raises:
        ModelFileError: If the file is missing, damaged, or holds something else than an `RCTModel`.
    """
    path = Path(path)
    _check_archive(path)
    try:
        model = keras.models.load_model(path, compile=compile)
    except RCTError as error:
        raise _refusal(path, f"settings out of range ({error})") from error
    except Exception as error:  # whatever a changed file makes Keras, h5py or NumPy raise
        raise _refusal(path, f"content that Keras cannot read ({type(error).__name__}: {error})") from error
    if not isinstance(model, RCTModel):
        raise _refusal(path, f"a {type(model).__name__}")
    for weight in model.integer_weights:
        _check_weight(path, weight)
    return model


def _check_archive(path: Path) -> None:
    """Refuses what is not a whole `.keras` archive of ours, before Keras builds anything from it."""
    if not path.is_file():
        raise _refusal(path, "no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            config = json.loads(archive.read("config.json"))
    # zipfile raises NotImplementedError for a compression that it does not know: a damaged header looks like that.
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, NotImplementedError) as error:
        raise _refusal(path, f"a damaged or other file of {path.stat().st_size} bytes ({error})") from error
    if damaged is not None:
        raise _refusal(path, f"a damaged file: the checksum of {damaged!r} is wrong")
    name = config.get("registered_name") if isinstance(config, dict) else None
    if name != _REGISTERED_NAME:
        kind = config.get("class_name") if isinstance(config, dict) else None
        raise _refusal(path, f"a model of class {kind!r} that is not quantised")


def _check_weight(path: Path, weight: IntegerWeight) -> None:
    bits, scale = int(weight.bits.numpy()), weight.scale.numpy()
    widest = EXPORT_BITS if weight.integers.dtype == "int8" else MAX_BITS
    sound = MIN_BITS <= bits <= widest and bool(np.all(np.isfinite(scale) & (scale > 0.0)))
    if not sound or np.abs(weight.integers.numpy().astype(np.int32)).max() > top(bits):
        raise _refusal(path, f"layer {weight.label!r} with integers, bits ({bits}) or scales that do not fit together")


def _refusal(path: Path, received: str) -> ModelFileError:
    return ModelFileError(
        f"Cannot load {str(path)!r}. Expected a whole .keras file of a quantised model. Received: {received}. "
        "Save it again with model.save(), or quantise a float model with rct.quantize()."
    )

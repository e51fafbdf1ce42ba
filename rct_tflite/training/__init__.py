"""Quantised-only training in Keras 3 on TensorFlow."""

import importlib.util
import os

from rct_tflite.native_output import swallowed

# Read once, when TensorFlow is first imported: no log noise, and no oneDNN, whose sums round otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

for _package in ("tensorflow", "keras"):
    if importlib.util.find_spec(_package) is None:
        raise ImportError(
            f"Training needs Keras on TensorFlow, but the package {_package!r} is not installed. "
            "Install both with: pip install 'rct-tflite[train]'"
        )

with swallowed():
    import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Quantised training runs on the TensorFlow backend of Keras. "
        f"Received: backend={keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before Keras is imported."
    )

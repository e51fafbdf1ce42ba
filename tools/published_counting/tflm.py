"""What of TFLite-Micro 2.3 is compiled, where the reference submission keeps its models, and how its ops are called."""

from collections.abc import Iterator
from pathlib import Path

RUNTIME = ("tensorflow/lite", "third_party")
NOT_COMPILED = ("benchmarks", "examples", "mbed", "testing", "tools")
"""Folders of the runtime."""
INCLUDES = (".", "third_party/gemmlowp", "third_party/flatbuffers/include", "third_party/ruy")
MACROS = ("-DTF_LITE_STATIC_MEMORY", "-DTF_LITE_STRIP_ERROR_STRINGS")
"""The export that is compiled prints a line for each op, which the second leaves out."""
MODELS = {
    "vww": ("training/visual_wake_words/trained_models", "vww/vww_model_data", "g_person_detect_model_data"),
    "ic": ("reference_submissions/image_classification", "ic/ic_model_quant_data", "pretrainedResnet_quant_tflite"),
    "kws": ("reference_submissions/keyword_spotting/kws", "kws_model_data", "g_kws_model_data"),
    "ad": ("reference_submissions/anomaly_detection", "model", "g_model"),
}
"""(folder of the headers' names, file without suffix, array)."""
INVOKE = "_ZN6tflite16MicroInterpreter6InvokeEv"
_OPS = (
    *("4conv4Eval", "14depthwise_conv4Eval", "15fully_connected4Eval", "3add4Eval", "7pooling11AverageEval"),
    *("7reshape4Eval", "11activations11SoftmaxEval"),
)
STEPS = tuple(f"_ZN6tflite3ops5micro{op}EP13TfLiteContextP10TfLiteNode" for op in _OPS)
"""The function of each kind of op, as the compiler names it."""


def sources(folder: Path) -> Iterator[Path]:
    """Yields what is compiled of the runtime in a folder."""
    yield from sorted((folder / "tensorflow").rglob("*.cc"))
    yield folder / "tensorflow/lite/c/common.c"

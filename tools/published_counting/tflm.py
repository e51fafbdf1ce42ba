"""What of TFLite-Micro is compiled, where submissions keep its models, and how its ops are called."""

from collections.abc import Iterator
from pathlib import Path

RUNTIME = ("tensorflow/lite", "third_party")
NOT_COMPILED = ("benchmarks", "examples", "mbed", "testing", "tools")
"""Folders of the runtime."""
INCLUDES = (".", "third_party/gemmlowp", "third_party/flatbuffers/include", "third_party/ruy")
CXX_FLAGS = ("-include", "limits")
"""Its code counts on headers of older compilers, which included that one."""
MACROS = ("-DTF_LITE_STATIC_MEMORY",)
REFERENCE_MODELS = {
    "vww": ("training/visual_wake_words/trained_models", "vww/vww_model_data", "g_person_detect_model_data"),
    "ic": ("reference_submissions/image_classification", "ic/ic_model_quant_data", "pretrainedResnet_quant_tflite"),
    "kws": ("reference_submissions/keyword_spotting/kws", "kws_model_data", "g_kws_model_data"),
    "ad": ("reference_submissions/anomaly_detection", "model", "g_model"),
}
"""(folder of the headers' names, file without suffix, array) of the reference submission."""
RENESAS_MODELS = {
    "vww": ("TFLite_model_vww", "EEMBCVWW"),
    "ic": ("TFLite_model_IC", "EEMBCIC"),
    "kws": ("TFLite_model_KWS", "EEMBCKWS"),
    "ad": ("TFLite_model_AD", "EEMBCAD"),
}
"""(file without suffix, macro that turns it on) of Renesas' submission."""
RENESAS_FOLDER = "tensorflow/lite/micro/examples"
RENESAS_ARRAY = "tflite_model"
INVOKE = "_ZN6tflite16MicroInterpreter6InvokeEv"
_OPS = (
    *("4conv4Eval", "14depthwise_conv4Eval", "15fully_connected4Eval", "3add4Eval", "7pooling11AverageEval"),
    *("7reshape4Eval", "11activations11SoftmaxEval"),
)
STEPS = tuple(f"_ZN6tflite3ops5micro{op}EP13TfLiteContextP10TfLiteNode" for op in _OPS)
"""The function of each kind of op in version 2.3, as the compiler names it."""


def sources(folder: Path) -> Iterator[Path]:
    """Yields what is compiled of the runtime in a folder."""
    for path in sorted((folder / "tensorflow").rglob("*.cc")):
        inside = path.relative_to(folder).parts
        if not set(NOT_COMPILED) & set(inside) and path.name != "debug_log.cc":  # the driver has its own
            yield path
    yield folder / "tensorflow/lite/c/common.c"

"""One tree of errors. Each message says what happened, what was expected, what came, what to do."""


class RCTError(Exception):
    """Base of every error that a user can cause and mend. The command line prints it without traceback."""


class QuantizationError(RCTError):
    """A bit-width, scale or integer does not fit the quantisation grid."""


class RecipeError(RCTError):
    """A recipe, policy or optimizer setting is out of range."""


class UnsupportedLayerError(RCTError):
    """A model holds a layer or an op that cannot be quantised, exported or trained."""


class ModelFileError(RCTError):
    """A `.keras` or `.tflite` file is damaged, or holds something else than a model of ours."""


class DataError(RCTError):
    """Samples or labels have the wrong shape, dtype or values."""


class TargetError(RCTError):
    """A target is unknown, or its description is wrong."""


class FitError(RCTError):
    """The model does not fit the target's RAM or flash."""


class OutputFolderError(RCTError):
    """An output folder exists with other content, or cannot be written."""


class ToolchainError(RCTError):
    """No compiler was found, or it refused the code."""


class EmulatorError(RCTError):
    """No emulator was found, or the emulated firmware failed."""


class DeviceError(RCTError):
    """A device answered with an error, or not in our protocol."""

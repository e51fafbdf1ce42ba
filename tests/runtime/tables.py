"""The runtime's tables as ctypes structures; pointers are addresses."""

import ctypes
from ctypes import c_bool, c_int8, c_int16, c_int32, c_uint8, c_uint16, c_uint32, c_void_p


class Requant(ctypes.Structure):
    _fields_ = (
        ("multiplier", c_void_p),
        ("shift", c_void_p),
        ("per_channel", c_uint8),
        ("zero_point", c_int16),
        ("act_min", c_int16),
        ("act_max", c_int16),
    )


class Window(ctypes.Structure):
    _fields_ = (
        *((name, c_uint16) for name in ("in_h", "in_w", "in_channels", "out_h", "out_w", "out_channels")),
        *((name, c_uint8) for name in ("filter_h", "filter_w", "stride_h", "stride_w", "pad_top", "pad_left")),
    )


class Weights(ctypes.Structure):
    _fields_ = (
        ("rows", c_void_p),
        ("bias", c_void_p),
        ("channels", c_uint16),
        ("depth", c_uint16),
        ("row_bytes", c_uint16),
        ("bits", c_uint8),
        ("split", c_void_p),
    )


class FullyConnected(ctypes.Structure):
    _fields_ = (("weights", Weights), ("input_zero_point", c_int16), ("requant", Requant))


class Conv2D(ctypes.Structure):
    _fields_ = (("window", Window), ("weights", Weights), ("input_zero_point", c_int16), ("requant", Requant))


class Pool2D(ctypes.Structure):
    _fields_ = (("window", Window), ("act_min", c_int16), ("act_max", c_int16))


class Operand(ctypes.Structure):
    _fields_ = (("count", c_int32), ("zero_point", c_int16), ("multiplier", c_int32), ("shift", c_int8))


class Pair(ctypes.Structure):
    _fields_ = (
        ("first", Operand),
        ("second", Operand),
        ("subtract", c_bool),
        ("count", c_int32),
        ("multiplier", c_int32),
        ("shift", c_int8),
        *((name, c_int16) for name in ("zero_point", "act_min", "act_max")),
    )


class Mean(ctypes.Structure):
    _fields_ = (
        ("positions", c_int32),
        ("channels", c_uint16),
        ("input_zero_point", c_int16),
        ("multiplier", c_int32),
        ("shift", c_int8),
        ("zero_point", c_int16),
    )


class ErrorScale(ctypes.Structure):
    _fields_ = (("ratio", c_void_p), ("guard_bits", c_uint8), ("dropped_bits", c_uint8))


class StepMultiplier(ctypes.Structure):
    _fields_ = (("mantissa", c_void_p), ("shift", c_void_p), ("per_channel", c_uint8))


class Learn(ctypes.Structure):
    _fields_ = (
        ("rows", c_void_p),
        ("bias", c_void_p),
        ("weight_step", StepMultiplier),
        ("bias_step", StepMultiplier),
        ("bias_limit", c_int32),
        ("stochastic", c_bool),
        ("biases_only", c_bool),
    )


class Grad(ctypes.Structure):
    _fields_ = (
        ("scale", ErrorScale),
        ("learn", c_void_p),
        ("gain", c_void_p),
        ("row", c_void_p),
        ("sums", c_void_p),
    )


class PairGrad(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("count", "operand", "other")),
        ("other_zero_point", c_int16),
        ("negative", c_bool),
        ("gain", c_void_p),
        ("sums", c_void_p),
        ("dropped_bits", c_uint8),
    )


class Merge(ctypes.Structure):
    _fields_ = (("ratio", c_int16 * 2), ("exponent", c_int16 * 2), ("gain", c_void_p))


class Loss(ctypes.Structure):
    _fields_ = (("exp_table", c_void_p), ("exp_entries", c_uint16), ("classes", c_uint16))


class Backward(ctypes.Structure):
    _fields_ = (("exponent", c_int32), ("loss_exponent", c_int32), ("random", c_uint32))


TABLES = (
    Requant,
    Window,
    Weights,
    FullyConnected,
    Conv2D,
    Pool2D,
    Pair,
    Mean,
    ErrorScale,
    StepMultiplier,
    Learn,
    Grad,
    PairGrad,
    Merge,
    Loss,
    Backward,
)

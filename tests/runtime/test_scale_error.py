"""Factors of the error at the loss: the C gives the bytes of the reference, in both widths of errors."""

import ctypes
import subprocess

import numpy as np
import pytest

from rct_tflite.firmware.toolchain import find_toolchain
from rct_tflite.reference.gradients import ScaledError
from rct_tflite.reference.rates import Clip, factor_of, scale_error, weigh_outputs
from tests.runtime import harness, tables

COUNT = 9
OPTIONS = harness.KERNELS.parent / "options"


class Factor(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int32),
        ("limit_mantissa", ctypes.c_uint16),
        ("limit_shift", ctypes.c_int16),
        ("norm_shift", ctypes.c_uint8),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("options") / "options.so"
    sources = [OPTIONS / "scale_error.c", OPTIONS / "scale_error_16.c"]
    folders = [f"-I{folder}" for folder in (OPTIONS, harness.KERNELS, harness.KERNELS.parent)]
    command = [*find_toolchain("host", "auto").command, *harness.WARNINGS, "-O1", "-fPIC", "-shared", *folders]
    subprocess.run([*command, *map(str, sources), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


@pytest.mark.parametrize("bits", [8, 16])
def test_every_factor_equals_the_reference(library, bits):
    random, suffix = np.random.default_rng(bits), "_16" if bits == 16 else ""
    top, dtype = 2 ** (bits - 1) - 1, np.int16 if bits == 16 else np.int8
    for _ in range(400):
        values = random.integers(-top, top + 1, COUNT).astype(dtype)
        values[0] = random.choice([-top, top, top // 2])
        error = ScaledError(values.astype(np.int64), int(random.integers(-1, 22)))
        rate, weight = int(2 ** random.uniform(0, 31.9)), int(2 ** random.uniform(0, 15.9))
        clip = Clip(factor_of(int(2 ** random.uniform(15, 31)), int(random.integers(20, 34))), 12)
        clip = clip if random.integers(2) else None
        factor = Factor(COUNT, clip.limit.mantissa, clip.limit.shift, clip.norm_shift) if clip else Factor(COUNT)
        state = tables.Backward(error.exponent, error.exponent, 0)
        pointer = values.ctypes.data_as(ctypes.c_void_p)
        call = getattr(library, "rct_scale_error" + suffix)
        call(ctypes.byref(factor), ctypes.c_uint32(rate), ctypes.c_uint16(weight), pointer, ctypes.byref(state))
        wanted = scale_error(error, rate, weight, clip, bits)
        np.testing.assert_array_equal(values, wanted.values)
        assert state.exponent == state.loss_exponent == wanted.exponent
        weights = (2 ** random.uniform(0, 15.9, COUNT)).astype(np.uint16)
        call = getattr(library, "rct_weigh_outputs" + suffix)
        call(weights.ctypes.data_as(ctypes.c_void_p), COUNT, pointer, ctypes.byref(state))
        weighted = weigh_outputs(wanted, tuple(weights.tolist()), bits)
        np.testing.assert_array_equal(values, weighted.values)
        assert state.exponent == weighted.exponent

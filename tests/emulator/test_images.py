"""Sizes, float instructions and heap of an image."""

import re

import pytest

from rct_tflite.emulator import float_instructions, heap_symbols, image_sizes
from rct_tflite.emulator.image import load_image
from rct_tflite.errors import EmulatorError


def test_sizes(build_image, toolchain, stack_bytes):
    path = build_image(toolchain)
    sizes, image = image_sizes(path), load_image(path)
    assert sizes.stack == image.stack_bytes == stack_bytes
    assert 256 <= sizes.bss < 300  # `bytes`
    assert 64 <= sizes.data < 128  # `table`, and the port's streams
    assert 1000 < sizes.text < 8000
    assert sizes.flash_bytes == sum(len(segment.data) for segment in image.segments)
    assert sizes.ram_bytes == sizes.data + sizes.bss + stack_bytes


def test_integers_have_no_float_and_no_heap(build_image, toolchain):
    image = build_image(toolchain)
    assert float_instructions(image) == ()
    assert heap_symbols(image) == ()


def test_floats_and_heap_are_found(build_image, toolchain):
    image = build_image(toolchain, "floats")
    if toolchain.core == "rv32imc":  # without an FPU whose instructions could be found
        assert "__mulsf3: linked" in float_instructions(image)
    else:
        with_fpu = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
        product = "vmul.f32" if toolchain.core in with_fpu else "__(aeabi_fmul|mulsf3)"
        (found,) = (line for line in float_instructions(image) if line.startswith("scaled: "))
        assert re.search(product, found)
    assert heap_symbols(image) == ("malloc",)


def test_not_an_image(tmp_path):
    text = tmp_path / "image.elf"
    text.write_text("int main(void);")
    for path in (text, tmp_path / "missing.elf"):
        with pytest.raises(EmulatorError, match=r"Expected an ELF image.*Build it first"):
            load_image(path)

"""Runs a built firmware image: its answer, its instructions per function, its stack, and what it must not hold."""

from rct_tflite.emulator.disassembly import float_instructions, heap_symbols
from rct_tflite.emulator.finder import CORES, Emulator, available_emulators, find_emulator
from rct_tflite.emulator.image import ImageSizes, image_sizes

__all__ = [
    "CORES",
    "Emulator",
    "ImageSizes",
    "available_emulators",
    "find_emulator",
    "float_instructions",
    "heap_symbols",
    "image_sizes",
]

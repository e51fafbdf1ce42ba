"""A target to start from, whose numbers are off as a data sheet's are."""

import pytest

from rct_tflite.spec.target import Memory, Quantity, Target


def derived(value, low, high):
    return Quantity(value, low, high, "derived", "believed")


@pytest.fixture
def target():
    return Target(
        name="synthetic",
        description="a board that is made up",
        core="cortex-m7",
        flash=Memory(0x08000000, 1 << 20),
        ram=Memory(0x20000000, 1 << 18),
        stack_bytes=2048,
        clock_mhz=derived(100, 100, 100),
        cycles_per_instruction=derived(1.0, 0.6, 1.5),
        active_mw_per_mhz=derived(0.4, 0.2, 0.8),
    )

import math

import pytest

from rct_tflite.errors import RecipeError
from rct_tflite.planning.options import StepRequest, read_schedule, step_options
from rct_tflite.spec.step_options import PLAIN_STEP, RATE_ONE
from tests.graphs import dense_digits

GRAPH = dense_digits()


def test_nothing_asked_for_is_a_plain_step():
    assert step_options(GRAPH, StepRequest()) == PLAIN_STEP
    assert step_options(GRAPH, StepRequest(schedule="manual")).schedule == ()


def test_schedules():
    halved = read_schedule("halve:50")
    assert [(point.step, point.rate) for point in halved[:2]] == [(50, RATE_ONE // 2), (100, RATE_ONE // 4)]
    for steps in (1, 7, 32, 1000):
        cosine = read_schedule(f"cosine:{steps}")
        assert cosine[0].step == 0
        for point, following in zip(cosine, [*cosine[1:], None], strict=True):
            middle = (point.step + (following.step if following else steps)) / 2
            assert point.rate / RATE_ONE == pytest.approx((1 + math.cos(math.pi * middle / steps)) / 2, abs=0.05)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "halve",
        "halve:0",
        "halve:-1",
        "halve:1.5",
        "cosine:0",
        "cosine:x",
        "1=2,1=3",
        "5=1,4=1",
        "0=0",
        "0=-1",
        "0=nan",
        "0=inf",
        "0=1e-9",
        "0=70000",
        "a=1",
        "0",
        "4294967296=1",
        "halve:²",
        "sine:5",
    ],
)
def test_schedules_that_cannot_be_read(text):
    with pytest.raises(RecipeError, match="Cannot read the schedule.*Expected 'manual', .*Received: "):
        step_options(GRAPH, StepRequest(schedule=text))


@pytest.mark.parametrize(
    "text", ["", "1", "1," * 10, ",".join("1" * 11), "0" + ",1" * 9, "nan" + ",1" * 9, "256" + ",1" * 9]
)
def test_class_weights_that_cannot_be(text):
    with pytest.raises(RecipeError, match="Expected 10 numbers of 1/256 to 256"):
        step_options(GRAPH, StepRequest(class_weights=text))


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_norms_that_cannot_be(norm):
    with pytest.raises(RecipeError, match="Cannot clip to this norm. Expected 1e-06 to 1e.06. Received: "):
        step_options(GRAPH, StepRequest(clip_norm=norm))

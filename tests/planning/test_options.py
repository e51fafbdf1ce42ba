import dataclasses
import math

import pytest

from rct_tflite.errors import FitError, RecipeError
from rct_tflite.planning.fit import check_fit
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.options import StepRequest, aid_options, read_schedule, step_options
from rct_tflite.planning.selection import select
from rct_tflite.spec.aid_options import AidOptions
from rct_tflite.spec.step_options import PLAIN_STEP, RATE_ONE, StepOptions
from rct_tflite.spec.target import Memory
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.training_plan import Loss
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


@pytest.mark.parametrize("request_", [StepRequest(accumulate=n) for n in (0, -1, 65_536)])
def test_sums_that_cannot_be(request_):
    with pytest.raises(RecipeError, match="Expected 1 to 65535. Received: "):
        step_options(GRAPH, request_)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 0.999, 0.001, float("nan")])
def test_momentum_that_cannot_be(momentum):
    with pytest.raises(RecipeError, match="The momentum is out of range. Expected 0, or 1/256 to 255/256."):
        step_options(GRAPH, StepRequest(momentum=momentum))


@pytest.mark.parametrize(("slots", "loss"), [(0, Loss.SOFTMAX_CROSS_ENTROPY), (65_536, "softmax"), (4, Loss.HUBER)])
def test_buffers_that_cannot_be(slots, loss):
    with pytest.raises(RecipeError, match="Expected 1 to 65535 samples, and a loss of classes"):
        aid_options(Loss.SOFTMAX_CROSS_ENTROPY if loss == "softmax" else loss, StepRequest(replay=slots))


def test_keeping_the_best_evaluates():
    assert aid_options(Loss.HUBER, StepRequest(keep_best=True)) == AidOptions(evaluates=True, keeps_best=True)


def test_what_does_not_fit_is_named_with_its_bytes():
    """dense_digits() has 64 * 32 weights and 32 biases, 32 * 10 and 10."""
    plain = select(GRAPH, "all")
    options = StepOptions(accumulate=4, momentum=230)
    plan = dataclasses.replace(plain, options=options, aids=AidOptions(True, True, 10))
    memory, target = plan_memory(GRAPH, plan), find_target("cortex-m7")
    sums, momentum = 4 + 2 * (32 * (65 + 2) + 10 * (33 + 2)), 32 * (65 + 4) + 10 * (33 + 4) + 2
    assert [(extra.name, extra.size) for extra in memory.extras] == [
        ("gradient sums", sums),
        ("momentum", momentum),
        ("evaluation", 16 + 200),
        ("best weights", memory.parameter_bytes),
        ("replay buffer", 640 + 20 + 60 + 8),
    ]
    need = check_fit(GRAPH, memory, target)
    assert need.ram - check_fit(GRAPH, plan_memory(GRAPH, plain), target).ram >= sum(e.size for e in memory.extras)
    small = dataclasses.replace(target, ram=Memory(0x20000000, need.ram - 4))
    with pytest.raises(FitError, match=rf"gradient sums {sums} B, .*Leave options out \(gradient sums, momentum, "):
        check_fit(GRAPH, memory, small)

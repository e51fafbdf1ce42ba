"""What the kernels cost does not grow: tools/kernel_budgets.json holds what was measured."""

import json

import pytest

from rct_tflite.firmware.toolchain import available_toolchains
from tools.bench_kernels import BUDGET_SAMPLES, BUDGETED, BUDGETS, WORKLOADS, measure

GROWTH = 1.03

CASES = [
    name for name in BUDGETED if "gcc" in [toolchain.name for toolchain in available_toolchains(WORKLOADS[name].core)]
]


@pytest.mark.parametrize("name", CASES)
def test_cost_is_within_its_budget(name):
    budgets = json.loads(BUDGETS.read_text())
    for figure in measure(name, BUDGET_SAMPLES):
        budget = budgets[figure.name]
        assert figure.value <= budget * GROWTH, f"{figure}: more than 3 % above {budget}"


def test_every_budget_is_measured():
    assert {name.removesuffix("_ram").removesuffix("_code") for name in json.loads(BUDGETS.read_text())} == {*BUDGETED}

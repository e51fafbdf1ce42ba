"""The truth of a synthetic board comes back: power within 1 %, cycles per instruction within 2 %."""

from dataclasses import replace

import numpy as np
import pytest

from rct_tflite.energy.calibration.calibrate import TraceOptions, calibrate_table, calibrate_trace
from rct_tflite.energy.calibration.linear_fit import fit_shrunk
from rct_tflite.energy.calibration.schedule import COMPUTE, read_schedule
from rct_tflite.energy.calibration.trace import Workload
from rct_tflite.errors import DataError
from rct_tflite.spec.target import Quantity
from tests.energy.calibration import synthetic
from tests.energy.calibration.synthetic import Board

SCHEDULE = synthetic.make_schedule()
COMPUTING = [phase for phase in SCHEDULE.phases if phase.kind == COMPUTE]
POWER_BAR = 0.01
CPI_BAR = 0.02


def values(calibration):
    return {coefficient.name: coefficient.quantity for coefficient in calibration.coefficients}


def errors(calibration, board):
    """Returns the largest relative error of a power and of a CPI."""
    found = values(calibration)
    active = found["active_mw_per_mhz"].value * synthetic.CLOCK_MHZ
    power = [
        active * found[f"power.{name}"].value / (board.active_mw * share) - 1
        for name, share in board.power_share.items()
    ]
    cpi = [found[f"cpi.{name}"].value / cpi - 1 for name, cpi in board.cpi.items()]
    return np.abs([*power, active / board.active_mw - 1]).max(), np.abs(cpi).max()


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize(
    "board",
    [
        Board(),
        Board(noise=0.15, seed=2),
        Board(drift=-0.03, noise=0.1, seed=3),
        Board(offset_mw=-3.0, zero_s=0.4, drift=0.02, noise=0.1, seed=4),
        Board(sleep_mw=40.0, seed=5),
        Board(active_mw=25.0, sleep_mw=0.01, seed=6),
        Board(cpi={name: 2 * cpi for name, cpi in synthetic.CPI.items()}, seed=7),
    ],
)
def test_the_truth_comes_back(board, marked, target):
    trace, _ = synthetic.record(SCHEDULE, board)
    options = TraceOptions(use_marks=marked, zero_s=max(board.zero_s - 0.01, 0.0))
    calibration = calibrate_trace(target, SCHEDULE, trace, options)
    power, cpi = errors(calibration, board)
    assert power < POWER_BAR
    assert cpi < CPI_BAR
    assert calibration.stayed == ()
    found = values(calibration)
    assert found["flash.write_us_per_byte"].value == pytest.approx(board.write_s_per_byte * 1e6, rel=0.02)
    drawn = board.flash_mw * board.write_s_per_byte * 1e3
    assert found["flash.write_uj_per_byte"].value == pytest.approx(drawn, rel=0.04)
    assert found["flash.erase_us_per_byte"].value == pytest.approx(board.erase_s_per_byte * 1e6, rel=0.02)
    assert found["cycles_per_instruction"].low <= min(board.cpi.values()) * 1.01
    assert found["cycles_per_instruction"].high >= max(board.cpi.values()) * 0.99
    for name, share in board.cpi.items():
        assert found[f"cpi.{name}"].low <= share <= found[f"cpi.{name}"].high


def test_missing_marks_change_nothing(target):
    trace, spans = synthetic.record(SCHEDULE)
    for phase in (0, 5):
        trace = synthetic.lose_mark(trace, spans, phase)
    power, cpi = errors(calibrate_trace(target, SCHEDULE, trace, TraceOptions()), Board())
    assert power < POWER_BAR
    assert cpi < CPI_BAR


def test_left_out_errors_are_larger_and_small(target):
    trace, _ = synthetic.record(SCHEDULE)
    points = calibrate_trace(target, SCHEDULE, trace, TraceOptions()).points
    assert len(points) == len(COMPUTING)
    for point in points:
        assert point.seconds_predicted == pytest.approx(point.seconds, rel=0.01)
        assert point.seconds_left_out == pytest.approx(point.seconds, rel=0.02)
        assert abs(point.seconds_left_out - point.seconds) >= abs(point.seconds_predicted - point.seconds)


def test_leaving_out_is_what_fitting_without_is():
    random = np.random.default_rng(5)
    design, target = random.normal(size=(7, 3)), random.normal(size=7)
    sigma, prior, sd = np.full(7, 0.3), np.array([0.5, 0.0, -1.0]), np.array([1.0, 0.2, 3.0])
    whole = fit_shrunk(design, target, sigma, prior, sd)
    for point in range(7):
        others = np.arange(7) != point
        fit = fit_shrunk(design[others], target[others], sigma[others], prior, sd)
        np.testing.assert_allclose(whole.left_out[point], design[point] @ fit.value)


def only(*names):
    phases = tuple(phase for phase in SCHEDULE.phases if phase.name in names)
    return replace(SCHEDULE, phases=phases)


def test_classes_that_were_not_measured_stay_at_their_default(target):
    target = replace(target, op_cpi=(("update", Quantity(2.0, 1.0, 3.0, "derived", "believed")),))
    schedule = replace(SCHEDULE, phases=tuple(p for p in COMPUTING if not p.name.startswith("update")))
    # A tenth of a microsecond of one phase is the only work of its class.
    first = replace(schedule.phases[0], instructions=(*schedule.phases[0].instructions, ("update", 1e-3)))
    schedule = replace(schedule, phases=(first, *schedule.phases[1:]))
    trace, _ = synthetic.record(schedule)
    calibration = calibrate_trace(target, schedule, trace, TraceOptions())
    assert set(calibration.stayed) == {"cpi.update", "power.update"}
    # It moves with the core's common level, and its interval stays wide.
    update = values(calibration)["cpi.update"]
    assert update.value == pytest.approx(2.0 * np.mean([1.32, 1.71, 1.45, 1.0]), rel=0.15)
    assert update.high - update.low > 0.5


def test_wrong_units_and_a_wrong_clock_are_told(target):
    trace, _ = synthetic.record(SCHEDULE)
    with pytest.raises(DataError, match="right units"):
        calibrate_trace(target, SCHEDULE, replace(trace, power_w=trace.power_w * 1e3), TraceOptions())
    slow = replace(target, cycles_per_instruction=Quantity(0.1, 0.09, 0.11, "derived", "believed"))
    with pytest.raises(DataError, match="Does the board run at 100 MHz"):
        calibrate_trace(slow, SCHEDULE, trace, TraceOptions())
    with pytest.raises(DataError, match="negative"):
        calibrate_trace(target, SCHEDULE, replace(trace, power_w=-trace.power_w), TraceOptions())


def test_a_phase_far_off_is_told(target):
    # Nobody sees that this phase computes something else, but that it does not fit the other phase of its class.
    wrong = replace(SCHEDULE.phases[1], instructions=(("mac", 2.2 * SCHEDULE.phases[1].instructions[0][1]),))
    schedule = replace(SCHEDULE, phases=(SCHEDULE.phases[0], wrong, *SCHEDULE.phases[2:]))
    trace, _ = synthetic.record(SCHEDULE)
    notes = calibrate_trace(target, schedule, trace, TraceOptions()).notes
    assert any("mac" in note and "off the fit" in note for note in notes)


def table(board, phases, with_instructions=True):
    return [
        Workload(
            phase.name,
            board.duration(phase) / phase.iterations,
            board.duration(phase) / phase.iterations * board.power_w(phase),
            phase.instructions if with_instructions else (),
        )
        for phase in phases
    ]


def test_a_table_of_workloads(target):
    board = Board()
    for schedule, rows in (
        (SCHEDULE, table(board, COMPUTING, with_instructions=False)),
        (None, table(board, COMPUTING)),
    ):
        calibration = calibrate_table(target, schedule, rows, synthetic.CLOCK_MHZ, "table.csv")
        power, cpi = errors(calibration, board)
        assert power < POWER_BAR
        assert cpi < CPI_BAR


def test_a_workload_of_unknown_instructions_tells_the_power_alone(target):
    rows = table(Board(), COMPUTING[:1], with_instructions=False)
    calibration = calibrate_table(target, None, rows, synthetic.CLOCK_MHZ, "results.txt")
    assert calibration.stayed == ("cycles_per_instruction",)
    found = values(calibration)
    assert found["cycles_per_instruction"] == target.cycles_per_instruction
    assert found["active_mw_per_mhz"].value == pytest.approx(0.6, rel=0.01)
    assert any("instructions not known" in note for note in calibration.notes)


def test_one_workload_fits_the_mean(target):
    rows = [Workload("kws", 0.02, 0.02 * 0.06, (("", 1e6),))]
    found = values(calibrate_table(target, None, rows, 100.0, "table.csv"))
    assert found["cycles_per_instruction"].value == pytest.approx(2.0, rel=0.02)


def test_nothing_to_fit(target):
    rows = [Workload("kws", float("nan"), 1.0)]
    with pytest.raises(DataError, match="Nothing to fit"):
        calibrate_table(target, None, rows, 100.0, "table.csv")


def test_schedules_are_read_back(tmp_path):
    path = tmp_path / "schedule.json"
    SCHEDULE.write(path)
    assert read_schedule(path) == SCHEDULE
    text = path.read_text()
    for old, new in (('"format": 1', '"format": 2'), ('"kind": "compute"', '"kind": "x"'), ('"seconds"', '"s"')):
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match="no schedule"):
            read_schedule(path)
    with pytest.raises(DataError, match="no schedule"):
        read_schedule(tmp_path / "none.json")

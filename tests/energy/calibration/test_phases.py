"""Phases are found where they are; marks that are wrong are never fitted."""

from dataclasses import replace

import numpy as np
import pytest

from rct_tflite.energy.calibration.matching import Expected, is_ambiguous, match
from rct_tflite.energy.calibration.phases import find_phases
from rct_tflite.energy.calibration.trace import Trace
from rct_tflite.errors import DataError
from tests.energy.calibration import synthetic
from tests.energy.calibration.synthetic import Board

SCHEDULE = synthetic.make_schedule()
TRACE, SPANS = synthetic.record(SCHEDULE)
RATE = 10_000


def unmarked(trace):
    return replace(trace, digital=None)


@pytest.mark.parametrize(
    "board",
    [
        Board(),
        Board(noise=0.2),
        Board(sleep_mw=40.0),  # a board that waits, but does not sleep
        Board(drift=0.02),
        Board(offset_mw=5.0),
        Board(cpi={name: 3 * cpi for name, cpi in synthetic.CPI.items()}),  # a third of the clock that is believed
        Board(power_share={**synthetic.POWER_SHARE, "mac": 1.4}),
    ],
)
@pytest.mark.parametrize("marked", [True, False])
def test_phases_are_found(board, marked):
    trace, spans = synthetic.record(SCHEDULE, board)
    found = find_phases(trace if marked else unmarked(trace), SCHEDULE)
    assert [phase.name for phase in found.phases] == [phase.name for phase in SCHEDULE.phases]
    for phase, truth, (begin, end) in zip(found.phases, SCHEDULE.phases, spans, strict=True):
        assert phase.seconds == pytest.approx(end - begin, abs=5e-4)
        drawn = board.power_w(truth) * (1 + board.drift) + board.offset_mw * 1e-3
        assert phase.power_w == pytest.approx(drawn, rel=0.005 + board.drift)
    assert found.sleep_w * 1e3 == pytest.approx(board.sleep_mw + board.offset_mw, abs=0.5)


@pytest.mark.parametrize("samples", [100, 500, -500, 3000, -8000])
def test_shifted_marks_are_an_error(samples):
    with pytest.raises(DataError, match="contradict its power|do not fit"):
        find_phases(synthetic.shift_marks(TRACE, samples), SCHEDULE)


@pytest.mark.parametrize("phase", range(len(SCHEDULE.phases)))
def test_a_missing_mark_is_taken_from_the_power(phase):
    found = find_phases(synthetic.lose_mark(TRACE, SPANS, phase), SCHEDULE)
    assert len(found.phases) == len(SCHEDULE.phases)
    assert found.phases[phase].seconds == pytest.approx(SPANS[phase][1] - SPANS[phase][0], abs=5e-4)
    assert any(SCHEDULE.phases[phase].name in note for note in found.notes)


@pytest.mark.parametrize("phase", [0, 3, 7])
def test_a_short_or_long_mark_is_an_error(phase):
    digital = TRACE.digital.copy()
    begin, end = np.searchsorted(TRACE.time_s, SPANS[phase])
    digital[(begin + end) // 2 : end + 5] = 0
    with pytest.raises(DataError, match=f"contradict its power.*{SCHEDULE.phases[phase].name}"):
        find_phases(replace(TRACE, digital=digital), SCHEDULE)


def test_marks_on_another_input_or_inverted():
    assert len(find_phases(replace(TRACE, digital=TRACE.digital << 3), SCHEDULE).phases) == len(SCHEDULE.phases)
    assert len(find_phases(replace(TRACE, digital=~TRACE.digital), SCHEDULE).phases) == len(SCHEDULE.phases)
    assert len(find_phases(TRACE, SCHEDULE, input_bit=2).phases) == len(SCHEDULE.phases)
    with pytest.raises(DataError, match="--input"):
        find_phases(TRACE, SCHEDULE, input_bit=5)


def test_an_input_that_is_no_mark_is_not_fitted():
    random = np.random.default_rng(3)
    chatter = np.repeat(random.integers(0, 2, len(TRACE.time_s) // 4000 + 1), 4000)[: len(TRACE.time_s)]
    wrong = replace(TRACE, digital=chatter.astype(np.uint8))
    with pytest.raises(DataError, match="--no-marks"):
        find_phases(wrong, SCHEDULE)
    assert len(find_phases(wrong, SCHEDULE, use_marks=False).phases) == len(SCHEDULE.phases)
    # The right input is found beside it.
    both = replace(TRACE, digital=TRACE.digital | chatter.astype(np.uint8))
    assert find_phases(both, SCHEDULE).phases == find_phases(TRACE, SCHEDULE).phases


def test_no_phases():
    flat = Trace(TRACE.time_s, np.full(len(TRACE.time_s), 0.03), None, "flat")
    noise = replace(flat, power_w=flat.power_w + np.random.default_rng(1).normal(0, 0.01, len(flat.time_s)))
    for trace in (flat, noise):
        with pytest.raises(DataError, match="No phases of the benchmark"):
            find_phases(trace, SCHEDULE)
    short = Trace(TRACE.time_s[:20000], TRACE.power_w[:20000], None, "short")
    with pytest.raises(DataError, match="No phases of the benchmark"):
        find_phases(short, SCHEDULE)


def test_steps_cannot_check_marks_of_a_board_that_never_rests():
    board = Board(sleep_mw=57.0, noise=0.02)
    trace, _ = synthetic.record(SCHEDULE, board)
    found = find_phases(trace, SCHEDULE)
    assert any("could not be checked" in note for note in found.notes)


def test_a_trace_that_was_cut_off_lacks_its_last_phase():
    end = np.searchsorted(TRACE.time_s, SPANS[-1][0] + 0.05)
    cut = Trace(TRACE.time_s[:end], TRACE.power_w[:end], None, "cut")
    found = find_phases(cut, SCHEDULE)
    assert [phase.name for phase in found.phases] == [phase.name for phase in SCHEDULE.phases[:-1]]
    assert any("flash_write" in note for note in found.notes)


def test_phases_with_lost_samples_are_left_out():
    begin = np.searchsorted(TRACE.time_s, SPANS[2][0] + 0.2)
    lost = slice(begin, begin + 500)
    gappy = Trace(
        np.delete(TRACE.time_s, lost), np.delete(TRACE.power_w, lost), np.delete(TRACE.digital, lost), "gappy"
    )
    found = find_phases(gappy, SCHEDULE)
    names = [phase.name for phase in SCHEDULE.phases]
    assert [phase.name for phase in found.phases] == names[:2] + names[3:]
    assert any("samples were lost" in note and names[2] in note for note in found.notes)


def test_a_coarse_trace():
    coarse = Trace(TRACE.time_s[::200], TRACE.power_w[::200], None, "coarse")
    with pytest.raises(DataError, match="--seconds"):
        find_phases(coarse, SCHEDULE)


def spans_of(*lengths, sleep=0.5):
    """Begin and end of stretches; a negative length is a stretch that is not there."""
    time, found = 0.0, []
    for length in lengths:
        if length > 0:
            found.append((time, time + length))
        time += abs(length) + sleep
    return found


@pytest.mark.parametrize(
    ("lengths", "expected", "windows"),
    [
        ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (0, 1, 2)),
        ((3.0, 6.0, 9.0), (1.0, 2.0, 3.0), (0, 1, 2)),  # all three times as long
        ((0.1, 1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (1, 2, 3)),  # the board's start
        ((1.0, -2.0, 3.0, 0.5), (1.0, 2.0, 3.0, 0.5), (0, None, 1, 2)),
        ((1.0, 1.0, -1.0, 1.0), (1.0, 1.0, 1.0, 1.0), (0, 1, None, 2)),  # told by the sleep alone
    ],
)
def test_matching(lengths, expected, windows):
    wanted = Expected(expected, (0.25,) * len(expected), 0.5)
    found = match(spans_of(*lengths), wanted)
    assert found.windows == windows
    assert not is_ambiguous(found, spans_of(*lengths), wanted)


def test_equal_phases_at_the_ends_are_ambiguous():
    wanted = Expected((1.0, 1.0, 1.0), (0.25,) * 3, 0.5)
    assert is_ambiguous(match(spans_of(1.0, 1.0), wanted), spans_of(1.0, 1.0), wanted)

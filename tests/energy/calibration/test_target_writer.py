"""What was measured stands in the written target, all else is that of the base."""

import math
from dataclasses import replace

import pytest

from rct_tflite.energy.calibration.calibrate import TraceOptions, calibrate_table, calibrate_trace
from rct_tflite.energy.calibration.readers.serial import read_serial
from rct_tflite.energy.calibration.target_writer import write_target
from rct_tflite.energy.calibration.trace import Workload
from rct_tflite.errors import DataError, OutputFolderError, TargetError
from rct_tflite.spec.target_file import list_targets, read_target_file, target_path
from tests.energy.calibration import synthetic

SCHEDULE = synthetic.make_schedule()


@pytest.mark.parametrize("name", list_targets())
def test_written_targets_are_read_back(name, tmp_path, target):
    base = read_target_file(target_path(name))
    trace, _ = synthetic.record(SCHEDULE)
    slower = base.target.clock_mhz.value / 2
    calibration = replace(calibrate_trace(target, SCHEDULE, trace, TraceOptions()), clock_mhz=slower)
    path = tmp_path / "my-board.toml"
    left = write_target(base, calibration, path)
    written = read_target_file(path)
    assert written.target.name == "my-board"
    assert written.target.core == base.target.core
    assert (written.target.flash, written.target.ram) == (base.target.flash, base.target.ram)
    assert written.target.regions == base.target.regions
    before, after = dict(base.quantities), dict(written.quantities)
    fitted = {c.name: c.quantity for c in calibration.coefficients if c.is_fitted}
    for key, quantity in after.items():
        if key in fitted:
            assert quantity.value == pytest.approx(fitted[key].value, rel=1e-5)
            assert quantity.confidence == "measured"
            assert "synthetic" in quantity.source
        elif key != "clock_mhz":
            assert quantity == before[key]
    assert after["clock_mhz"].value == slower
    assert set(left) == set(fitted) - set(after)
    assert {"cycles_per_instruction", "active_mw_per_mhz", "cpi.mac", "power.update"} <= set(after) & set(fitted)


def test_numbers_that_were_not_measured_stay(tmp_path):
    base = read_target_file(target_path("cortex-m7"))
    calibration = calibrate_table(base.target, None, [Workload("kws", 0.02, 0.0036)], 216.0, "results.txt")
    write_target(base, calibration, tmp_path / "mine.toml")
    written = dict(read_target_file(tmp_path / "mine.toml").quantities)
    assert written["cycles_per_instruction"] == base.target.cycles_per_instruction
    assert written["active_mw_per_mhz"].value == pytest.approx(180 / 216, rel=0.01)
    assert written["clock_mhz"] == base.target.clock_mhz


def test_bad_places(tmp_path):
    base = read_target_file(target_path("cortex-m7"))
    calibration = calibrate_table(base.target, None, [Workload("kws", 0.02, 0.0036)], 216.0, "results.txt")
    for name, error in (
        ("mine.txt", TargetError),
        ("my board.toml", TargetError),
        ("none/mine.toml", OutputFolderError),
    ):
        with pytest.raises(error):
            write_target(base, calibration, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_the_serial_line(tmp_path):
    log = tmp_path / "serial.log"
    log.write_bytes(
        b"\0noise\r\nrct calibration clock_hz 100000000\r\n"
        b"rct phase mac_small iterations 100 cycles 528000\r\nrct phase pool iterations 5 cycles 0\r\n"
        b"rct phase flash_write iterations 5 cycles 10 failed\r\n"
    )
    (row,) = read_serial(log)
    assert (row.name, row.latency_s) == ("mac_small", pytest.approx(52.8e-6))
    assert math.isnan(row.energy_j)
    log.write_text("rct calibration clock_hz 100000000\n")
    with pytest.raises(DataError, match="tells no cycles"):
        read_serial(log)

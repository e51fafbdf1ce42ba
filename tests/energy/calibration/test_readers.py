"""Every format gives the same trace, is found by its content, and says what is wrong with a bad file."""

import json
import zipfile

import numpy as np
import pytest

from rct_tflite.energy.calibration.formats import find_format, read_measurement
from rct_tflite.energy.calibration.trace import Trace, gaps, negative_notes, without_zero
from rct_tflite.errors import DataError
from tests.energy.calibration import synthetic

SCHEDULE = synthetic.make_schedule(seconds=0.05, sleep_s=0.02)
TRACE, _ = synthetic.record(SCHEDULE, synthetic.Board(noise=0.002), rate=10_000.0, lead_s=0.02)
WITHOUT_VOLTAGE = ("ppk2-csv", "ppk2")
WITHOUT_MARKS = ("joulescope", "joulescope statistics", "csv")


@pytest.mark.parametrize("name", synthetic.WRITERS)
def test_round_trip(name, tmp_path):
    file_name, write = synthetic.WRITERS[name]
    path = tmp_path / file_name
    write(path, TRACE)
    assert find_format(path) == name.partition(" ")[0]
    trace = read_measurement(path, voltage=synthetic.VOLTAGE if name in WITHOUT_VOLTAGE else None)
    np.testing.assert_allclose(trace.time_s, TRACE.time_s, atol=1e-6)
    # The coarsest step is that of the LPM01A's log: 1e-8 A.
    np.testing.assert_allclose(trace.power_w, TRACE.power_w, rtol=1e-4, atol=4e-8)
    if name in WITHOUT_MARKS:
        assert trace.digital is None
    else:
        high = trace.digital > 0
        np.testing.assert_array_equal(high, TRACE.digital > 0)


@pytest.mark.parametrize("name", WITHOUT_VOLTAGE)
def test_a_missing_voltage_is_asked_for(name, tmp_path):
    file_name, write = synthetic.WRITERS[name]
    write(tmp_path / file_name, TRACE)
    with pytest.raises(DataError, match="--voltage"):
        read_measurement(tmp_path / file_name)
    with pytest.raises(DataError, match="0.5 to 30 V"):
        read_measurement(tmp_path / file_name, voltage=3300)


def test_separate_inputs_of_the_ppk2(tmp_path):
    path = tmp_path / "ppk.csv"
    path.write_text("Timestamp(ms),Current(uA),D0,D3\n0,5.000,1,0\n0.01,6.000,X,1\n0.02,-1.5,-,1\n")
    trace = read_measurement(path, voltage=2.0)
    assert trace.digital.tolist() == [1, 8, 8]
    np.testing.assert_allclose(trace.power_w, [10e-6, 12e-6, -3e-6])


@pytest.mark.parametrize(
    ("header", "row", "power_w"),
    [
        ("t [us],load current [mA],supply voltage [mV]", "1,2,3000", 6e-3),
        ("Time_s,Current_uA", "1,2,", None),
        ("time (s),power (uW)", "1,2", 2e-6),
        ("seconds (sec);current (nA)", "1,5;2", 6e-9),
        ("Timestamp (S)\tFile Main Current (A)", "1\t2", 6.0),
    ],
)
def test_units_of_a_header(header, row, power_w, tmp_path):
    path = tmp_path / "any.csv"
    later = row.replace("1", "2", 1)
    path.write_text(f"{header}\n{row}\n{later}\n")
    if power_w is None:
        with pytest.raises(DataError, match="no table"):
            read_measurement(path, voltage=3.0)
    else:
        np.testing.assert_allclose(read_measurement(path, voltage=3.0).power_w[0], power_w)


def test_units_from_the_user(tmp_path):
    path = tmp_path / "any.csv"
    path.write_text("a,b,c\n0,10,0\n5,20,3.3\n")
    trace = read_measurement(path, voltage=3.0, units={"a": "ms", "b": "mA", "c": "D4"})
    np.testing.assert_allclose([trace.time_s[1], trace.power_w[1]], [5e-3, 60e-3])
    assert trace.digital.tolist() == [0, 16]
    for units in ({"x": "ms"}, {"a": "furlong"}):
        with pytest.raises(DataError, match="Cannot use --column"):
            read_measurement(path, voltage=3.0, units=units)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.csv", "", "no table"),
        ("a.csv", "1,2\n3,4\n", "no table"),
        ("a.csv", "speed,colour\n1,2\n", "no column that is known as time"),
        ("a.csv", "time (s),colour\n1,2\n", "no column that is known as current"),
        ("a.csv", "time (s),current\n1,2\n2,2\n", "unit of column 'current'"),
        ("a.csv", "time (s),current (V)\n1,2\n2,2\n", "known as current"),
        ("a.csv", "time (s),current (A)\n1,2\n2,x\n", "cannot be read"),
        ("a.csv", "time (s),current (A)\n1,2\n2\n", "cannot be read"),
        ("a.csv", "time (s),current (A)\n1,2\n", "too few samples"),
        ("a.csv", "time (s),current (A)\n1,2\n2,2\n2,2\n", "does not rise"),
        ("a.csv", "time (s),current (A)\n1,2\n2,nan\n", "no numbers"),
        ("a.csv", "Timestamp(ms),D0-D7\n1,00000000\n", "lacks a column"),
        ("a.log", "PowerShield > ack htc\n", "no samples"),
        ("a.log", "PowerShield > ack htc\n6409-07\n6409-07\n", "sample rate"),
        ("a.log", "PowerShield > ack freq 1k\n6409-07\n640-", "damaged samples"),
        ("a.jls", "jlsfmt", "Export > CSV"),
        ("a.json", "[{}]", "energy run"),
        ("a.txt", "Energy/Inf. : x uJ/inf.\n", "tells no energy"),
        ("a.csv", "workload,energy_uj\nkws,5\n", "lacks latency"),
        ("a.csv", "workload,latency,energy_uj\nkws,5,5\n", "unit of column 'latency'"),
        ("a.csv", "workload,latency_ms,energy_uj,mood\nkws,5,5,5\n", "unknown column"),
        ("a.csv", "workload,latency_ms,energy_uj\nkws,5,-5\n", "no measurement"),
        ("a.csv", "workload,latency_ms,energy_uj\nkws,5,5,5\nkws,5,5\n", "no table|another number"),
    ],
)
def test_a_bad_file_is_explained(name, text, match, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=match):
        read_measurement(path, voltage=3.0)


@pytest.mark.parametrize(
    "entries",
    [
        {"metadata.json": "{}", "session.raw": ""},
        {"session.raw": "123456"},
        {"metadata.json": '{"formatVersion": 9, "metadata": {"samplesPerSecond": 1}}', "session.raw": ""},
        {"metadata.json": '{"formatVersion": 2, "metadata": {"samplesPerSecond": 0}}', "session.raw": ""},
    ],
)
def test_a_bad_ppk2_is_explained(entries, tmp_path):
    path = tmp_path / "a.ppk2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    with pytest.raises(DataError, match=r"no \.ppk2"):
        read_measurement(path, voltage=3.0)


def test_a_ppk2_that_is_no_zip_is_explained(tmp_path):
    path = tmp_path / "a.ppk2"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"no \.ppk2"):
        read_measurement(path, voltage=3.0)


def test_a_lost_timestamp_of_energyrunner_is_told(tmp_path):
    path = tmp_path / "trace1-energy.bin"
    synthetic.write_energyrunner(path, TRACE)
    stamps = path.with_name("trace1-timestamps.json")
    stamps.write_text(json.dumps(json.loads(stamps.read_text())[:1] + json.loads(stamps.read_text())[2:]))
    with pytest.raises(DataError, match="A timestamp was lost"):
        read_measurement(path)


def test_results_of_the_runners(tmp_path):
    text = tmp_path / "kws" / "results.txt"
    text.parent.mkdir()
    text.write_text("Energy/Inf.  :  1000.0 uJ/inf.\nPower : 50000 uW\nEnergy/Inf.  : 1010 uJ/inf.\nPower : 50500 uW\n")
    (row,) = read_measurement(text)
    np.testing.assert_allclose([row.latency_s, row.energy_j], [0.02, 1005e-6])
    assert row.name == "kws"
    text.write_text("Per inference: time = 0.166, energy = 0.0134\nAverage Power = 80.9 mW.\n")
    (row,) = read_measurement(text)
    assert (row.latency_s, row.energy_j) == (0.166, 0.0134)
    run = {
        "infer": {"iterations": 10},
        "power": {"samples": [0] * 5 + [2e-5] * 100, "timestamps": [["1", 5], ["2", 105]]},
    }
    (tmp_path / "kws" / "results.json").write_text(json.dumps([run, run]))
    (row,) = read_measurement(tmp_path / "kws" / "results.json")
    np.testing.assert_allclose([row.latency_s, row.energy_j], [0.01, 2e-4])


def test_a_plain_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("name,latency_us,energy_mj,instructions:conv_2d,instructions:pool\nkws,5,2,700,\nic,,3,,\n")
    first, second = read_measurement(path)
    assert first.instructions == (("conv_2d", 700.0),)
    np.testing.assert_allclose([first.latency_s, first.energy_j], [5e-6, 2e-3])
    assert np.isnan(second.latency_s)


def test_gaps_zero_and_negative_currents():
    lost = Trace(np.delete(TRACE.time_s, slice(50, 60)), np.delete(TRACE.power_w, slice(50, 60)), None, "x")
    assert gaps(lost).tolist() == [50]
    assert gaps(TRACE).tolist() == []
    offset = Trace(np.arange(100) / 10, np.where(np.arange(100) < 10, 0.5, 0.7), None, "x")
    corrected = without_zero(offset, 1.0)
    assert corrected.time_s[0] == 0
    np.testing.assert_allclose(corrected.power_w, 0.2)
    with pytest.raises(DataError, match="negative"):
        without_zero(Trace(TRACE.time_s, -TRACE.power_w, None, "x"), 0.0)
    with pytest.raises(DataError, match="too short"):
        without_zero(offset, 10.0)
    with pytest.raises(DataError, match="or nothing"):
        without_zero(Trace(TRACE.time_s, 0 * TRACE.power_w, None, "x"), 0.0)
    with pytest.raises(DataError, match="in the right units"):
        without_zero(Trace(TRACE.time_s, 1e6 * TRACE.power_w, None, "x"), 0.0)


@pytest.mark.parametrize(("every", "told"), [(50, ["2.0% of the samples are negative, 2.0% of what flows"]), (500, [])])
def test_some_negative_samples_are_told(every, told):
    power = np.full(1000, 0.03)
    power[::every] *= -1
    notes = negative_notes(Trace(np.arange(1000) / 1e3, power, None, "x"))
    assert [note.partition(":")[0] for note in notes] == told


def test_ten_million_samples_are_no_loop(tmp_path):
    """A reader that loops in Python would need minutes here; 1 million samples of each binary format take a second."""
    count = 1_000_000
    trace = Trace(np.arange(count) / 1e5, np.full(count, 0.03), np.zeros(count, np.uint8), "x")
    frames = np.zeros(count, [("i", "<f4"), ("d", "<u2")])
    frames["i"] = trace.power_w / synthetic.VOLTAGE * 1e6
    with zipfile.ZipFile(tmp_path / "a.ppk2", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"metadata": {"samplesPerSecond": 100000}, "formatVersion": 2}))
        archive.writestr("session.raw", frames.tobytes())
    assert len(read_measurement(tmp_path / "a.ppk2", voltage=3.0).time_s) == count

"""An output folder appears whole or not at all."""

import signal

import pytest

from rct_tflite.cli import main
from rct_tflite.errors import OutputFolderError
from rct_tflite.export.output_folder import staged_folder


def fill(out, force=False, content="export", then=lambda: None):
    with staged_folder(out, force) as folder:
        (folder / "manifest.json").write_text(content)
        then()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_earlier_export_is_replaced_if_forced(tmp_path):
    out = tmp_path / "a" / "out"
    fill(out)
    (out / "build").mkdir()
    with pytest.raises(OutputFolderError, match="replace it with --force"):
        fill(out)
    assert names(out) == ["build", "manifest.json"]
    fill(out, force=True)
    assert (names(out), names(out.parent)) == (["manifest.json"], ["out"])


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    fill(tmp_path / "link")
    fill(tmp_path / "link", force=True, content="second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "manifest.json").read_text() == "second"
    assert names(tmp_path) == ["link", "real"]


@pytest.mark.parametrize("force", [False, True])
def test_the_second_of_two_exports_at_once(tmp_path, force):
    out = tmp_path / "out"
    if force:
        fill(out, content="mine", force=True, then=lambda: fill(out))
    else:
        with pytest.raises(OutputFolderError, match="with an earlier export"):
            fill(out, content="mine", then=lambda: fill(out))
    assert (out / "manifest.json").read_text() == ("mine" if force else "export")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(tmp_path, monkeypatch, number):
    place = tmp_path / "a" / "b" / "out"
    monkeypatch.setattr(main, "cli", lambda **_: fill(place, then=lambda: signal.raise_signal(number)))
    # As a terminal leaves them: whoever started the tests may ignore one.
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit, match=str(128 + number)):
            main.main()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert names(tmp_path) == []

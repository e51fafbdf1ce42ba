"""What every run of the tests says of itself."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rct_tflite.emulator import available_emulators
from rct_tflite.emulator.cache import cache_folder
from rct_tflite.firmware.toolchain import HOST, Toolchain, available_toolchains
from tests.object_store import Compile, ObjectStore

CORE = "cortex-m7"


def pytest_report_header() -> list[str]:
    """Tests have a row for each compiler and emulator that is installed: says which ones."""
    lines = []
    for title, found in (
        ("host compilers", available_toolchains(HOST)),
        (f"{CORE} compilers", available_toolchains(CORE)),
        (f"{CORE} emulators", available_emulators(CORE)),
    ):
        lines.append(f"{title}: {', '.join(f'{tool.name} {tool.version}' for tool in found) or 'none'}")
    return lines


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def compile_anew() -> Iterator[Compile]:
    """Every build takes the objects that an earlier one made, in whatever run or process.

    Returns:
        `Toolchain.compile()` as it is.
    """
    compile_ = Toolchain.compile
    store = ObjectStore(cache_folder() / "test-objects", compile_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Toolchain, "compile", lambda *args, **options: store.compile(*args, **options))
        yield compile_


@pytest.fixture
def no_object_store(compile_anew: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the compiler itself: nothing is reused."""
    monkeypatch.setattr(Toolchain, "compile", compile_anew)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test proves nothing: in CI it counts as a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

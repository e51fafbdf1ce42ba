"""What every run of the tests says of itself."""

import os

import pytest

from rct_tflite.emulator import available_emulators
from rct_tflite.firmware.toolchain import HOST, available_toolchains

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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test proves nothing: in CI it counts as a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

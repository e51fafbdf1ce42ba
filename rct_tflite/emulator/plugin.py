"""Builds the QEMU plugin that counts instructions: once for each QEMU, kept in the user's cache."""

import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rct_tflite.emulator.cache import cache_folder
from rct_tflite.errors import EmulatorError

_SOURCE = Path(__file__).parent / "instruction_counter.c"
_API_VERSIONS = (1, 2, 3, 4, 5, 6)
_WANTED_VERSION = re.compile(r"API version")
_PROBE_TIMEOUT_S = 30.0


@functools.cache
def plugin_for(qemu: str) -> Path:
    """Returns the plugin that a QEMU loads.

    QEMU 7 and 8 want API version 1, QEMU 9 and later want 2 or more: the first version that it takes is kept.

    Args:
        qemu: Path of `qemu-system-arm`.

    Raises:
        EmulatorError: If there is no compiler for this computer, or QEMU takes no plugin of ours.
    """
    refusal = ""
    for version in _API_VERSIONS:
        plugin = _build(version)
        refusal = _probe(qemu, plugin)
        if not refusal:
            return plugin
        if not _WANTED_VERSION.search(refusal):
            break
    raise EmulatorError(
        f"QEMU does not load our instruction counter. Expected a QEMU with plugins, version 7.2 or later. "
        f"Received: {refusal}. Use the emulator 'unicorn': pip install 'rct-tflite[emulate]'."
    )


def _host_compiler() -> list[str]:
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path is not None:
            return [path]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise EmulatorError(
        "Cannot build the instruction counter of QEMU. Expected cc, gcc or clang on PATH. Received: none of them. "
        "Install a C compiler for this computer (Debian: gcc), or: pip install 'rct-tflite[emulate]'."
    )


def _build(api_version: int) -> Path:
    """Compiles the plugin, unless this source was compiled before. Safe when several processes do."""
    compiler = _host_compiler()
    source = _SOURCE.read_bytes()
    digest = hashlib.sha256(
        source + repr((compiler, api_version, sys.platform, platform.machine())).encode()
    ).hexdigest()[:16]
    plugin = cache_folder() / f"instruction_counter-{digest}.so"
    if plugin.exists():
        return plugin
    with tempfile.TemporaryDirectory(dir=plugin.parent) as folder:
        built = Path(folder) / plugin.name
        shared = ["-shared", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
        command = [*compiler, "-std=c99", "-O2", "-fPIC", f"-DQEMU_PLUGIN_API={api_version}", *shared]
        done = subprocess.run(
            [*command, "-o", os.fspath(built), os.fspath(_SOURCE)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise EmulatorError(
                f"Cannot build the instruction counter of QEMU. Expected {compiler[0]} to compile {_SOURCE.name}. "
                f"Received: {done.stderr.strip()}. Use the emulator 'unicorn'."
            )
        built.replace(plugin)
    return plugin


def _probe(qemu: str, plugin: Path) -> str:
    """Returns what QEMU says against the plugin, nothing if it loads it."""
    command = [qemu, "-M", "none", "-display", "none", "-monitor", "stdio", "-plugin"]
    try:
        done = subprocess.run(
            [*command, f"{plugin_option(plugin)},out={os.devnull}"],
            input="quit\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=_PROBE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_TIMEOUT_S:g} s"
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def plugin_option(plugin: Path) -> str:
    """Returns the plugin's path as QEMU's option parser wants it: commas doubled."""
    return os.fspath(plugin).replace(",", ",,")

"""`tools/bench` as it is documented: from a fresh checkout, wherever one stands, one JSON object a line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("firmware_templates", "rct_tflite", "tests", "tools", "pyproject.toml")


def fresh_checkout(folder: Path) -> Path:
    """A copy whose environment is this interpreter, as installed as `tools/setup.sh` leaves one."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
        copy(ROOT / part, folder / part, **({"ignore": ignored} if copy is shutil.copytree else {}))
    (folder / "tools" / "bench").chmod(0o755)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in (("python", f'exec "{sys.executable}" "$@"'), ("apt-get", "exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    stamp = "source tools/setup.sh; environment_checksum >.venv/installed-all"
    subprocess.run(["bash", "-c", stamp], cwd=folder, check=True)
    return folder


def test_every_line_is_a_figure(tmp_path, monkeypatch):
    checkout = fresh_checkout(tmp_path / "check out")
    monkeypatch.setenv("PATH", f"{checkout / '.venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin")
    bench = [checkout / "tools" / "bench", "kernels", "--json", "--only", "fwd_m7_ad"]
    done = subprocess.run(bench, cwd=tmp_path, capture_output=True, text=True, check=True)
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(figure["name"], figure["core"], figure["unit"]) for figure in figures] == [
        ("fwd_m7_ad", "cortex-m7", "instructions"),
        ("fwd_m7_ad_ram", "cortex-m7", "bytes"),
        ("fwd_m7_ad_code", "cortex-m7", "bytes"),
    ]
    assert all(isinstance(figure["value"], int) and figure["value"] > 0 for figure in figures)


def test_another_question_is_answered_with_the_usage():
    done = subprocess.run([ROOT / "tools" / "bench", "all"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "kernels|recomputation [--json] [--only NAME ...]" in done.stderr

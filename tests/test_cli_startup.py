"""Help must come at once: it imports nothing heavy. (It takes 0.05 s of CPU time; the bar is 0.3 s.)"""

import json
import subprocess
import sys

import pytest

HEAVY = {"numpy", "tensorflow", "keras", "tflite_micro", "jinja2", "elftools", "unicorn", "capstone", "sklearn"}
REPORT = """
import json, sys
from rct_tflite.cli.main import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as stop:
    json.dump([stop.code, sorted({{name.split(".")[0] for name in sys.modules}})], sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["targets", "--help"], ["targets"]])
def test_light_commands_import_nothing_heavy(arguments, tmp_path):
    code = REPORT.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stderr)
    assert status == 0
    assert done.stdout
    assert HEAVY.isdisjoint(modules)

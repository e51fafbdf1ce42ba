"""Run as a program by `oracle.arena_use()`: finds the smallest arena that works, in forked processes.

Usage: python arena_probe.py MODEL AMPLE_BYTES IDS, prints JSON. The input holds ids below IDS, int8 where that is 0. It
imports nothing of the package: it must start fast.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tflite_micro.python.tflite_micro import runtime

_STEP = 16
_SAMPLES = 4


def _run(model: bytes, arena_size: int, ids: int) -> tuple[Any, list[bytes]]:
    """Runs seeded samples over the full range; returns the interpreter and the outputs."""
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_size)
    rng = np.random.default_rng(0)
    shape = interpreter.get_input_details(0)["shape"]
    outputs = []
    for _ in range(_SAMPLES):
        noise = rng.integers(0, ids, shape, np.int32) if ids else rng.integers(-128, 128, shape, np.int8)
        interpreter.set_input(noise, 0)
        interpreter.invoke()
        outputs.append(np.asarray(interpreter.get_output(0)).tobytes())
    return interpreter, outputs


def _works(model: bytes, arena_size: int, ids: int, expected: list[bytes]) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(_run(model, arena_size, ids)[1] != expected)
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _allocated(interpreter: Any, log: Any) -> int:
    """Returns the total of the allocator's report, which it prints on C's stderr."""
    log.seek(0)
    log.truncate()
    interpreter.print_allocations()
    log.seek(0)
    match = re.search(rb"Arena allocation total (\d+) bytes", log.read())
    if match is None:
        sys.exit("TFLite-Micro printed no report of its allocations.")
    return int(match.group(1))


def main(path: str, ample: int, ids: int) -> None:
    """Writes `{"smallest_bytes": ..., "allocated_bytes": ...}`."""
    model = Path(path).read_bytes()
    with tempfile.TemporaryFile() as log:
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            interpreter, expected = _run(model, ample, ids)
            allocated = _allocated(interpreter, log)
            too_small, smallest = 0, -(-ample // _STEP) * _STEP
            while smallest - too_small > _STEP:
                middle = (too_small + smallest) // 2 // _STEP * _STEP
                if _works(model, middle, ids, expected):
                    smallest = middle
                else:
                    too_small = middle
        finally:
            os.dup2(saved, 2)
    sys.stdout.write(json.dumps({"smallest_bytes": smallest, "allocated_bytes": allocated}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""Training under tf.distribute: each process is a program of its own, since TensorFlow fixes its devices once."""

import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("replicas_program.py")
ROOT = PROGRAM.parents[2]
STEPS, WEIGHTS = 8, 3


def start(kind, result, *arguments):
    command = [sys.executable, str(PROGRAM), kind, str(result), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    result = tmp_path_factory.mktemp("alone") / "result.npz"
    finish(start("alone", result))
    return dict(np.load(result))


def check(result, alone):
    """Compares with the training on one replica, step by step, and the replicas of this process with each other."""
    got = dict(np.load(result))
    assert alone["truncate/0"].shape[:2] == (STEPS, 1)
    for rounding, index in itertools.product(("truncate", "stochastic"), range(WEIGHTS)):
        integers = got[f"{rounding}/{index}"]
        assert integers.shape[0] == STEPS
        assert (integers == integers[:, :1]).all()
        if rounding == "truncate":
            assert (integers == alone[f"truncate/{index}"]).all()
            assert not (integers[0] == integers[-1]).all()
    assert all(part[name] for part in (got, alone) for name in part if name.endswith("/stops"))
    for name in ("loss", "evaluated", "predicted"):
        assert np.allclose(got[f"truncate/{name}"], alone[f"truncate/{name}"], rtol=1e-4)
    return got


def test_two_mirrored_replicas(alone, tmp_path):
    finish(start("mirrored", tmp_path / "result.npz"))
    assert check(tmp_path / "result.npz", alone)["stochastic/0"].shape[1] == 2


def test_two_workers(alone, tmp_path):
    ports = free_ports(2)
    processes = [start("workers", tmp_path / f"{index}.npz", index, *ports) for index in range(2)]
    for process in processes:
        finish(process)
    first, second = (check(tmp_path / f"{index}.npz", alone) for index in range(2))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)

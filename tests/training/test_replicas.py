"""Training under tf.distribute: each process is a program of its own, since TensorFlow fixes its devices once."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("replicas_program.py")
ROOT = PROGRAM.parents[2]


def start(kind, result, *arguments):
    command = [sys.executable, str(PROGRAM), kind, str(result), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=240)
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
    got = dict(np.load(result))
    for name, expected in alone.items():
        if name.startswith("truncate/0/"):
            assert np.array_equal(got[name], expected)
        else:
            assert np.allclose(got[name], expected, rtol=1e-4)
    return got


def test_two_mirrored_replicas(alone, tmp_path):
    finish(start("mirrored", tmp_path / "result.npz"))
    got = check(tmp_path / "result.npz", alone)
    for rounding in ("truncate", "stochastic"):
        for index in range(3):
            assert np.array_equal(got[f"{rounding}/0/{index}"], got[f"{rounding}/1/{index}"])


def test_two_workers(alone, tmp_path):
    ports = free_ports(2)
    processes = [start("workers", tmp_path / f"{index}.npz", index, *ports) for index in range(2)]
    for process in processes:
        finish(process)
    first, second = (check(tmp_path / f"{index}.npz", alone) for index in range(2))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)

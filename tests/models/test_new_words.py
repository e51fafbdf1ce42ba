"""What `models/text/new_words.py` compares: its split of the words, and the float network beside a table."""

import numpy as np
import pytest

from models.adaptation.fine_tuning import float_network
from models.text import new_words
from rct_tflite.errors import DataError
from rct_tflite.reference.network import ReferenceNetwork
from tests.tflite.one_op import words

WORDS, TEXTS = 60, 400


@pytest.fixture
def file(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "texts.npz"
    x, y = random.integers(0, WORDS, (TEXTS, 5), np.int16), random.integers(0, 6, TEXTS, np.uint8)
    np.savez(path, x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    return path


def test_the_network_has_not_read_half_of_the_rarer_words(file):
    data = new_words.split(file, seed=3)
    read = np.unique(data.known.x)
    rare = np.setdiff1d(np.arange(new_words.COMMON, WORDS), read)
    assert set(range(2, new_words.COMMON)) <= set(read.tolist())
    assert len(rare) == (WORDS - new_words.COMMON) // 2
    assert np.isin(data.learn.x, rare).any(axis=1).all()
    assert data.words == WORDS
    assert len(data.known.y) == TEXTS * 4 // 5
    again = new_words.split(file, seed=3)
    np.testing.assert_array_equal(again.learn.x, data.learn.x)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"not there.*nothing\.npz.*Give --data"):
        new_words.split(tmp_path / "nothing.npz", seed=0)


def test_the_float_network_computes_what_the_integers_stand_for():
    graph = words()
    ids = graph.random_inputs(20, np.random.default_rng(1))
    output = graph.tensors[graph.output]
    integers = ReferenceNetwork(graph).run(ids).astype(np.float64)
    logits = np.asarray(float_network(graph, ())(ids))
    assert np.abs((integers - output.zero_point) * output.scale - logits).mean() < 3 * output.scale
    assert np.ptp(integers) > 20

import json
from pathlib import Path

import numpy as np
import pytest

from models.adaptation import adapt, data, networks
from models.adaptation.data import Domain, Part
from models.adaptation.fine_tuning import FloatTuner, float_network
from models.adaptation.networks import Block, Network
from rct_tflite.errors import DataError
from rct_tflite.firmware.samples import quantize_inputs
from rct_tflite.planning.selection import select
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.tflite.reader import read_graph

FOLDER = Path(adapt.__file__).parent
CLASSES = 3
TINY = Network((Block(4, (1, 5), (1, 2), (1, 2)),), epochs=6)
random = np.random.default_rng(5)


def waves(count: int, shift: float) -> Part:
    """Sines of three frequencies with noise, the target's half a period later."""
    y = np.arange(count, dtype=np.int32) % CLASSES
    phase = 2 * np.pi * np.arange(16) / 16 * (1 + y[:, None]) + shift
    x = np.sin(phase) + random.normal(0, 0.3, (count, 16))
    return Part(x[:, None, :, None].astype(np.float32), y)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptation")
    target = data.target("new", waves(48, np.pi), waves(150, np.pi), seed=0)
    return adapt.cases_of([Domain(waves(600, 0.0), (target,))], TINY, 0, folder / "tiny", folder)


def test_both_ways_learn_a_drift_from_the_same_start(cases, tmp_path):
    result = adapt.measure(cases, "all", tmp_path / "cost", rates=(0.003, 0.02))
    (row,) = result.rows
    assert row.before["integer"] == pytest.approx(row.before["float32"], abs=5)
    for method in adapt.METHODS:
        assert result.rates[method] == float(max(result.validation[method], key=result.validation[method].get))
        assert row.after[method] > max(row.before[method] + 10, 80)
    assert (row.learnt, row.tested) == (48, 150)
    assert result.cost.trained == ("conv1", "dense")
    assert result.cost.instructions > 1000
    low, high = result.cost.energy_uj[1:]
    assert low < result.cost.energy_uj[0] < high


def test_the_float_network_computes_what_the_integers_stand_for(cases):
    graph, x = read_graph(cases[0].model), cases[0].target.test.x
    integers = ReferenceNetwork(graph).run(quantize_inputs(x, graph)).astype(np.float64)
    output = graph.tensors[graph.output]
    logits = np.asarray(float_network(graph, ())(x))
    assert np.abs((integers - output.zero_point) * output.scale - logits).mean() < 3 * output.scale


def test_layers_that_do_not_learn_keep_their_floats(cases):
    graph, target = read_graph(cases[0].model), cases[0].target
    tuner = FloatTuner(graph, select(graph, "last:1"))
    first, start = tuner.model.layers[0], tuner.model.get_weights()
    tuner.tune(target.learn, target.test, 0.01, 1)
    assert (first.get_weights()[0] == start[0]).all()
    assert (tuner.model.layers[-1].get_weights()[0] != start[-2]).any()


def test_a_finished_network_is_taken_as_it_is(cases, tmp_path):
    changed = adapt.cases_of(
        [Domain(waves(8, 0.0), (cases[0].target,))], TINY, 0, cases[0].model.with_name("tiny"), tmp_path
    )
    assert changed[0].model == cases[0].model


def test_balanced_accuracy_counts_classes_not_samples():
    assert adapt.score(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])) == 50.0


def test_evidence_of_a_difference_is_given_with_its_error():
    rows = [adapt.Row("", 0, 1, 1, {}, {"integer": a, "float32": 90.0}) for a in (89.0, 91.0, 90.0, 92.0)]
    mean, error = adapt.difference(rows)
    assert (mean, round(error, 4)) == (0.5, 0.6455)


def test_the_part_that_chooses_the_rate_is_not_learnt_from():
    part = waves(20, 0.0)
    folds = data.target("", part, part, seed=1).folds()
    assert [(len(learn.y), len(held.y)) for learn, held in folds] == [(15, 5)] * 4
    for learn, held in folds:
        assert not {x.tobytes() for x in learn.x} & {x.tobytes() for x in held.x}
    assert {x.tobytes() for _, held in folds for x in held.x} == {x.tobytes() for x in part.x}


def content(count, shape, **ids):
    """Arrays as the files hold them, each sample another one."""
    x = random.integers(-2000, 2000, (count, *shape), np.int16)
    return {"x": x, **{key: np.asarray(values)[:count] for key, values in ids.items()}}


def halves(name, left, right):
    return {
        f"{key}_{part}": values
        for part, arrays in zip(name, (left, right), strict=True)
        for key, values in arrays.items()
    }


def spoken():
    def part(takes):
        y, speaker, take = (a.ravel() for a in np.meshgrid(range(10), range(6), takes))
        return content(len(y), (800,), y=y, speaker=speaker, take=take)

    names = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    return {**halves(("train", "test"), part([5, 6]), part([0, 4])), "speaker_names": np.array(names)}


def moving():
    def part(people):
        person, y, place = (a.ravel() for a in np.meshgrid(people, range(6), range(40), indexing="ij"))
        return content(len(y), (16, 6), y=y, subject=person, experiment=2 * person + place // 20)

    return halves(("train", "test"), part([1, 3]), part([2, 4]))


def rolling():
    train = content(100, (512,), y=np.arange(100) % 10)
    load, half, y = (a.ravel() for a in np.meshgrid([1, 2], [0, 1], np.arange(90) % 9 + 1, indexing="ij"))
    return halves(("train", "drift"), train, content(len(y), (512,), y=y, load=load, part=half))


def beating():
    y = np.where(np.arange(900) % 3, 1, 3)
    part = content(900, (32,), y=y, record=np.repeat([200, 201], 450), rr=random.integers(100, 500, (900, 2)))
    few = content(
        900, (32,), y=np.where(np.arange(900) < 700, y, 1), record=np.repeat([100, 103], [700, 200]), rr=part["rr"]
    )
    return halves(("train", "test"), part, few)


def scanned():
    y = np.arange(300) % 10
    return halves(("train", "test"), *(content(300, (28, 28), y=y) for _ in range(2)))


FILES = {"fsdd_digits_8k": spoken, "har_hapt": moving, "vibration_cwru": rolling, "ecg_mitbih": beating}
FILES |= {"usps_as_mnist_drift": scanned, "mnist": scanned}
EXPECTED = {  # targets, samples learnt from, samples tested on, of the first target
    "spoken-digits": (3, 20, 20),
    "activities": (2, 48, 120),
    "bearings": (2, 90, 90),
    "heartbeats": (1, 40, 467),
    "scanned-digits": (3, 100, 300),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, arrays in FILES.items():
        np.savez(folder / f"{name}.npz", **arrays())
    return folder


@pytest.mark.parametrize("name", data.DATA_SETS)
def test_what_is_tested_on_is_nowhere_else(folder, name):
    domains = data.load(name, 0, folder)
    targets = [target for domain in domains for target in domain.targets]
    assert (len(targets), len(targets[0].learn.y), len(targets[0].test.y)) == EXPECTED[name]
    for domain in domains:
        source = {x.tobytes() for x in domain.source.x}
        assert np.isfinite(domain.source.x).all()
        for target in domain.targets:
            learn, test = ({x.tobytes() for x in part.x} for part in (target.learn, target.test))
            assert learn.isdisjoint(test)
            assert source.isdisjoint(learn | test)
            assert set(target.test.y) <= set(target.learn.y)


def test_another_seed_gives_another_order(folder):
    first, again, other = (data.load("bearings", seed, folder)[0].targets[0].learn for seed in (0, 0, 1))
    assert (first.y == again.y).all()
    assert (first.y != other.y).any()
    assert (np.sort(first.y) == np.sort(other.y)).all()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda file: None, r"'activities'.*har_hapt\.npz.*README\.md.*no such file.*--data.*--only"),
        (lambda file: file.write_bytes(b"PK"), r"har_hapt\.npz"),
        (lambda file: np.savez(file, x_train=np.zeros(3)), r"other content.*"),
    ],
    ids=["missing", "damaged", "of another kind"],
)
def test_a_file_that_cannot_be_had_is_named(tmp_path, monkeypatch, capsys, prepare, message):
    prepare(tmp_path / "har_hapt.npz")
    with pytest.raises(DataError, match=message):
        data.load("activities", 0, tmp_path)
    monkeypatch.setattr("sys.argv", ["adapt.py", "--only", "activities", "--data", str(tmp_path)])
    assert adapt.main() == 2
    assert capsys.readouterr().err.startswith("Error: Cannot read the data set 'activities'.")


def test_a_tone_is_in_its_band_however_loud():
    time = np.arange(8000) / 8000
    tones = np.stack([np.sin(2 * np.pi * 1000 * time) * loud for loud in (300, 30000)]).astype(np.int16)
    quiet, loud = data.spectrogram(tones)
    assert loud.shape == (39, data.BANDS, 1)
    assert (loud >= 0.0).all()
    assert (loud <= 1.0).all()
    band = loud.mean(axis=0).ravel().argmax()
    assert band == round(999.99 / 2146.06 * (data.BANDS + 1)) - 1  # 1000 Hz and 4000 Hz on the mel scale
    np.testing.assert_allclose(quiet, loud, atol=0.3)


def test_the_networks_fit_what_the_data_sets_give():
    assert set(networks.NETWORKS) == set(data.DATA_SETS)


def test_the_readme_tells_the_measured_results():
    content = json.loads((FOLDER / "results.json").read_text())
    text = (FOLDER / "README.md").read_text()
    assert set(content["results"]) == set(data.DATA_SETS)
    for line in adapt.table(content):
        assert line in text

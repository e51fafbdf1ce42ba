import json
from pathlib import Path

import numpy as np

import rct_tflite as rct
from models.digits import model as digits
from rct_tflite.training.memory import parameter_bytes

FOLDER = Path(digits.__file__).parent


def test_digits_are_learned_in_a_few_epochs():
    model = digits.train(0, epochs=5, callback=rct.RCTCallback())
    test = digits.load().test
    assert model.evaluate(test.images, test.labels, verbose=0, return_dict=True)["accuracy"] > 0.95
    size = parameter_bytes(model)
    assert size.rct <= 0.3 * size.float32


def test_few_and_many_bits_at_the_start_end_alike():
    averages = []
    for bits in (4, 12):
        model = digits.train(0, rct.Recipe(bits=bits, max_bits=12), epochs=6, callback=rct.RCTCallback())
        counts = [weight.weight_count for weight in model.integer_weights]
        averages.append(np.average([int(weight.bits) for weight in model.integer_weights], weights=counts))
    assert abs(averages[0] - averages[1]) <= 1.0


def test_the_split_is_seeded_and_disjoint():
    first, again, other = digits.load(), digits.load(), digits.load(1)
    assert [len(part.labels) for part in (first.train, first.validation, first.test)] == [1200, 200, 397]
    assert (first.train.labels == again.train.labels).all()
    assert (first.train.labels != other.train.labels).any()
    seen = {image.tobytes() for image in first.train.images}
    assert not any(image.tobytes() in seen for image in first.test.images)
    assert (first.train.images.min(), first.train.images.max()) == (0.0, 1.0)


def test_the_readme_tells_the_measured_results():
    results = json.loads((FOLDER / "results.json").read_text())
    text = (FOLDER / "README.md").read_text()
    rows = {row.split("|")[1].strip(" *"): row for row in text.splitlines() if row.startswith("|")}
    variants = {name: row for name, row in results.items() if isinstance(row, dict) and "final_bits" in row}
    assert len(variants) == 5
    for name, row in variants.items():
        cells = (f"{row['mean_accuracy_percent']:.2f} %", str(row["parameter_bytes"]))
        assert [cell for cell in (*cells, f"{100 * row['share_of_float32']:.1f} %") if cell not in rows[name]] == []
    assert f"{results['float32']['mean_accuracy_percent']:.2f} %" in rows["float32 (plain Keras)"]
    assert results["bar"]["reached"]
    assert f"{results['bar']['loss_points']:.2f} points" in text

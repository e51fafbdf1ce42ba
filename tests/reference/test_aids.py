import collections

import numpy as np

from rct_tflite.reference.aids import EarlyStopping, ReplayBuffer, Verdict, confusion


def test_differences_are_better_where_they_are_smaller():
    stopping = EarlyStopping(more_is_better=False)
    assert [stopping.judge(score, 1) for score in (9, 3, 3, 1)] == [*[Verdict.BETTER] * 2, *[Verdict.STOP] * 2]
    assert stopping.best == 3


def test_confusion_counts_the_first_of_equal_outputs():
    outputs = np.array([[1, 1, 0], [0, 3, 3], [0, 0, 9], [5, 0, 0]], np.int8)
    assert confusion(np.array([0, 2, 2, 1]), outputs).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]


def offered(slots, labels, classes=4):
    """A buffer to which sample number i has been offered with label i."""
    buffer = ReplayBuffer(slots, classes)
    for number, label in enumerate(labels):
        buffer.remember(np.array([number]), label)
    return buffer


def test_rare_classes_keep_their_share():
    random = np.random.default_rng(1)
    labels = random.choice(4, 3000, p=[0.9, 0.07, 0.02, 0.01])
    counts = collections.Counter(offered(20, labels).labels)
    assert [counts[label] for label in range(4)] == [5, 5, 5, 5]


def test_a_class_that_never_came_takes_no_room():
    assert collections.Counter(offered(6, [0, 1] * 50).labels) == {0: 3, 1: 3}
    assert offered(6, [2, 2]).labels == [2, 2]


def test_each_sample_of_a_class_has_the_same_chance():
    """Means of the numbers held: that of a uniform choice, within four standard errors."""
    held = []
    for shift in range(60):  # the generator starts alike: other orders draw otherwise
        labels = np.roll(np.arange(200) % 2, shift)
        labels[:shift] = 0
        buffer = offered(10, labels, classes=2)
        held += [int(sample[0]) for sample, label in zip(buffer.samples, buffer.labels, strict=True) if label == 1]
    assert len(held) == 300
    assert abs(np.mean(held) - 115) < 4 * 50 / len(held) ** 0.5


def test_what_is_held_is_a_copy():
    sample = np.array([3])
    buffer = ReplayBuffer(1, 2)
    buffer.remember(sample, 1)
    sample[0] = 9
    assert buffer.samples[buffer.draw()].tolist() == [3]

"""The choice of deviations: it finds which effect is at work, and never looks at what a question hides."""

import numpy as np
import pytest

from rct_tflite.energy.transfer import EVERYWHERE, Effect, Effects, Setting
from rct_tflite.energy.tuning import Question, tuned
from rct_tflite.errors import DataError

START = Effects((Effect(EVERYWHERE, 2.0), Effect("part", 0.1), Effect("stack", 0.1), Effect("run", 0.1)), np.eye(1))


def settings_of(parts=6, stacks=6):
    return [
        Setting((("part", str(part)), ("stack", str(stack)), ("run", f"{part} {stack}")), 0)
        for part in range(parts)
        for stack in range(stacks)
    ]


def one_by_one(settings):
    return [Question((i,), (i,)) for i in range(len(settings))]


def sizes(effects):
    return {term.label: term.deviation for term in effects.terms}


def test_the_effect_that_is_at_work_grows():
    random = np.random.default_rng(1)
    speed = random.normal(0, 0.5, 6)
    settings = settings_of()
    costs = np.exp([speed[int(dict(s.labels)["part"])] + random.normal(0, 0.2) for s in settings])
    found = sizes(tuned(START, settings, costs, one_by_one(settings)))
    assert found["part"] > 3 * found["stack"]
    assert found[EVERYWHERE] == 2.0


def test_intervals_hold_nine_of_ten():
    random = np.random.default_rng(2)
    settings = settings_of()
    costs = np.exp(random.normal(0, 0.4, len(settings)))  # four times what the effects start with
    questions = one_by_one(settings)
    effects = tuned(START, settings, costs, questions)
    held = 0
    for i, setting in enumerate(settings):
        others = [j for j in range(len(settings)) if j != i]
        answer = effects.predict([settings[j] for j in others], costs[others], setting)
        held += answer.low <= costs[i] <= answer.high
    assert held >= 0.9 * len(settings) - 1


def test_a_question_sees_nothing_of_what_it_hides():
    """Hidden measurements that are not asked move nothing, as long as the mean of all stays."""
    settings = settings_of(3, 3)
    costs = np.exp(np.random.default_rng(3).normal(0, 0.3, 9))
    questions = [Question((4,), (4, 5, 6))]
    before = tuned(START, settings, costs, questions)
    costs[5], costs[6] = costs[5] * 10, costs[6] / 10
    after = tuned(START, settings, costs, questions)
    assert [term.deviation for term in after.terms] == pytest.approx([term.deviation for term in before.terms])


def test_without_questions_there_is_nothing_to_choose_by():
    with pytest.raises(DataError, match="at least one question"):
        tuned(START, settings_of(), np.ones(36), [])

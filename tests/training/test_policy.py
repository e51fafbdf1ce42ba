"""The policy on plain numbers: Gavg doubles with each bit, whatever the gradients are."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.errors import RecipeError
from rct_tflite.spec.quantization import Rounding
from rct_tflite.training import policy as policy_module
from rct_tflite.training.policy import BitPolicy, Thresholds, WeightState, bits_missing, default_t_min

BAND = Thresholds(1.0, 4.0)
CASES = 200


def state(bits=6, gavg=2.0, count=800, low=2, high=16, name="w", **settings):
    return WeightState(name, bits, gavg, count, settings.pop("thresholds", BAND), low, high, **settings)


def with_bits(states, widths):
    """The same gradients, at other widths."""
    return [
        dataclasses.replace(s, bits=bits, gavg=s.gavg * 2.0 ** (bits - s.bits))
        for s, bits in zip(states, widths, strict=True)
    ]


def total_bytes(states, widths):
    return sum(-(-s.weight_count * bits // 8) for s, bits in zip(states, widths, strict=True))


def random_states(random, **settings):
    """1 to 8 tensors of any size, some frozen, some not observed yet, some with thresholds of their own."""
    return [
        state(
            bits=int(random.integers(3, 9)),
            gavg=float(2.0 ** random.uniform(-6, 8)) if random.random() > 0.1 else 0.0,
            count=int(random.integers(1, 5000)),
            low=int(random.integers(2, 4)),
            high=int(random.integers(8, 17)),
            name=f"w{index}",
            frozen=bool(random.random() < 0.1),
            thresholds=BAND if random.random() < 0.7 else Thresholds(0.3, 1.2 * float(random.integers(1, 5))),
            **settings,
        )
        for index in range(random.integers(1, 9))
    ]


def random_budget(random, states):
    """Between the narrowest and the widest that the tensors can become."""
    least = total_bytes(states, [s.bits if s.frozen else s.min_bits for s in states])
    most = total_bytes(states, [s.bits if s.frozen else s.max_bits for s in states])
    return int(random.integers(max(least, 1), max(most, 1) + 1))


def settle(policy, states, rounds=100):
    """Decides until nothing changes; fails if that takes too long."""
    for _ in range(rounds):
        widths = policy.decide(states)
        if widths == tuple(s.bits for s in states):
            return widths
        states = with_bits(states, widths)
    raise AssertionError("the bit-widths swing")


@pytest.mark.parametrize(
    ("now", "gavg", "low", "high", "step", "jump"),
    [(6, 0.99, 2, 8, 7, 7), (6, 1.0, 2, 8, 6, 6), (6, 4.0, 2, 8, 6, 6), (6, 4.01, 2, 8, 5, 5), (8, 0.1, 2, 8, 8, 8),
     (2, 9.0, 2, 8, 2, 2), (6, 0.0, 2, 8, 6, 6), (6, 2.0, 7, 8, 7, 7), (6, 2.0, 2, 4, 4, 4), (6, 0.1, 2, 16, 7, 10),
     (9, 100.0, 2, 16, 8, 4), (6, 0.25, 2, 16, 7, 8), (6, float("nan"), 2, 8, 6, 6), (6, float("inf"), 2, 8, 6, 6),
     (6, 1e-45, 2, 16, 7, 16)],
)  # fmt: skip
def test_one_tensor(now, gavg, low, high, step, jump):
    one = [state(now, gavg, low=low, high=high)]
    assert (BitPolicy().decide(one), BitPolicy("jump").decide(one)) == ((step,), (jump,))


def test_the_closed_form_counts_doublings():
    random = np.random.default_rng(0)
    for _ in range(CASES):
        gavg, t_min = (float(2.0 ** random.uniform(-7, 7)) for _ in range(2))
        doublings = 0
        while gavg * 2**doublings < t_min:
            doublings += 1
        assert bits_missing(gavg, t_min) == doublings


@pytest.mark.parametrize("mode", ["step", "jump"])
def test_never_above_the_budget_and_within_limits(mode):
    random = np.random.default_rng(1)
    for _ in range(CASES):
        states = random_states(random)
        policy = BitPolicy(mode, random_budget(random, states))
        widths = policy.fit(states)
        for _ in range(10):
            assert total_bytes(states, widths) <= policy.budget_bytes
            for s, bits in zip(states, widths, strict=True):
                assert bits == s.bits if s.frozen else s.min_bits <= bits <= s.max_bits
            noise = 2.0 ** random.uniform(-3, 3, len(states))
            states = [
                dataclasses.replace(s, gavg=s.gavg * float(factor))
                for s, factor in zip(with_bits(states, widths), noise, strict=True)
            ]
            before, widths = widths, policy.decide(states)
            if mode == "step":
                assert max(abs(a - b) for a, b in zip(before, widths, strict=True)) <= 1


@pytest.mark.parametrize("mode", ["step", "jump"])
@pytest.mark.parametrize("limited", [False, True])
def test_constant_gradients_settle(mode, limited):
    random = np.random.default_rng(2)
    for _ in range(CASES):
        states = random_states(random)
        policy = BitPolicy(mode, random_budget(random, states) if limited else None)
        settle(policy, with_bits(states, policy.fit(states)))


def test_both_modes_settle_at_the_same_widths():
    random = np.random.default_rng(3)
    for _ in range(CASES):
        states = random_states(random)
        assert settle(BitPolicy("step"), states) == settle(BitPolicy("jump"), states)


@pytest.mark.parametrize("mode", ["step", "jump"])
def test_any_start_ends_within_one_bit(mode):
    random = np.random.default_rng(4)
    for gavg in 2.0 ** random.uniform(-8, 8, CASES):
        states = [state(8, float(gavg))]
        few, many = (settle(BitPolicy(mode), with_bits(states, [start]))[0] for start in (4, 12))
        assert 0 <= many - few <= 1


def test_noise_below_a_factor_of_two_turns_no_decision():
    random = np.random.default_rng(5)
    for _ in range(CASES):
        states, moves = [state(8, float(2.0 ** random.uniform(-4, 4)))], []
        for _ in range(60):
            noisy = [dataclasses.replace(s, gavg=s.gavg * float(random.uniform(0.75, 1.45))) for s in states]
            widths = BitPolicy().decide(noisy)
            moves.append(widths[0] - states[0].bits)
            states = with_bits(states, widths)
        assert len(set(moves) - {0}) <= 1


@pytest.mark.parametrize("mode", ["step", "jump"])
@pytest.mark.parametrize("hysteresis", [1e-9, 0.5, 1.0, 4.0])
def test_decisions_end_even_with_a_faulty_threshold_of_the_payers(mode, hysteresis, monkeypatch):
    rounds, widen = [], policy_module._Plan._widen

    def counted(plan, index):
        rounds.append(index)
        assert len(rounds) <= sum(s.max_bits - s.min_bits + 1 for s in plan.states), "an endless exchange"
        return widen(plan, index)

    random = np.random.default_rng(6)
    cases = [random_states(random) for _ in range(CASES)] + [[state(6, 0.3), state(6, 0.3)]]
    budgets = [*(random_budget(random, states) for states in cases[:-1]), 1200]
    monkeypatch.setattr(policy_module, "HYSTERESIS", hysteresis)
    monkeypatch.setattr(policy_module._Plan, "_widen", counted)
    for states, budget in zip(cases, budgets, strict=True):
        rounds.clear()
        BitPolicy(mode, budget).decide(states)


def joules_of(states, widths):
    return sum(s.joules[bits] for s, bits in zip(states, widths, strict=True))


@pytest.mark.parametrize("mode", ["step", "jump"])
def test_never_above_either_budget(mode):
    random = np.random.default_rng(11)
    for _ in range(CASES):
        states = random_states(random)
        fixed = random.uniform(0, 1)
        states = [
            dataclasses.replace(s, joules=tuple(fixed + cost * bits for bits in range(17)))
            for s, cost in zip(states, random.uniform(0, 1, len(states)), strict=True)
        ]
        least = joules_of(states, [s.bits if s.frozen else s.min_bits for s in states])
        budget = least * random.uniform(1, 2) + 1e-9
        policy = BitPolicy(mode, random_budget(random, states), budget)
        for widths in (policy.fit(states), policy.decide(states)):
            assert joules_of(states, widths) <= budget
            assert total_bytes(states, widths) <= policy.budget_bytes


def test_joules_decide_who_pays():
    """Two layers as rich as each other: the bit goes where the poor one's fits."""
    cheap = tuple(1.0 * bits for bits in range(17))
    poor = state(4, gavg=0.3, name="poor", joules=cheap)
    rich = state(8, gavg=8.0, name="rich", joules=cheap, thresholds=Thresholds(1.0, 64.0))
    assert BitPolicy().decide([poor, rich]) == (5, 8)
    assert BitPolicy(budget_joules=12.0).decide([poor, rich]) == (5, 7)
    with pytest.raises(RecipeError, match=r"budget_joules of at least 4\.002, for .*Received: budget_joules=3\.9"):
        BitPolicy(budget_joules=3.9).fit([poor, rich])


@pytest.mark.parametrize(
    ("states", "budget", "expected"),
    [
        # One bit is free: it goes to the poorer.
        ([state(6, 0.5), state(6, 0.3)], 1300, (6, 7)),
        # The richest pays, though it is within its band.
        ([state(6, 3.0), state(6, 2.0), state(6, 0.4)], 1800, (5, 6, 7)),
        # Nobody is rich enough: no exchange that would be taken back.
        ([state(6, 1.5), state(6, 0.5)], 1200, (6, 6)),
        # Two small payers pay for a larger tensor, a bit each.
        ([state(6, 3.0, 400), state(6, 2.5, 400), state(6, 0.5, 800)], 1200, (5, 5, 7)),
        # They cannot: then they keep their bits, and the next poorest is served.
        ([state(6, 3.0, 400), state(6, 0.3, 8000), state(6, 0.5, 400)], 6600, (5, 6, 7)),
        # What is frozen, at its narrowest or not observed does not pay.
        ([state(6, 3.0, frozen=True), state(6, 3.0, low=6), state(6, 0.0), state(6, 0.5)], 2400, (6, 6, 6, 6)),
        # What a tensor gives back anyway, another gets.
        ([state(6, 9.0), state(6, 0.9)], 1200, (5, 7)),
        # Wealth is measured in the tensor's own thresholds.
        ([state(6, 30.0, thresholds=Thresholds(30.0, 120.0)), state(6, 2.0), state(6, 0.4)], 1800, (6, 5, 7)),
    ],
)
def test_who_is_served_and_who_pays(states, budget, expected):
    assert BitPolicy(budget_bytes=budget).decide(states) == expected


@pytest.mark.parametrize(
    ("states", "budget", "expected"),
    [
        ([state(6, 0.0), state(8, 0.0)], 1200, (6, 6)),  # nothing observed: the widest first
        ([state(6, 0.0, 400), state(6, 0.0, 800)], 850, (6, 5)),  # then the largest
        ([state(6, 1.0), state(6, 3.0)], 1100, (6, 5)),  # a saved model: the richest
        ([state(6, 0.0, low=7)], 700, (7,)),
    ],
)
def test_the_start_fits_the_budget(states, budget, expected):
    assert BitPolicy(budget_bytes=budget).fit(states) == expected


def test_a_budget_below_the_narrowest_widths_is_refused():
    states = [state(6, name="conv", low=3), state(8, name="dense", frozen=True)]
    with pytest.raises(RecipeError, match=r"at least 1100, for conv 800 x 3 bits, dense 800 x 8 bits.*=1099"):
        BitPolicy(budget_bytes=1099).fit(states)
    assert BitPolicy(budget_bytes=1100).fit(states) == (3, 8)


@pytest.mark.parametrize(
    ("rounding", "rate", "t_min"),
    [("stochastic", 0.1, 3.0), ("stochastic", 0.02, 15.0), ("truncate", 0.1, 40.0), ("truncate", 0.01, 400.0)],
)
def test_default_thresholds_follow_the_rate(rounding, rate, t_min):
    assert default_t_min(Rounding(rounding), float(np.float32(rate))) == t_min


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan"), float("inf")])
def test_no_default_without_a_rate(rate):
    with pytest.raises(RecipeError, match="Received: learning_rate"):
        default_t_min(Rounding.STOCHASTIC, rate)


@pytest.mark.parametrize(
    ("t_min", "t_max"), [(4.0, 1.0), (1.0, 3.9), (1.0, 1.0), (0.0, 4.0), (-1.0, 4.0), (1.0, float("nan")),
                         (float("nan"), 4.0), (1.0, float("inf"))],
)  # fmt: skip
def test_thresholds_too_close_are_refused(t_min, t_max):
    with pytest.raises(RecipeError, match=r"0 < 4 \* t_min <= t_max.*Received"):
        Thresholds(t_min, t_max)


def test_a_factor_of_four_in_decimals_is_one():
    assert all(Thresholds(t / 10, 4 * t / 10).t_max for t in range(1, 100))


@pytest.mark.parametrize(
    "settings", [{"mode": "leap"}, {"budget_bytes": 0}, {"budget_bytes": -5}, {"budget_joules": 0.0}], ids=str
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(RecipeError, match="Received"):
        BitPolicy(**settings)

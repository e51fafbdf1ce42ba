"""The papers' models: their own figures, and steps counted by hand."""

import math

import pytest

from rct_tflite.energy.paper_model import (
    QAT_MOVED_BITS,
    GemmModel,
    LayerWork,
    average_bits,
    gemm_share,
    mac_energy_horowitz,
    mac_energy_product,
    mac_energy_squared,
    moved_bits,
    shares,
)


@pytest.mark.parametrize(
    ("share", "saved"),
    [(mac_energy_product(17.3, 8), 0.865), (mac_energy_squared(12), 0.859), (mac_energy_horowitz(14), 0.859)],
)
def test_the_widths_that_reproduce_the_claim(share, saved):
    assert 1 - share == pytest.approx(saved, abs=5e-4)


@pytest.mark.parametrize(("k", "saved"), [(14.6, 0.635), (8, 0.80), (16, 0.60), (11, 0.725)])
def test_memory_savings_of_the_papers(k, saved):
    assert 1 - shares([LayerWork(k, 100, 100)]).memory_of_qat == pytest.approx(saved, abs=1e-3)


@pytest.mark.parametrize(("k", "accesses"), [(11, 4), (14 + 2 / 3, 3)])
def test_half_of_the_moved_bits(k, accesses):
    assert moved_bits(k, accesses) == pytest.approx(QAT_MOVED_BITS / 2)
    assert getattr(shares([LayerWork(k, 7, 7)]), f"moved_{accesses}_of_qat") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("model", "forward", "input_gradient", "weight_gradient"),
    [
        (GemmModel.BITS_PRODUCT, 6 * 8 / 1024, 6 * 16 / 1024, 8 * 16 / 1024),
        (GemmModel.BITS_SQUARED, *(mac_energy_squared(6),) * 3),
        (GemmModel.HOROWITZ, *(mac_energy_horowitz(6),) * 3),
    ],
)
def test_three_gemms_and_their_operands(model, forward, input_gradient, weight_gradient):
    def layer(**settings):
        return LayerWork(6, 10, 500, error_bits=16, **settings)

    assert gemm_share([layer()], model) == pytest.approx((forward + input_gradient + weight_gradient) / 3)
    assert gemm_share([layer(input_gradient=False)], model) == pytest.approx((forward + weight_gradient) / 2)
    assert gemm_share([layer(weight_gradient=False)], model) == pytest.approx((forward + input_gradient) / 2)
    assert gemm_share([layer(input_gradient=False, weight_gradient=False)], model) == pytest.approx(forward)


@pytest.mark.parametrize("model", list(GemmModel))
def test_layers_weigh_by_their_macs(model):
    small, large = LayerWork(4, 999, 100), LayerWork(8, 1, 300)
    mean = (gemm_share([small], model) + 3 * gemm_share([large], model)) / 4
    assert gemm_share([small, large], model) == pytest.approx(mean)
    assert gemm_share([small, large, LayerWork(2, 50000, 0)], model) == pytest.approx(mean)  # an embedding
    assert gemm_share([small], model) < gemm_share([large], model)


def test_bits_weigh_by_their_weights():
    layers = [LayerWork(4, 300, 1), LayerWork(8, 100, 1000)]
    assert average_bits(layers) == 5.0
    step = shares(layers)
    assert (step.memory_of_float32, step.memory_of_qat, step.moved_of_float32) == (5 / 32, 5 / 40, 5 / 32)
    assert (step.moved_3_of_qat, step.moved_4_of_qat) == (15 / 88, 20 / 88)
    assert step.gemm_of_float32 == {model: gemm_share(layers, model) for model in GemmModel}


def test_nothing_is_known_of_nothing():
    assert math.isnan(average_bits([]))
    assert math.isnan(gemm_share([LayerWork(8, 100, 0)], GemmModel.HOROWITZ))
    assert math.isnan(gemm_share([LayerWork(8, 100, math.nan), LayerWork(8, 100, 5)], GemmModel.HOROWITZ))

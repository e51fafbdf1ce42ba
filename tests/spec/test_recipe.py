import pytest

from rct_tflite.errors import RecipeError
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.recipe import Recipe, Rule


def test_the_first_rule_that_says_something_counts():
    recipe = Recipe(
        bits=6,
        rules=(
            Rule("conv*", bits=4),
            Rule("*/recurrent_kernel", bits=7, rounding="truncate"),
            Rule("lstm*", bits=5, per_channel=True, frozen=False),
            Rule("*", bits=3, headroom=1.5, frozen=True),
        ),
    )
    assert recipe.resolved("conv1") == Recipe(bits=4, headroom=1.5, frozen=True)
    assert recipe.resolved("lstm", "lstm/kernel") == Recipe(bits=5, per_channel=True, headroom=1.5)
    recurrent = Recipe(bits=7, rounding=Rounding.TRUNCATE, per_channel=True, headroom=1.5)
    assert recipe.resolved("lstm", "lstm/recurrent_kernel") == recurrent
    layer = recipe.for_layer("lstm", ["kernel", "recurrent_kernel"])
    assert layer.resolved("other", "other/recurrent_kernel") == recurrent
    assert layer.resolved("other", "other/kernel") == recipe.resolved("lstm", "lstm/kernel")
    assert recipe.for_layer("conv1", ["kernel"]) == recipe.resolved("conv1")


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(bits=12, max_bits=16, rounding="truncate", per_channel=True, headroom=1.25, frozen=True),
        Recipe(rules=(Rule("dense*", bits=8), Rule('a"\\\n\u00e9[0-9]', rounding="truncate", frozen=True, headroom=3))),
    ],
    ids=["default", "all", "rules"],
)
def test_saved_recipes_load_equal(tmp_path, recipe):
    recipe.save(tmp_path / "recipe.toml")
    assert Recipe.load(tmp_path / "recipe.toml") == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("bit = 6", r"Unknown keys in a recipe.*\['bit'\]"),
        ("[[rules]]\npattern = 'a'\nwidth = 3", r"Unknown keys in a rule.*\['width'\]"),
        ("[[rules]]\nbits = 3", "needs the pattern"),
        ("rules = 3", "list of tables"),
        ("bits = 'six'", "bits='six'"),
        ("bits = 6.0", "bits=6.0"),
        ("bits = 17", "bits=17"),
        ("rounding = 'up'", "rounding='up'"),
        ("frozen = 3", "frozen=3"),
        ("headroom = 0.5", "headroom=0.5"),
        ("bits = ", "Expected a TOML file"),
    ],
)
def test_other_files_are_refused(tmp_path, text, word):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=word) as caught:
        Recipe.load(path)
    assert "recipe.toml" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="No such file"):
        Recipe.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "settings",
    [{"pattern": ""}, {"pattern": "a", "bits": 1}, {"pattern": "a", "max_bits": 17}, {"pattern": "a", "rounding": "x"},
     {"pattern": "a", "headroom": 100.0}, {"pattern": "a", "bits": True}],
    ids=str,
)  # fmt: skip
def test_rules_out_of_range_are_refused(settings):
    with pytest.raises(RecipeError, match="Received"):
        Rule(**settings)


@pytest.mark.parametrize("settings", [{"bits": 9}, {"min_bits": 7}, {"max_bits": 4}, {"rules": ("dense",)}], ids=str)
def test_recipes_out_of_order_are_refused(settings):
    with pytest.raises(RecipeError, match="Received"):
        Recipe(**settings)


def test_rules_that_do_not_fit_together_are_refused():
    recipe = Recipe(rules=(Rule("a*", bits=12), Rule("ab", max_bits=16)))
    assert recipe.resolved("ab").bits == 12
    with pytest.raises(RecipeError, match=r"rules for 'ac'.*bits=12, max_bits=8"):
        recipe.resolved("ac")

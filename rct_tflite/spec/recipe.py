"""How a model is to be quantised: defaults, and rules for the layers that need something else."""

import fnmatch
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from rct_tflite.errors import RecipeError
from rct_tflite.spec.quantization import MAX_BITS, MIN_BITS, Rounding

_HEADROOMS = (1.0, 64.0)


@dataclass(frozen=True)
class Rule:
    """What a recipe says about some of the layers. A field that is None says nothing.

    Args:
        pattern: Shell pattern of names: `"dense*"`. It is compared with the name of a layer (`"conv1"`, in a nested
            model `"encoder/conv1"`) and with the names of its weights (`"lstm/recurrent_kernel"`).
        bits: As in `Recipe`, and so are the others.
        min_bits: Narrowest width that the policy may choose.
        max_bits: Widest width.
        rounding: `"stochastic"` or `"truncate"`.
        per_channel: One scale per output channel instead of one per weight.
        headroom: Weight range as a multiple of the largest initial weight.
        frozen: Whether the weights keep their integers.

    Raises:
        RecipeError: If a value is out of range.
    """

    pattern: str
    bits: int | None = None
    min_bits: int | None = None
    max_bits: int | None = None
    rounding: Rounding | None = None
    per_channel: bool | None = None
    headroom: float | None = None
    frozen: bool | None = None

    def __post_init__(self) -> None:
        _check_fields(self, f"the rule for {self.pattern!r}")
        if not isinstance(self.pattern, str) or not self.pattern:
            raise RecipeError(f"A rule needs the pattern of a layer's name. Received: pattern={self.pattern!r}.")

    def matches(self, names: Sequence[str]) -> bool:
        """Whether the pattern fits one of the names; upper and lower case differ."""
        return any(fnmatch.fnmatchcase(name, self.pattern) for name in names)


@dataclass(frozen=True)
class Recipe:
    """Bit-widths, rounding and range of the weights of a model.

    Args:
        bits: Bit-width that training starts with.
        min_bits: Narrowest width that the policy may choose.
        max_bits: Widest width; above 8 the weights are held in int16.
        rounding: `"stochastic"` or `"truncate"`.
        per_channel: One scale per output channel instead of one per weight.
        headroom: Weight range at the start, as a multiple of the largest initial weight. `RCTCallback` doubles the
            range of a layer that outgrows it; trained without the callback, weights need room from the start.
        frozen: Whether the weights keep their integers.
        rules: Exceptions for some layers. For each field, the first rule that matches and sets it counts.

    Raises:
        RecipeError: If a value is out of range.

    Example:
        >>> recipe = Recipe(bits=6, rules=(Rule("dense*", bits=8), Rule("*", per_channel=True)))
        >>> [(r.bits, r.per_channel) for r in (recipe.resolved("dense_1"), recipe.resolved("conv"))]
        [(8, True), (6, True)]
    """

    bits: int = 6
    min_bits: int = 2
    max_bits: int = 8
    rounding: Rounding = Rounding.STOCHASTIC
    per_channel: bool = False
    headroom: float = 1.0
    frozen: bool = False
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        _check_fields(self, "a recipe")
        if not MIN_BITS <= self.min_bits <= self.bits <= self.max_bits <= MAX_BITS:
            raise RecipeError(
                f"Bit-widths must satisfy {MIN_BITS} <= min_bits <= bits <= max_bits <= {MAX_BITS}. "
                f"Received: min_bits={self.min_bits}, bits={self.bits}, max_bits={self.max_bits}."
            )
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise RecipeError(f"Expected rules of class Rule. Received: {rule!r}.")

    def resolved(self, *names: str) -> "Recipe":
        """Returns what applies to one weight: the defaults and the rules that match, without rules.

        Args:
            *names: Names of the weight and of its layer.

        Raises:
            RecipeError: If the rules together give bit-widths out of order.
        """
        changes: dict[str, Any] = {}
        for rule in self.rules:
            if rule.matches(names):
                said = {name: value for name, value in asdict(rule).items() if value is not None}
                changes = {**said, **changes}
        changes.pop("pattern", None)
        try:
            return replace(self, rules=(), **changes)
        except RecipeError as error:
            raise RecipeError(f"The rules for {names[0]!r} do not fit together: {error}") from error

    def for_layer(self, layer: str, weights: Sequence[str]) -> "Recipe":
        """Returns the recipe of one layer, that no longer depends on the layer's name.

        Args:
            layer: Name of the layer, with the names of the models around it.
            weights: Names of its weights, such as `"kernel"`.
        """
        each = {weight: self.resolved(layer, f"{layer}/{weight}") for weight in weights}
        if len(set(each.values())) == 1:
            return each[weights[0]]
        rules = tuple(
            Rule(f"*/{weight}", **{field.name: getattr(recipe, field.name) for field in fields(Rule)[1:]})
            for weight, recipe in each.items()
        )
        return replace(self, rules=rules)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON or TOML; fields that say nothing are left out."""
        values = asdict(self)
        values["rounding"] = str(self.rounding)
        rules = [{key: value for key, value in rule.items() if value is not None} for rule in values.pop("rules")]
        for rule in rules:
            if "rounding" in rule:
                rule["rounding"] = str(rule["rounding"])
        return {**values, "rules": rules} if rules else values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Returns the recipe that `to_dict()` describes.

        Raises:
            RecipeError: If a key is unknown or a value out of range.
        """
        _check_keys(values, cls, "recipe")
        rules = values.get("rules", ())
        if not isinstance(rules, (list, tuple)) or not all(isinstance(rule, dict) for rule in rules):
            raise RecipeError(f"Expected rules as a list of tables: [[rules]]. Received: rules={rules!r}.")
        for rule in rules:
            _check_keys(rule, Rule, "rule")
            if "pattern" not in rule:
                raise RecipeError(f"A rule needs the pattern of a layer's name. Received: {rule}.")
        return cls(**{**values, "rules": tuple(Rule(**rule) for rule in rules)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a recipe from a TOML file: the fields by name, and a `[[rules]]` table for each rule.

        Raises:
            RecipeError: If the file cannot be read, or holds unknown keys or values out of range.
        """
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(
                f"Cannot read the recipe {str(path)!r}. Expected a TOML file. Received: {error}."
            ) from error
        except RecipeError as error:
            raise RecipeError(f"The recipe {str(path)!r} cannot be used. {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes the recipe to a TOML file that `load()` reads back equal."""
        values = self.to_dict()
        rules = values.pop("rules", [])
        tables = [values, *rules]
        heads = ["", *["\n[[rules]]\n"] * len(rules)]
        text = "".join(head + _toml(table) for head, table in zip(heads, tables, strict=True))
        Path(path).write_text(text, encoding="utf-8")


def _toml(table: dict[str, Any]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items())


def _toml_value(value: str | bool | int | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04X}" if c in '"\\' or not c.isprintable() else c for c in value)
        return f'"{escaped}"'
    return repr(value)


def _check_keys(values: dict[str, Any], kind: type[Rule] | type[Recipe], what: str) -> None:
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise RecipeError(f"Unknown keys in a {what}. Expected some of {known}. Received: {unknown}.")


def _check_fields(recipe: Recipe | Rule, what: str) -> None:
    """Checks each field by itself, and makes the rounding an enum."""
    for name in ("bits", "min_bits", "max_bits"):
        bits = getattr(recipe, name)
        if bits is not None and (type(bits) is not int or not MIN_BITS <= bits <= MAX_BITS):
            raise RecipeError(f"Expected {MIN_BITS} to {MAX_BITS} bits in {what}. Received: {name}={bits!r}.")
    for name in ("per_channel", "frozen"):
        if getattr(recipe, name) not in (None, True, False):
            raise RecipeError(f"Expected true or false in {what}. Received: {name}={getattr(recipe, name)!r}.")
    rounding, headroom = recipe.rounding, recipe.headroom
    if rounding is not None:
        if rounding not in tuple(Rounding):
            raise RecipeError(
                f"Unknown rounding in {what}. Expected one of {[str(r) for r in Rounding]}. "
                f"Received: rounding={rounding!r}."
            )
        object.__setattr__(recipe, "rounding", Rounding(rounding))
    low, high = _HEADROOMS
    if headroom is not None and not (isinstance(headroom, (int, float)) and low <= headroom <= high):
        raise RecipeError(
            f"The headroom in {what} must be {low:g} to {high:g} times the largest weight. "
            f"Received: headroom={headroom!r}."
        )

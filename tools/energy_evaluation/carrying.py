"""Carries cycles and power from measured rows to the one that is asked, by effects whose sizes those rows choose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.transfer import EVERYWHERE, Array, Effect, Effects, Setting
from rct_tflite.energy.tuning import Question, tuned
from rct_tflite.errors import DataError
from tools.energy_evaluation.table import BENCHMARKS, Row

LEVEL = Effect(EVERYWHERE, 2.0)
"""What everything shares, not known beforehand."""
CYCLES = (
    LEVEL,
    *(Effect(label, 0.2) for label in ("core", "part", "library", "family", "kernels", "placed", "setup")),
    *(Effect(label, 0.1, by_model=True) for label in (EVERYWHERE, "core", "part", "library", "family", "kernels")),
    *(Effect(label, 0.1, by_model=True) for label in ("library on core", "library on part", "placed", "setup")),
)
"""Of the cycles per MAC. All of a kind start alike; `tuned` finds what they are from the rows that may be seen."""
POWER = (
    LEVEL,
    *(Effect(label, 0.2) for label in ("part", "setup")),
    *(Effect(label, 0.03, by_model=True) for label in (EVERYWHERE, "core", "part", "family", "setup")),
)
"""Of the power per MHz: nearly one number for each board."""

Hidden = Callable[[Row, Row], bool]
"""Whether a row must not be seen when another one is asked."""


def same_point(row: Row, asked: Row) -> bool:
    """The point itself."""
    return row.setup == asked.setup and row.benchmark == asked.benchmark


def model_on_part(row: Row, asked: Row) -> bool:
    """The model on this part, by whomever and with whatever stack."""
    return row.part == asked.part and row.benchmark == asked.benchmark


def model_anywhere(row: Row, asked: Row) -> bool:
    """The model on any part."""
    return row.benchmark == asked.benchmark


def whole_part(row: Row, asked: Row) -> bool:
    """Everything on this part."""
    return row.part == asked.part


def ran_elsewhere(rows: Sequence[Row], asked: Row) -> bool:
    """Returns whether the stack of a row ran on another part too."""
    return any(row.family == asked.family and row.part != asked.part for row in rows)


@dataclass(frozen=True, eq=False)
class Carrier:
    """Measured costs, and the effects that carry them.

    Attributes:
        effects: Where to start.
        likeness: float64 (models, models).
        rows: What was measured.
        costs: float64 (n,), in the order of `rows`.
    """

    effects: tuple[Effect, ...]
    likeness: Array
    rows: tuple[Row, ...]
    costs: Array
    _tuned: dict[tuple[tuple[int, ...], bool], Effects] = field(default_factory=dict)

    def predict(self, asked: Row, hidden: Hidden) -> Interval:
        """Returns the cost of the asked row from the rows that it does not hide.

        Args:
            asked: What is wanted.
            hidden: What must not be seen.
        """
        seen = [i for i, row in enumerate(self.rows) if not hidden(row, asked)]
        effects = self._effects([i for i in seen if not model_on_part(self.rows[i], asked)], asked)
        return effects.predict([_setting(self.rows[i]) for i in seen], self.costs[seen], _setting(asked))

    def _effects(self, seen: Sequence[int], asked: Row) -> Effects:
        """Returns the effects with the sizes that answer questions among the seen rows best.

        Where the stack of the asked row ran on no other part, theirs is hidden elsewhere too: what is unlike any
        other is foretold by what was unlike any other.
        """
        rows = [self.rows[i] for i in seen]
        known = ran_elsewhere(rows, asked)
        key = (tuple(seen), known)
        if key not in self._tuned:
            start = Effects(self.effects, self.likeness)
            settings = [_setting(row) for row in rows]
            questions = _questions(rows, known)
            if not questions:
                raise DataError(
                    f"Nothing tells how far measured rows may be carried to {asked.setup} {asked.benchmark}. Expected "
                    f"rows of several models on several parts. Received: {len(rows)} rows. Add rows of other parts."
                )
            self._tuned[key] = tuned(start, settings, self.costs[list(seen)], questions)
        return self._tuned[key]


def _questions(rows: Sequence[Row], known: bool) -> list[Question]:
    """Returns a question for each row, which hides its model on its part; those that hide the same together."""
    asked: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        unseen = (
            i
            for i, other in enumerate(rows)
            if model_on_part(other, row) or not (known or other.family != row.family or other.part == row.part)
        )
        asked.setdefault(tuple(unseen), []).append(index)
    return [Question(tuple(indices), unseen) for unseen, indices in asked.items() if len(unseen) < len(rows)]


def _setting(row: Row) -> Setting:
    labels = (
        ("core", row.core),
        ("part", row.part),
        ("library", row.library),
        ("family", row.family),
        ("kernels", row.kernels),
        ("library on core", f"{row.library} {row.core}"),
        ("library on part", f"{row.library} {row.part}"),
        ("placed", f"{row.part} {row.kernels}"),
        ("setup", row.setup),
    )
    return Setting(labels, BENCHMARKS.index(row.benchmark))

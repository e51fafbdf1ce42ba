"""Aids of learning on the device: what counts, keeps and replays beside the training step."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class AidOptions:
    """What an export has beside the training step; each takes RAM.

    Attributes:
        evaluates: Whether it counts what is right, by true and predicted class, and stops early.
        keeps_best: Whether it keeps a copy of the weights of the best evaluation, to go back to.
        replay_slots: Labelled samples that it can hold, in the format of the network's input.
    """

    evaluates: bool = False
    keeps_best: bool = False
    replay_slots: int = 0

    def to_json(self) -> dict[str, bool | int]:
        """Returns what is not off.

        Example:
            >>> AidOptions(replay_slots=8).to_json()
            {'replay_slots': 8}
        """
        return {key: value for key, value in asdict(self).items() if value}


NO_AIDS = AidOptions()

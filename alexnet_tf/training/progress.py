"""How far a run is."""

import dataclasses


@dataclasses.dataclass
class Progress:
    """How far a run is.

    Args:
        steps_per_epoch: Steps in an epoch.
        step: Steps done.
        epochs_done: Epochs done, their validation included.
        stopped: Whether the plateau rule has ended training.
        skipped: Steps that are left out, since they ruined the weights.
        forced_rate: The learning rate that --override_learning_rate set last.
        logs: Metrics of an epoch whose steps are all done, but not more.
    """

    steps_per_epoch: int
    step: int = 0
    epochs_done: int = 0
    stopped: bool = False
    skipped: list[int] = dataclasses.field(default_factory=list)
    forced_rate: float | None = None
    logs: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def batches(self) -> int:
        """Steps done of the epoch that is not done."""
        return self.step - self.epochs_done * self.steps_per_epoch

    def advance(self) -> None:
        """Counts a step, and those after it that are left out."""
        self.step += 1
        self.leave_out(self.skipped)

    def leave_out(self, steps: list[int]) -> None:
        """Leaves out steps that have not been done."""
        self.skipped = steps
        while self.step in self.skipped:
            self.step += 1

    def steps_to(self, epoch: int) -> list[range]:
        """Returns the steps to be done until `epoch` epochs are done."""
        start, stop = self.step, epoch * self.steps_per_epoch
        holes = sorted(n for n in self.skipped if start <= n < stop)
        starts = [start, *(hole + 1 for hole in holes)]
        parts = map(range, starts, [*holes, stop])
        return [part for part in parts if part]

    def get_state(self) -> dict:
        """Returns all but the setting."""
        state = dataclasses.asdict(self)
        del state["steps_per_epoch"]
        return state

    def set_state(self, state: dict) -> None:
        """Takes what `get_state` returned, among other things."""
        for name in self.get_state():
            setattr(self, name, state[name])

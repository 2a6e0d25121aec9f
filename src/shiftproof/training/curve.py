"""The loss curve of a training: few enough points to keep with the model, whatever its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

POINTS = 100  # about as many as a curve has


@dataclass
class LossCurve:
    """Points of a curve, each the mean of every loss term over the steps since the point before.

    >>> curve = LossCurve(every=2)
    >>> for step, value in enumerate([4.0, 2.0, 1.0], start=1):
    ...     curve.add(step, {"distill": value}, last=step == 3)
    >>> curve.points
    [{'step': 2, 'distill': 3.0}, {'step': 3, 'distill': 1.0}]
    """

    every: int  # steps between two points
    points: list[dict[str, float]] = field(default_factory=list)  # {"step": steps done, term: mean, ...}
    sums: dict[str, float] = field(default_factory=dict)  # since the last point
    count: int = 0  # steps since then

    def add(self, step: int, losses: Mapping[str, float], *, last: bool) -> None:
        """Count one step.

        Args:
            step: steps done, this one included.
            losses: its terms.
            last: of its phase, after which other terms come.
        """
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in losses.items()}
        self.count += 1
        if last or step % self.every == 0:
            self.points.append({"step": step, **{name: value / self.count for name, value in self.sums.items()}})
            self.sums, self.count = {}, 0

    @classmethod
    def over(cls, steps: int, state: Mapping[str, Any] | None = None) -> LossCurve:
        """The curve of so many steps, from where a checkpoint has left it (its fields, as JSON values)."""
        return cls(**state) if state else cls(every=-(-steps // POINTS))

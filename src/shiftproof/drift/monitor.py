"""An online test for drift with a stated false-alert rate: images in, one state out for each."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.drift.descriptions import Effect, Finding, advice, find, judge, sentence
from shiftproof.drift.evidence import BETS, Bag, gather, log_mean, normal_score
from shiftproof.drift.reference import Reference, furthest
from shiftproof.drift.statistics import GROUPS, RESOLUTIONS, STATISTICS, measure
from shiftproof.errors import DataError, UsageError

ALPHA = 1e-4
"""False-alert rate: one in 10,000 images."""
STEADY, WATCH, DRIFT = "steady", "watch", "drift"
WINDOW = 50  # latest images that are remembered, to say what drifted
MEMORY = 32  # images over which a drift's end is judged, as the weight of an exponential mean
QUIET = math.log(5)  # of log(1 + M): so little that a bet as good as begins there
DISTANCE = 1 / 256  # resolution of the logarithm of the shift measure
CHANNELS = len(STATISTICS) + 1  # the statistics, and the shift measure of all together
CHANNEL_GROUPS = (*(statistic.group for statistic in STATISTICS), "whole")
VERSION = 1  # of the state


@dataclass(frozen=True)
class DriftState:
    """What the monitor says after an image."""

    images: int  # seen so far, this one included
    distance: float  # of this image: how far it lies from good images as a whole; about 1 for a good one
    p_value: float  # share of calibration images that lie as far off: conformal
    levels: Mapping[str, float]  # group -> this image's deviation in sigma, signed
    evidence: float  # for a drift since the last reset: a power of ten; an alert is raised at log10(1 / alpha)
    by_group: Mapping[str, float]  # the same for each group, "whole" included
    status: str  # "steady", "watch" (a tenth of the evidence for an alert), or "drift" (from the alert to its end)
    alert: bool  # the drift was found at this image
    ended: bool  # images have been like the good ones again for a while, as of this image
    start_index: int | None  # number of the image (from 1) with which the drift probably began; None where steady
    findings: tuple[Finding, ...]  # what drifted, the main thing first; empty where steady
    effect: Effect  # what it does to the verdicts
    advice: str  # what to do
    sentence: str  # all of that in one line

    def to_json(self) -> dict[str, Any]:
        """As JSON values, floats in full."""
        return asdict(self)


class Monitor:
    """Watches a stream of images of one model for drift. Not for several threads at once.

    For images that are exchangeable with the reference's good ones, the probability of an alert within the first t images
    is at most t * alpha, whatever the statistics' distributions and however they depend on one another: see
    :mod:`shiftproof.drift.evidence`. The bound of each of the 19 channels is alpha / 19; these add up.

    Args:
        reference: of the model.
        alpha: false-alert rate, within (0, 1).
        corrected: groups that the shift correction of the model corrects, from :func:`~shiftproof.drift.corrected_groups`.
        bound: false-alarm rate that the model's threshold promises at most.
        seed: of the numbers that break ties; the same stream and seed give the same states.
    """

    def __init__(
        self,
        reference: Reference,
        alpha: float = ALPHA,
        *,
        corrected: Sequence[str] = (),
        bound: float = 0.05,
        seed: int = 0,
    ):
        if not 0 < alpha < 1:
            raise UsageError(f"false-alert rate {alpha}; expected a number between 0 and 1, such as 0.0001")
        self.reference, self.alpha, self.corrected, self.bound, self.seed = (
            reference,
            alpha,
            tuple(corrected),
            bound,
            seed,
        )
        self.images = 0
        self._bags = [Bag(column) for column in self._steps(reference.good).T]
        self._bags.append(Bag(np.array([_step(distance) for distance in reference.distances])))
        self.reset()

    def reset(self) -> None:
        """Begin anew, without evidence; the images seen so far stay what new ones are compared with."""
        self._status, self._alerted, self._before = STEADY, 0, 0.0
        self._evidence = np.zeros((CHANNELS, BETS))
        self._begun = np.zeros((CHANNELS, BETS), np.int64)
        self._mean, self._square = np.zeros(CHANNELS), np.ones(CHANNELS)
        self._window: deque[NDArray[np.float64]] = deque(maxlen=WINDOW)
        self._verdicts: deque[tuple[float, bool] | None] = deque(maxlen=WINDOW)

    def update(self, image: NDArray[Any], *, p_value: float | None = None, defective: bool | None = None) -> DriftState:
        """Take one image in.

        Args:
            image: its pixels, uint8 [H, W, 3] at the model's input size, or its statistics, float64 [18], from
                :func:`~shiftproof.drift.measure`.
            p_value: of the image's score, from its inspection: tells what a drift does to the verdicts.
            defective: the verdict.

        Raises:
            ImageError: pixels of another shape or type. DataError: another number of statistics, or one not finite.
        """
        values = measure(image) if image.dtype == np.uint8 else np.asarray(image, np.float64)
        if values.shape != (len(STATISTICS),) or not np.isfinite(values).all():
            raise DataError(
                f"statistics {values.tolist()}; expected {len(STATISTICS)} finite numbers from shiftproof.drift.measure"
            )
        self.images += 1
        distance = self.reference.distance(values)
        uniforms = np.random.default_rng([self.seed, self.images]).random(CHANNELS)
        numbers = self._numbers(values, distance)
        scores = np.array([normal_score(*each) for each in zip(self._bags, numbers, uniforms.tolist(), strict=True)])
        self._begun[self._evidence <= QUIET] = self.images
        self._evidence = gather(self._evidence, scores)
        self._mean += (scores - self._mean) / MEMORY
        self._square += (scores**2 - self._square) / MEMORY
        self._window.append(values)
        self._verdicts.append(None if p_value is None or defective is None else (p_value, defective))
        ended = self._status == DRIFT and self._is_over()
        if ended:
            self.reset()
        alert = self._decide(ended)
        if self._status != DRIFT:
            for bag, number in zip(self._bags, numbers, strict=True):
                bag.add(number)
        elif alert:
            self._forget()
        return self._tell(values, distance, alert, ended)

    def _decide(self, ended: bool) -> bool:
        """Set the status; whether that is an alert."""
        if ended or self._status == DRIFT:
            return False
        share = float(log_mean(self._evidence).max()) - math.log1p(CHANNELS / self.alpha)
        self._status = DRIFT if share >= 0 else WATCH if share >= -math.log(10) else STEADY
        if self._status == DRIFT:
            self._alerted, self._before = self.images, float(np.abs(self._mean[self._lead()]))
        return self._status == DRIFT

    def _is_over(self) -> bool:
        """Whether images have come back: no channel's mean or spread is off, and the drifting one's has halved."""
        quiet = (np.abs(self._mean) < 0.6).all() and (self._square < 1.8).all()
        halved = abs(self._mean[self._lead()]) <= max(self._before / 2, 0.15)
        return bool(quiet and halved and self.images - self._alerted >= 2 * MEMORY)

    def _forget(self) -> None:
        """Take the drift's own images out of what later ones are compared with; while it lasts none is put in."""
        late = min(self.images - self._start_index(self._lead()) + 1, len(self._window)) - 1  # the newest is not in yet
        for values in [*self._window][-late - 1 : -1] if late else []:
            for bag, number in zip(self._bags, self._numbers(values, self.reference.distance(values)), strict=True):
                bag.add(number, -1)

    def _lead(self) -> int:
        """The channel with the most evidence."""
        return int(log_mean(self._evidence).argmax())

    def _start_index(self, channel: int) -> int:
        """The image with which a channel's evidence began to grow, as its best bet has it."""
        return int(self._begun[channel, self._evidence[channel].argmax()])

    @staticmethod
    def _steps(values: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.rint(values / RESOLUTIONS).astype(np.int64)

    def _numbers(self, values: NDArray[np.float64], distance: float) -> list[int]:
        return [*self._steps(values).tolist(), _step(distance)]

    def _tell(self, values: NDArray[np.float64], distance: float, alert: bool, ended: bool) -> DriftState:
        gathered = log_mean(self._evidence)
        strongest: dict[str, int] = {}  # group -> its channel with the most evidence
        for channel in np.argsort(-gathered).tolist():
            strongest.setdefault(CHANNEL_GROUPS[channel], channel)
        by_group = {
            group: max(0.0, float(gathered[strongest[group]] - math.log(CHANNELS)) / math.log(10))
            for group in (*GROUPS, "whole")
        }
        findings: tuple[Finding, ...] = ()
        effect, start_index = Effect(), None
        if self._status != STEADY:
            needed = min(-math.log10(self.alpha), max(by_group.values()))
            start_indices = {g: self._start_index(strongest[g]) for g, power in by_group.items() if power >= needed}
            findings = find(
                self.reference.standardize(np.array(self._window)), self.images, start_indices, self.corrected
            )
            start_index = min(finding.start_index for finding in findings)
            late = [*self._verdicts][-min(self.images - start_index + 1, WINDOW) :]
            effect = judge([verdict for verdict in late if verdict is not None], self.bound)
        advice_text = advice(self._status, findings, effect)
        return DriftState(
            images=self.images,
            distance=distance,
            p_value=self.reference.p_value(distance),
            levels=furthest(self.reference.standardize(values)),
            evidence=max(by_group.values()),
            by_group=by_group,
            status=self._status,
            alert=alert,
            ended=ended,
            start_index=start_index,
            findings=findings,
            effect=effect,
            advice=advice_text,
            sentence=sentence(self._status, findings, effect, advice_text),
        )

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values: :meth:`from_json` goes on from it to the very same states."""
        return {
            "version": VERSION,
            "reference": self.reference.fingerprint,
            "alpha": self.alpha,
            "seed": self.seed,
            "images": self.images,
            "status": self._status,
            "alerted": self._alerted,
            "before": self._before,
            "evidence": self._evidence.tolist(),
            "begun": self._begun.tolist(),
            "mean": self._mean.tolist(),
            "square": self._square.tolist(),
            "window": [values.tolist() for values in self._window],
            "verdicts": [None if verdict is None else list(verdict) for verdict in self._verdicts],
            "bags": [bag.to_json() for bag in self._bags],
        }

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], reference: Reference, *, corrected: Sequence[str] = (), bound: float = 0.05
    ) -> Monitor:
        """The monitor that :meth:`to_json` wrote.

        Raises:
            DataError: the state is damaged, of another version, or of a monitor with another reference.
        """
        try:
            if content["version"] != VERSION or content["reference"] != reference.fingerprint:
                raise DataError(
                    "the drift monitor's state belongs to another model or version: begin anew with Monitor(reference)"
                )
            monitor = cls(reference, content["alpha"], corrected=corrected, bound=bound, seed=content["seed"])
            monitor.images, monitor._status = int(content["images"]), str(content["status"])
            monitor._alerted, monitor._before = int(content["alerted"]), float(content["before"])
            monitor._evidence = np.array(content["evidence"], np.float64).reshape(CHANNELS, BETS)
            monitor._begun = np.array(content["begun"], np.int64).reshape(CHANNELS, BETS)
            monitor._mean, monitor._square = (
                np.array(content[key], np.float64).reshape(CHANNELS) for key in ("mean", "square")
            )
            monitor._window.extend(np.array(values, np.float64) for values in content["window"])
            monitor._verdicts.extend(
                None if verdict is None else (verdict[0], verdict[1]) for verdict in content["verdicts"]
            )
            monitor._bags = [Bag.from_json(bag) for bag in content["bags"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"the drift monitor's state is damaged ({error!r}): begin anew with Monitor(reference)"
            ) from error
        return monitor


def _step(distance: float) -> int:
    return round(math.log(distance + 1e-9) / DISTANCE)

"""What drifted, in words that an operator understands, what it does to the verdicts, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftproof.drift.statistics import STATISTICS

LATEST = 20  # images that a drift's size is told of
FEW = 16  # inspections below which nothing is said of the verdicts
SLIGHT = 0.5  # sigma below which a thing is not told beside others
CHANCE = 0.01  # what would happen as rarely as this is no chance
_NAMES = [statistic.name for statistic in STATISTICS]
_COLOURS = {  # directions of (red, blue), both less luminance
    "red": (1, 0),
    "magenta": (1, 1),
    "blue": (0, 1),
    "cyan": (-1, 0),
    "green": (-1, -1),
    "yellow": (0, -1),
}
_PLAIN = {  # group -> words for less and for more of it
    "light": ("darker", "brighter"),
    "contrast": ("less contrast", "more contrast"),
    "sharpness": ("blurrier", "sharper"),
    "noise": ("smoother", "noisier"),
}
_WHERE = {  # statistic -> words for less and for more of it
    "slope_across": ("uneven light: darker at the right", "uneven light: darker at the left"),
    "slope_down": ("uneven light: darker at the bottom", "uneven light: darker at the top"),
    "falloff": ("uneven light: darker in the corners", "uneven light: darker in the middle"),
    "place_across": ("moved to the left", "moved to the right"),
    "place_down": ("moved up", "moved down"),
    "size": ("smaller or closer together", "larger or further apart"),
}
_VARIES = {
    "light": "light varies",
    "contrast": "contrast varies",
    "colour": "colour varies",
    "sharpness": "focus varies",
    "noise": "noise varies",
    "evenness": "uneven light",
    "place": "moved",
}
_FIXES = {
    "light": "fix the lamp or the exposure",
    "contrast": "fix the light, or clean the lens",
    "colour": "fix the lamp or the white balance",
    "sharpness": "fix the focus, or clean the lens",
    "noise": "fix the camera: gain, cable, light",
    "orientation": "fix the fixture that turns the parts",
    "evenness": "fix the position of the lamp, or clean the lens",
    "place": "fix the position of the fixture or the camera",
    "whole": "look at the images",
}


@dataclass(frozen=True)
class Finding:
    """One thing that drifted."""

    group: str  # one of `GROUPS`, or "whole"
    description: str  # "darker", "blurrier", ...
    sigma: float  # how far, in sigma (robust z-scores): median over its latest images; signed where it has a sign
    start_index: int  # number of the image (from 1) with which it probably began
    corrected: bool  # whether the shift correction of the model corrects this group, within its limits


@dataclass(frozen=True)
class Effect:
    """What a drift does to the verdicts: seen on the latest images since it began, as far as they were inspected."""

    inspected: int = 0  # of the latest images
    defective: int = 0  # of these
    false_alarms: bool | None = None  # whether more are called defective than good parts would be; None: too few to say
    blind: bool | None = None  # whether scores are so low that defects may be missed

    @property
    def absorbed(self) -> bool | None:
        """Whether the verdicts are as they were; None where too few images were inspected."""
        return None if self.false_alarms is None else not (self.false_alarms or self.blind)


def find(
    deviations: NDArray[np.float64], last: int, groups: Mapping[str, int], corrected: Sequence[str]
) -> tuple[Finding, ...]:
    """Name what drifted, the largest first; what merely follows from another thing is left out.

    Args:
        deviations: float64 [N, 18], N >= 1, of the latest images in sigma.
        last: number of the last of them.
        groups: those with evidence, "whole" perhaps among them, and with which image each began.
        corrected: those that the shift correction of the model corrects.
    """
    latest = {group: deviations[-min(last - start_index + 1, LATEST) :] for group, start_index in groups.items()}
    found = [
        _finding(latest[group], group, start_index, group in corrected)
        for group, start_index in groups.items()
        if group != "whole"
    ]
    size = {each.group: abs(each.sigma) for each in found}
    largest = max(size.values(), default=0.0)
    causes = (
        each for each in found if each.group in ("light", "contrast", "evenness") or each.description == "noisier"
    )
    main = max((abs(each.sigma) for each in causes), default=0.0)

    def follows(each: Finding) -> bool:
        """Clipping and low contrast swallow noise, noise looks like sharp edges everywhere, light moves all tones."""
        if abs(each.sigma) < min(SLIGHT, largest):
            return True
        if each.description == "smoother":
            return bool(size.keys() & {"light", "contrast", "sharpness", "evenness"})
        if each.description == "sharper":
            return bool(size.keys() & {"light", "contrast", "noise"})
        return each.group in ("contrast", "evenness", "orientation", "place") and abs(each.sigma) < main / 3

    kept = sorted((each for each in found if not follows(each)), key=lambda each: -abs(each.sigma))
    if kept:
        return tuple(kept)
    start_index = min(groups.values())
    return (Finding("whole", "unlike the good images", float(np.abs(deviations[-LATEST:]).mean()), start_index, False),)


def _finding(deviations: NDArray[np.float64], group: str, start_index: int, corrected: bool) -> Finding:
    places = [place for place, statistic in enumerate(STATISTICS) if statistic.group == group]
    medians, sizes = _median(deviations[:, places]), _median(np.abs(deviations[:, places]))
    lead = int(sizes.argmax())
    middle, size = float(medians[lead]), float(sizes[lead])
    if abs(middle) < size / 2 and group in _VARIES:  # up in some images, down in others
        return Finding(group, _VARIES[group], size, start_index, corrected)
    signed = middle if abs(middle) >= size / 2 else size
    return Finding(group, _word(group, places[lead], deviations), signed, start_index, corrected)


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis; :func:`numpy.median` takes five times as long for a few images, mostly before it begins."""
    ordered = np.sort(values, axis=0)
    return np.asarray((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def _word(group: str, statistic: int, deviations: NDArray[np.float64]) -> str:
    value = float(_median(deviations[:, statistic]))
    if group in _PLAIN:
        return _PLAIN[group][value > 0]
    if group == "colour":
        red, blue = (float(_median(deviations[:, _NAMES.index(name)])) for name in ("red", "blue"))
        return f"colour moved to {_colour(red, blue)}"
    if _NAMES[statistic] in _WHERE:
        return _WHERE[_NAMES[statistic]][value > 0]
    return "turned"


def _colour(red: float, blue: float) -> str:
    """The nearest of six colours.

    >>> _colour(3, 0), _colour(0, -3), _colour(-2, -2), _colour(2, 2)
    ('red', 'yellow', 'green', 'magenta')
    """
    return max(_COLOURS, key=lambda name: np.dot(_COLOURS[name], (red, blue)) / np.hypot(*_COLOURS[name]))


def judge(verdicts: Sequence[tuple[float, bool]], bound: float) -> Effect:
    """What the verdicts say, if nearly all parts are good.

    Args:
        verdicts: (p-value of the score, called defective) of images since the drift began.
        bound: false-alarm rate that the threshold promises at most.

    >>> judge([(0.02, True)] * 8 + [(0.4, False)] * 12, bound=0.05)
    Effect(inspected=20, defective=8, false_alarms=True, blind=False)
    """
    inspected, defective = len(verdicts), sum(called for _, called in verdicts)
    if inspected < FEW:
        return Effect(inspected, defective)
    terms = [math.comb(inspected, k) * bound**k * (1 - bound) ** (inspected - k) for k in range(defective)]
    # The mean of n uniform p-values has the standard deviation 1 / sqrt(12 n).
    blind = (np.mean([p for p, _ in verdicts]) - 0.5) * math.sqrt(12 * inspected) > 3
    return Effect(inspected, defective, false_alarms=1 - sum(terms) < CHANCE, blind=bool(blind))


def advice(status: str, findings: Sequence[Finding], effect: Effect) -> str:
    """What to do, in a few words."""
    if status == "steady":
        return "nothing to do"
    if status == "watch":
        return "watch"
    fix = _FIXES[findings[0].group]
    if effect.absorbed is None:
        return f"verdicts not known: {fix}" if effect.inspected == 0 else f"too few inspected to say more: {fix}"
    if effect.absorbed:
        return "correction absorbs it: watch" if all(each.corrected for each in findings) else "verdicts hold: watch"
    return f"{fix}; or recalibrate, if images stay like this"


def sentence(status: str, findings: Sequence[Finding], effect: Effect, advice_text: str) -> str:
    """All of it in one line."""
    if status == "steady":
        return "steady: images are like the good ones"
    what = [f"{each.description} by {size(each.sigma)}" for each in findings]
    begun = [f"since image {each.start_index}" for each in findings]
    together = len(set(begun)) == 1
    line = ", ".join(what) + f" {begun[0]}" if together else ", ".join(map(" ".join, zip(what, begun, strict=True)))
    line = line if status == "drift" else f"perhaps {line}"
    if effect.false_alarms:
        line += f"; {effect.defective} of {effect.inspected} called defective"
    if effect.blind:
        line += "; scores are too low, defects may be missed"
    return f"{line}: {advice_text}"


def size(sigma: float) -> str:
    """A deviation as a person says it; beyond 20 sigma it only means very far.

    >>> size(-3.24), size(250.0)
    ('3.2 sigma', 'more than 20 sigma')
    """
    return "more than 20 sigma" if abs(sigma) > 20 else f"{abs(sigma):.1f} sigma"

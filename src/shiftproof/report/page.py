"""What every report page shares: the template environment, how numbers are written, embedded images, legend, model card."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from shiftproof.model_io.model_folder import write_text_atomic
from shiftproof.report.heatmap import PALETTE

DASH = "–"
THUMBNAIL = 420  # longest side of an embedded image in pixels: well above what a column shows: sharp on dense screens


@dataclass(frozen=True)
class Picture:
    """One image beside its heatmap."""

    name: str  # as in the tables
    defect_type: str  # "good", "scratch_head", ...; empty where it is not known
    score: float  # image score
    image: NDArray[np.uint8]  # [H, W, 3] RGB; its `thumbnail` where many are held
    overlay: NDArray[np.uint8]  # [H, W, 3] RGB, from `heatmap.overlay`; its `thumbnail` too
    defect_share: float | None = None  # of the image, 0..1, covered by the annotated defect that the overlay outlines
    verdict: str = ""  # "good" or "defective", where it is shown with the image


@dataclass(frozen=True)
class Legend:
    """The one colour scale of a page."""

    low: float  # drawn coolest, image left as it is
    high: float  # drawn hottest
    threshold: float | None  # named on the scale

    @property
    def position(self) -> float:
        """Where the threshold lies on the bar, in per cent of its length."""
        span = self.high - self.low
        if self.threshold is None or span <= 0:
            return 50.0
        return 100 * min(max((self.threshold - self.low) / span, 0.0), 1.0)

    @property
    def gradient(self) -> str:
        """The palette as a CSS gradient."""
        return "linear-gradient(to right," + ",".join("#" + bytes(color).hex() for color in PALETTE[::15]) + ")"


def number(value: float | None, decimals: int = 3) -> str:
    """A rate or area; a dash for None.

    >>> number(0.94567), number(None)
    ('0.946', '–')
    """
    return DASH if value is None else f"{value:.{decimals}f}"


def percent(value: float | None) -> str:
    r"""A rate in per cent, with a narrow space that does not break.

    >>> percent(0.0488) == "4.9\N{NARROW NO-BREAK SPACE}%", percent(None)
    (True, '–')
    """
    return DASH if value is None else f"{100 * value:.1f}\u202f%"


def score(value: float | str | None) -> str:
    """An anomaly score, which has no fixed range: four digits; a dash for None and for an empty cell.

    >>> score(0.0123456), score(0.323), score(1234.5), score("")
    ('0.01235', '0.3230', '1234', '–')
    """
    return DASH if value is None or value == "" else f"{float(value):#.4g}".rstrip(".")


def breakable(name: str | None) -> Markup:
    """The name of a condition, escaped, that may be wrapped where its words meet; nothing for None.

    >>> print(breakable("gaussian_noise-3"))
    gaussian_<wbr>noise-3
    """
    return Markup("_<wbr>").join((name or "").split("_"))


def duration(seconds: float | None) -> str:
    """A time as a person says it.

    >>> duration(7.25), duration(754), duration(7322), duration(None)
    ('7.2 s', '12 min 34 s', '2 h 2 min', '–')
    """
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def thumbnail(image: NDArray[np.uint8], longest: int = THUMBNAIL) -> NDArray[np.uint8]:
    """An image as large as a page shows it, and no larger: its longer side at most 420 pixels, never enlarged.

    Args:
        image: uint8 [H, W, 3], RGB.
        longest: another limit for the longer side, in pixels.

    Returns:
        uint8 [h, w, 3], which shares no memory with the image; the same pixels where the image is small enough.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.array(picture)


def data_uri(image: NDArray[np.uint8]) -> str:
    """The `thumbnail` of an image uint8 [H, W, 3] as text inside the page: JPEG."""
    picture = Image.fromarray(thumbnail(image))
    buffer = io.BytesIO()
    # Full colour resolution: outlines stay thin. Not `optimize`, for which Pillow's buffer is too small where all is noise.
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def model_card(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of the model card, (term, value); what the manifest does not hold is a dash."""
    config, data, teacher = (_mapping(manifest, key) for key in ("config", "data", "teacher"))
    size = config.get("image_size")
    versions = {"shiftproof": manifest.get("shiftproof"), **_mapping(manifest, "environment")}
    lines = {
        "method": manifest.get("method"),
        "backbone": config.get("backbone"),
        "teacher": teacher.get("name"),
        "image size": " × ".join(map(str, size)) if isinstance(size, list | tuple) else size,
        "epochs": config.get("epochs"),
        "seed": config.get("seed"),
        "training images": data.get("train_images"),
        "calibration images": data.get("calibration_images"),
        "training time": duration(_mapping(manifest, "training").get("seconds")),
        "teacher weights, SHA-256": teacher.get("sha256"),
        "data fingerprint": data.get("fingerprint"),
        "versions": " · ".join(f"{name} {version}" for name, version in versions.items() if version) or None,
    }
    return [(term, DASH if value is None else str(value)) for term, value in lines.items()]


def _mapping(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, Mapping) else {}


def write_page(path: Path, template: str, **context: object) -> None:
    """Render a template of this package into one file that needs nothing else.

    Raises:
        ShiftproofError: the file cannot be written.
    """
    write_text_atomic(path, _environment().get_template(template).render(**context))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("shiftproof.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "score": score,
        "data_uri": data_uri,
        "breakable": breakable,
    }
    return environment

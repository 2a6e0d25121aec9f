"""What kind of images a set holds: sizes, depth, range and colour; what looks wrong about it; how another image differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shiftproof.data.images import ImageInfo

CAMERA_BITS = (10, 12, 14)
"""Depths that cameras write into files of 16 bits."""
ASPECT_TOLERANCE = 0.02
"""Relative; a crop or a turn changes the aspect by more."""
AREA_FACTOR = 2.0
"""Images with so many times more or fewer pixels than any in training are of another resolution."""
RANGE_FACTOR = 4.0
"""An image whose brightest value is so many times lower than that of the darkest in training was stored differently."""


@dataclass(frozen=True)
class ImageProfile:
    """The kind of a set of images."""

    images: int
    sizes: dict[str, int]
    """Number of images by WIDTHxHEIGHT, the most frequent first."""
    gray: int
    """Images with three equal channels."""
    bits: dict[str, int]
    """Number of images by bits of a channel."""
    brightest: tuple[float, float]
    """The lowest and the highest of the images' greatest values, as shares of their range."""
    greatest_16: int
    """The greatest value in files of 16 bits, 0 without any."""
    gray_16: bool
    """Whether there are gray files of 16 bits."""
    several_pages: int
    turned: int
    """Images that are turned by their EXIF orientation."""
    unused_alpha: int
    constant: int
    """Images of one colour."""

    @classmethod
    def of(cls, infos: Iterable[ImageInfo]) -> ImageProfile:
        """The profile of some images."""
        infos = list(infos)
        shares = [info.brightest / ((1 << info.bits) - 1) for info in infos] or [0.0]
        deep = [info for info in infos if info.bits == 16]
        return cls(
            images=len(infos),
            sizes=dict(Counter(f"{info.width}x{info.height}" for info in infos).most_common()),
            gray=sum(info.gray for info in infos),
            bits=dict(Counter(str(info.bits) for info in infos).most_common()),
            brightest=(min(shares), max(shares)),
            greatest_16=max((info.brightest for info in deep), default=0),
            gray_16=any(info.gray for info in deep),
            several_pages=sum(info.pages > 1 for info in infos),
            turned=sum(info.orientation != 1 for info in infos),
            unused_alpha=sum(info.unused_alpha for info in infos),
            constant=sum(info.constant for info in infos),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ImageProfile:
        """What :meth:`to_json` wrote."""
        return cls(**{**values, "brightest": tuple(values["brightest"])})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "brightest": [round(share, 6) for share in self.brightest]}

    @property
    def proposed_bits(self) -> int | None:
        """The depth of a camera that all values in files of 16 bits fit into, None where none is likely."""
        if not self.greatest_16:
            return None
        return next((bits for bits in CAMERA_BITS if self.greatest_16 < 1 << bits), None)

    def remarks(self) -> list[str]:
        """What its owner should know, a line each."""
        lines = []
        bits = self.proposed_bits
        if bits is not None and self.gray_16:
            lines.append(
                f"the brightest value of all 16-bit images is {self.greatest_16} of 65535, as a camera of {bits} bits "
                f"writes it: at most {self.greatest_16 // 257} of 255 are left; read them with --bits {bits}"
            )
        elif bits is not None:
            lines.append(
                f"the brightest value of all 16-bit colour images is {self.greatest_16} of 65535; convert them to 8 bits"
            )
        elif 0 < self.brightest[1] < 1 / 16:
            lines.append(f"the brightest value of all images is {self.brightest[1]:.0%} of their range; are they dark?")
        for count, line in (
            (self.several_pages, "hold several pages, of which the first is read alone"),
            (self.unused_alpha, "are wholly transparent by their fourth channel, which is ignored"),
            (self.constant, "are of one colour; nothing can be learnt from them"),
        ):
            if count:
                lines.append(f"{count} of {self.images} images {line}")
        if len(self.bits) > 1:
            said = ", ".join(f"{bits} bits {count}" for bits, count in self.bits.items())
            lines.append(f"images of several depths ({said}); the same camera should write the same depth")
        shapes = self._shapes()
        if len(shapes) > 1:
            said = ", ".join(f"{size} {count}" for size, count in list(self.sizes.items())[:4])
            lines.append(f"images of several shapes ({said}), which are all brought to one; was a camera turned?")
        return lines

    def difference(self, info: ImageInfo) -> str:
        """How an image differs in kind from those of the profile, empty where it does not.

        >>> info = ImageInfo(640, 480, True, 8, 200, False, 1, 1, False)
        >>> profile = ImageProfile.of([info])
        >>> profile.difference(ImageInfo(480, 640, False, 8, 210, False, 1, 1, False))
        '480x640 pixels, in training 640x480; colour, in training gray'
        """
        parts = []
        usual = next(iter(self.sizes), "none")
        sizes = [tuple(map(int, size.split("x"))) for size in self.sizes]
        aspect, area = info.width / info.height, info.width * info.height
        known = any(abs(aspect / (width / height) - 1) <= ASPECT_TOLERANCE for width, height in sizes)
        areas = [width * height for width, height in sizes]
        if sizes and (not known or not min(areas) / AREA_FACTOR <= area <= max(areas) * AREA_FACTOR):
            parts.append(f"{info.width}x{info.height} pixels, in training {usual}")
        if info.gray and not self.gray:
            parts.append("gray, in training colour")
        if not info.gray and self.gray == self.images:
            parts.append("colour, in training gray")
        if str(info.bits) not in self.bits:
            parts.append(f"{info.bits} bits, in training {' and '.join(self.bits)}")
        share = info.brightest / ((1 << info.bits) - 1)
        if share * RANGE_FACTOR < self.brightest[0]:
            parts.append(f"brightest value {share:.0%} of the range, in training {self.brightest[0]:.0%} at least")
        elif share > RANGE_FACTOR * self.brightest[1]:
            parts.append(f"brightest value {share:.0%} of the range, in training {self.brightest[1]:.0%} at most")
        if info.constant and not self.constant:
            parts.append("one colour all over")
        return "; ".join(parts)

    def _shapes(self) -> list[float]:
        """Aspects that differ by more than the tolerance."""
        found: list[float] = []
        for size in self.sizes:
            width, height = map(int, size.split("x"))
            if not any(abs(width / height / aspect - 1) <= ASPECT_TOLERANCE for aspect in found):
                found.append(width / height)
        return found

"""What a method is: a composition of networks, the views that it trains on, and the losses that it sums."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shiftproof.errors import ModelError, UsageError, unknown
from shiftproof.methods.losses import DISTILLATIONS
from shiftproof.networks.anomaly_map import OwnBackground, SmoothUpsampling, above_own_background, cosine_distance
from shiftproof.networks.matching import FeatureMatching, SpectrumMatching, ToneMatching
from shiftproof.networks.student import STUDENTS
from shiftproof.networks.teacher import Teacher, stage_modules
from shiftproof.synthesis.augmix import VIEWS, augmix
from shiftproof.synthesis.turned import lie_in_every_direction, turned

Features = list[Tensor]  # one tensor [B, C_k, H_k, W_k] a stage, fine to coarse
BACKGROUNDS = ("median", "learned", "none")
MATCHINGS = ("none", "pixels", "features", "both")
MATCHING_WEIGHT = 0.5  # as in ATTA
TURNED = ("never", "auto", "always")
SHRUNK = (0.005, 0.15)  # standard deviations of the noise that a shrunk view is rid of, from black to white
NORMAL = "normal"  # the view that is the image itself; its teacher features never change and are cached
MASKS = "masks"  # among a phase's views: the truth about synthetic defects, which no teacher reads
LEARNED_FROM = 128  # training images, at most, that matching and background are learned from
CHUNK = 8  # images that go through the networks at once while these are learned


@dataclass(frozen=True)
class MethodConfig:
    """Settings that every method has."""

    student: str = (
        "auto"  # "mirror" (the paper's), "light", or "auto": mirror for a ResNet, light for any other teacher
    )
    distillation: str = "hard"  # "hard", "position" or "flattened" (the papers'); see methods/losses.py
    hard_fraction: float = 0.02  # of the positions of a stage that the hard loss takes
    smoothing_sigma: float = 4.0  # of the Gaussian over the anomaly map, in pixels of the model's image size
    background: str = "median"  # what each map is measured against: "median" of its own, "learned", or "none"
    matching: str = "pixels"  # of what a shift has moved as a whole: "none", "pixels", "features" (ATTA) or "both"
    matching_weight: float = MATCHING_WEIGHT  # of the matched features in their mix with what they were
    views: str = "none"  # AugMix views: "none", "blind" (nothing that a test shift does), "production" (all that helps)
    turned: str = "never"  # views turned by any angle: "never", "always", or "auto" (see synthesis/turned.py)
    shrunk: bool = True  # views that matching of pixels, if there is any, has rid of noise which they do not hold
    views_share: float = 0.5  # of a batch that is seen in such a view as well (GNL's paper: 1); 0: no views

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("student", self.student, STUDENTS),
            ("distillation loss", self.distillation, DISTILLATIONS),
            ("background", self.background, BACKGROUNDS),
            ("matching", self.matching, MATCHINGS),
            ("views", self.views, ("none", *VIEWS)),
            ("turned views", self.turned, TURNED),
        ):
            if value not in known:
                raise unknown(kind, value, known)
        if not 0 <= self.matching_weight <= 1:
            raise UsageError(f"matching weight {self.matching_weight} is out of range: expected 0 (off) to 1 (whole)")
        if self.matching_weight != MATCHING_WEIGHT and self.matching not in ("features", "both"):
            raise UsageError(
                f"matching weight {self.matching_weight} is of matched features, and matching is {self.matching!r}: leave it "
                "out, or ask for features or both"
            )
        if not 0 <= self.views_share <= 1:
            raise UsageError(f"views share {self.views_share} is out of range: expected 0 (no views) to 1 (all images)")


class Phase(nn.Module):
    """A part of the training with a schedule of its own: what it looks at, what it minimises, and what it changes.

    Everything random in :meth:`views` and :meth:`losses` comes from the generator that is passed in, so that a step of
    the training is a function of the weights, the images and the seed.
    """

    teacher: Teacher
    share: float = 1.0  # steps over those of the schedule
    reads_normal: bool = True  # whether its losses need the features of :data:`NORMAL`

    def views(self, images: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """The views that change from step to step, by name; :data:`NORMAL` is always there and not among them.

        Args:
            images: float [B, 3, H, W] in [0, 1].
            random: draws what is random.

        Returns:
            float tensors [b, 3, H, W], b <= B: views of the first b images; and under :data:`MASKS`, where there are
            synthetic defects, where they lie: float [b, H, W].
        """
        return {}

    def losses(self, features: Mapping[str, Features], random: np.random.Generator) -> dict[str, Tensor]:
        """The weighted terms of the training loss, by name; their sum is minimised.

        Args:
            features: the teacher's stages for each view, :data:`NORMAL` included; without gradients. Masks are
                handed on as they are, in a list of one.
            random: draws what is random.

        Returns:
            scalar float32 tensors.
        """
        raise NotImplementedError

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser, with their learning rates."""
        raise NotImplementedError


class Method(Phase):
    """Base of all methods; a subclass adds networks, views and losses. It is the first phase of its own training."""

    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, teacher: Teacher, config: MethodConfig):
        super().__init__()
        self.teacher = teacher
        self.config = config
        self.to_map = SmoothUpsampling(config.smoothing_sigma)
        self.background = OwnBackground() if config.background == "learned" else None
        pixels, features = (config.matching in (kind, "both") for kind in ("pixels", "features"))
        self.pixel_matching = nn.Sequential(ToneMatching(), SpectrumMatching()) if pixels else None
        matched = teacher.info.channels[:2] if features else ()
        if features:
            stage_modules(teacher.info.name)  # a teacher that cannot be adapted shows now, not after the training
        self.feature_matching = nn.ModuleList(FeatureMatching(c, config.matching_weight) for c in matched)
        self.matches = config.matching != "none"
        self.turns = config.turned == "always"

    def use_matching(self, wanted: bool) -> None:
        """Switch matching off, or on again.

        Raises:
            ModelError: it is wanted of a model that was trained without.
        """
        if wanted and self.config.matching == "none":
            raise ModelError("the model was trained without matching and holds nothing to match to: train it again")
        self.matches = wanted

    def prepare(self, pixels: NDArray[np.uint8]) -> None:
        """Before the training: find out what the good images uint8 [N, H, W, 3] allow."""
        if self.config.turned == "auto":
            self.turns = lie_in_every_direction(pixels)

    def look(self, images: Tensor, random: np.random.Generator) -> Tensor | None:
        """Another look at good parts, as good as the first; None where the settings ask for none.

        Args:
            images: float [B, 3, H, W] in [0, 1].
            random: draws what is random.

        Returns:
            of the same shape.
        """
        if not self.config.views_share:
            return None
        look = turned(images, random) if self.turns else images
        if self.config.views != "none":
            look = augmix(look, random, self.config.views)
        if self.config.shrunk and self.pixel_matching is not None:
            spectrum = self.pixel_matching[1]
            assert isinstance(spectrum, SpectrumMatching)
            least, most = map(math.log, SHRUNK)
            deviations = np.exp(random.uniform(least, most, len(images)))
            with torch.no_grad():
                look = spectrum.shrink(look, torch.from_numpy(deviations).to(images)).clamp(0, 1)
        return None if look is images else look

    def phases(self) -> Sequence[Phase]:
        """The parts of the training, in order; the first one trains what the anomaly map is made of."""
        return [self]

    def arrange(self) -> None:
        """Put the weights in the memory order in which each part computes fastest; results stay the same."""
        self.to(memory_format=torch.channels_last)

    def rebuild(self, features: Features) -> Features:
        """The student's stages for the teacher's; what inference compares."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Features:
        """The teacher's stages of images [B, 3, H, W] in [0, 1], matched if that is on."""
        if not self.matches:
            return self.teacher(images)
        if self.pixel_matching is not None:
            images = self.pixel_matching(images)
        return self.teacher(images, list(self.feature_matching))

    def distances(self, features: Features, rebuilt: Features, size: tuple[int, int]) -> Tensor:
        """The smoothed distance between teacher and student, float32 [B, H, W], not negative."""
        return self.to_map([cosine_distance(*pair) for pair in zip(features, rebuilt, strict=True)], size)

    def against_background(self, maps: Tensor) -> Tensor:
        """Smoothed distances [B, H, W], each measured against its own background."""
        if self.background is not None:
            return self.background(maps)
        return maps if self.config.background == "none" else above_own_background(maps)

    def compare(self, features: Features, size: tuple[int, int]) -> Tensor:
        """The anomaly map, float32 [B, H, W], from the teacher's stages."""
        return self.against_background(self.distances(features, self.rebuild(features), size))

    def anomaly_map(self, images: Tensor) -> Tensor:
        """The smoothed anomaly map.

        Args:
            images: float [B, 3, H, W] in [0, 1]; H and W multiples of 32.

        Returns:
            float32 [B, H, W]; higher is more anomalous. Against the median 0 is the image's own background; against a
            learned background it is a logarithm, and the highest value of a good image lies about 0; with "none" the
            papers' sum of distances.
        """
        return self.compare(self.features(images), (images.shape[-2], images.shape[-1]))

    def learn(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> None:
        """After the training: learn what matching and background need from good training images.

        Args:
            pixels: uint8 [N, H, W, 3]; a random sample of them is looked at.
            random: draws the sample and the views.
        """
        chosen = np.sort(random.choice(len(pixels), min(len(pixels), LEARNED_FROM), replace=False))
        batches = [
            to_images(torch.from_numpy(np.ascontiguousarray(pixels[chosen[k : k + CHUNK]])).to(self.teacher.device))
            for k in range(0, len(chosen), CHUNK)
        ]
        self.eval()
        if self.pixel_matching is not None:
            tones, spectrum = self.pixel_matching
            assert isinstance(tones, ToneMatching) and isinstance(spectrum, SpectrumMatching)
            tones.learn(batches)
            spectrum.learn(tones(images) for images in batches)
        matched = self.pixel_matching or nn.Identity()
        for stage, matching in enumerate(self.feature_matching):
            assert isinstance(matching, FeatureMatching)
            before = list(self.feature_matching)[:stage]
            matching.learn(self.teacher(matched(images), before)[stage] for images in batches)
        if self.background is not None:
            looks = (look for images in batches for look in (images, augmix(images, random)))
            maps = []
            for look in looks:
                features = self.features(look)
                maps.append(self.distances(features, self.rebuild(features), (look.shape[-2], look.shape[-1])))
            self.background.learn(maps)

    def learn_scale(self, pixels: NDArray[np.uint8]) -> None:
        """Bring maps of several kinds to one scale, with held-out good images uint8 [N, H, W, 3]; nothing to do for one."""


class Inspector(nn.Module):
    """The one inference path: what is evaluated, shown and exported is this module.

    Args:
        method: in any mode; the inspector puts it in eval mode.
    """

    def __init__(self, method: Method):
        super().__init__()
        self.method = method
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect images of the model's size.

        Args:
            pixels: uint8 [B, H, W, 3] RGB.

        Returns:
            anomaly maps, float32 [B, H, W], and image scores, float32 [B]: the maximum of each map.
        """
        maps = self.method.anomaly_map(to_images(pixels))
        return maps, maps.amax(dim=(1, 2))


@contextmanager
def exact_inference() -> Iterator[None]:
    """No gradients, and float32 that is float32: on a GPU convolutions would round to TF32, and a threshold would move."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), flags:
        yield


def to_images(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [0, 1], in channels-last memory (no copy of the layout)."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32) / 255

"""The base of all methods: networks, the augmented views that they train on, and the losses that they sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shiftproof.config import MethodConfig
from shiftproof.errors import ModelError
from shiftproof.networks.anomaly_map import (
    LearnedNormalization,
    SmoothUpsampling,
    median_normalization,
    top_mean,
)
from shiftproof.networks.correction import FeatureMatching, SpectrumCorrection, ToneCorrection
from shiftproof.networks.teacher import Teacher, stage_modules
from shiftproof.reporter import Reporter
from shiftproof.synthesis.augmix import augmix
from shiftproof.synthesis.textures import Textures

Features = list[Tensor]  # one tensor [B, C_k, H_k, W_k] per stage, fine to coarse
NORMAL = "normal"  # the view that is the image itself; its teacher features never change and are cached
MASKS = "masks"  # key in a phase's views: the masks of synthetic defects, which the teacher does not read
STATISTICS_IMAGES = 128  # most training images that correction and score normalization are fitted to
CHUNK = 8  # images per forward pass while statistics are fitted


class Phase(nn.Module):
    """A part of the training with its own schedule: its views, its losses, and the parameters that it trains.

    All randomness in :meth:`views` and :meth:`losses` comes from the generator that is passed in. A training step is
    therefore a function of the weights, the images and the seed.
    """

    teacher: Teacher
    share: float = 1.0  # steps of this phase over steps of the schedule
    optimizer: str | None = None  # one of its own, instead of the schedule's
    reads_normal: bool = True  # whether its losses need the features of :data:`NORMAL`

    def views(self, images: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the views that change from step to step, by name. :data:`NORMAL` is always there and is not included.

        Args:
            images: float [B, 3, H, W] in [0, 1].
            rng: random generator.

        Returns:
            float tensors [b, 3, H, W], b <= B: views of the first b images. Where there are synthetic defects,
            :data:`MASKS` holds their masks: float [b, H, W].
        """
        return {}

    def losses(self, features: Mapping[str, Features], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the weighted terms of the training loss, by name; the training minimizes their sum.

        Args:
            features: the teacher's stages for each view, :data:`NORMAL` included; without gradients. Masks are
                passed on unchanged, in a list of one.
            rng: random generator.

        Returns:
            scalar float32 tensors.
        """
        raise NotImplementedError

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return parameter groups for the optimizer, with their learning rates."""
        raise NotImplementedError


class Method(Phase):
    """Base of all methods; a subclass adds networks, views and losses. It is the first phase of its own training."""

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    auto_pixels: ClassVar[int | None] = None  # that an image size of "auto" aims at; None: 256x256
    cross_fits: ClassVar[bool] = False  # whether :meth:`leave_out` works, so that training images can calibrate

    def __init__(self, teacher: Teacher, config: MethodConfig):
        super().__init__()
        self.teacher = teacher
        self.config = config
        self.to_map = SmoothUpsampling(config.smoothing_sigma)
        self.normalization = LearnedNormalization() if config.score_normalization == "learned" else None
        image, features = (config.correction in (kind, "both") for kind in ("image", "features"))
        self.image_correction = nn.Sequential(ToneCorrection(), SpectrumCorrection()) if image else None
        corrected = teacher.info.channels[:2] if features else ()
        if features:
            stage_modules(teacher.info.name)  # refuse a teacher that cannot be adapted now, not after the training
        self.feature_correction = nn.ModuleList(FeatureMatching(c, config.correction_weight) for c in corrected)
        self.correction_enabled = config.correction != "none"
        self.rotates = False  # whether the training uses randomly rotated views
        self.textures = Textures()  # textures of synthetic anomalies, where the method makes any; may be replaced

    def use_correction(self, enabled: bool) -> None:
        """Switch shift correction off, or on again.

        Raises:
            ModelError: it is switched on for a model that was trained without correction.
        """
        if enabled and self.config.correction == "none":
            raise ModelError(
                "the model was trained without shift correction and holds no statistics for it: train it again"
            )
        self.correction_enabled = enabled

    def prepare(self, pixels: NDArray[np.uint8], reporter: Reporter | None = None) -> None:
        """Resolve settings that depend on the good images, before the training.

        Args:
            pixels: uint8 [N, H, W, 3].
            reporter: receives the result, in words.
        """

    def phases(self) -> Sequence[Phase]:
        """Return the parts of the training, in order; the first one trains what the anomaly map is made of.

        A method without any only fits statistics; it has no schedule.
        """
        return [self]

    def leave_out(self, image: int | None) -> None:
        """Score as if the training image with this index had not been trained on; None scores as usual.

        Only a method with :attr:`cross_fits` can do this.
        """
        if image is not None:
            raise ModelError("this method cannot leave out a training image: calibrate it with other images")

    def image_scores(self, maps: Tensor) -> Tensor:
        """Return the image scores, float32 [B], of anomaly maps [B, H, W]."""
        return maps.amax(dim=(1, 2)) if self.config.score == "max" else top_mean(maps, self.config.score_fraction)

    def to_channels_last(self) -> None:
        """Put the weights in the memory order in which each part computes fastest; results stay the same."""
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Features:
        """Return the teacher's stages of images [B, 3, H, W] in [0, 1], with shift correction if it is enabled."""
        if not self.correction_enabled:
            return self.teacher(images)
        if self.image_correction is not None:
            images = self.image_correction(images)
        return self.teacher(images, list(self.feature_correction))

    def distances(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Return the smoothed distance of the features from those of good images, float32 [B, H, W], not negative."""
        raise NotImplementedError

    def normalize_maps(self, maps: Tensor) -> Tensor:
        """Return smoothed distances [B, H, W] after score normalization."""
        if self.normalization is not None:
            return self.normalization(maps)
        return maps if self.config.score_normalization == "none" else median_normalization(maps)

    def score_map(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Return the anomaly map, float32 [B, H, W], from the teacher's stages."""
        return self.normalize_maps(self.distances(features, size))

    def anomaly_map(self, images: Tensor) -> Tensor:
        """Return the smoothed anomaly map.

        Args:
            images: float [B, 3, H, W] in [0, 1]; H and W multiples of 32.

        Returns:
            float32 [B, H, W]; higher is more anomalous. With score normalization "median", 0 is the image's own
            background. With "learned", the values are logarithms, and the maximum of a good image is about 0. With
            "none", the values are the papers' sum of distances.
        """
        return self.score_map(self.features(images), _size(images))

    def fit_statistics(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Fit correction and score normalization to good training images, after the training.

        Args:
            pixels: uint8 [N, H, W, 3]; a random sample of them is used.
            rng: draws the sample and the augmented views.
        """
        selected = np.sort(rng.choice(len(pixels), min(len(pixels), STATISTICS_IMAGES), replace=False))
        chunk = chunk_size(pixels)
        batches = [
            to_images(torch.from_numpy(np.ascontiguousarray(pixels[selected[k : k + chunk]])).to(self.teacher.device))
            for k in range(0, len(selected), chunk)
        ]
        self.eval()
        self._fit_correction(batches)
        self.fit_distances(pixels, rng)
        if self.normalization is not None:
            views = (view for images in batches for view in (images, augmix(images, rng)))
            self.normalization.fit(self.distances(self.features(view), _size(view)) for view in views)

    def fit_distances(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Fit what :meth:`distances` compares with, after the correction; nothing where it was trained.

        Args:
            pixels: good training images, uint8 [N, H, W, 3].
            rng: random generator.
        """

    def _fit_correction(self, batches: Sequence[Tensor]) -> None:
        if self.image_correction is not None:
            tones, spectrum = self.image_correction
            assert isinstance(tones, ToneCorrection) and isinstance(spectrum, SpectrumCorrection)
            tones.fit(batches)
            spectrum.fit(tones(images) for images in batches)
        correct_image = self.image_correction or nn.Identity()
        for stage, matching in enumerate(self.feature_correction):
            assert isinstance(matching, FeatureMatching)
            before = list(self.feature_correction)[:stage]
            matching.fit(self.teacher(correct_image(images), before)[stage] for images in batches)

    def fit_scale(self, pixels: NDArray[np.uint8]) -> None:
        """Bring several kinds of maps to one scale; does nothing for a method with one kind.

        Args:
            pixels: good calibration images, uint8 [N, H, W, 3].
        """


class Inspector(nn.Module):
    """The single inference path: evaluation, prediction and export all run this module.

    Args:
        method: in any mode; the inspector switches it to eval mode.
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
            anomaly maps, float32 [B, H, W], and image scores, float32 [B], none above the maximum of its map.
        """
        maps = self.method.anomaly_map(to_images(pixels))
        return maps, self.method.image_scores(maps)


@contextmanager
def exact_inference() -> Iterator[None]:
    """Disable gradients and TF32: on a GPU, convolutions in TF32 would round, and a threshold would move."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), flags:
        yield


def chunk_size(pixels: NDArray[np.uint8]) -> int:
    """Return how many images uint8 [N, H, W, 3] to pass at once: :data:`CHUNK` of 256x256, fewer of larger ones."""
    return max(1, min(CHUNK, CHUNK * 256 * 256 // (pixels.shape[1] * pixels.shape[2])))


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def to_images(pixels: Tensor) -> Tensor:
    """Convert uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [0, 1], in channels-last memory (no copy of the layout)."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32) / 255

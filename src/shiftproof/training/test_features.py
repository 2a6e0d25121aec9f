from __future__ import annotations

import numpy as np
import pytest
import torch

from shiftproof.networks.teacher import Teacher
from shiftproof.training.features import NormalFeatures

# Bytes of one 64x64 image's features in float16: 24, 40 and 112 channels at stride 4, 8 and 16.
ONE_IMAGE = 2 * (24 * 16 * 16 + 40 * 8 * 8 + 112 * 4 * 4)
CHOSEN = np.array([7, 0, 7, 3])


def test_cached_features_are_the_live_ones_to_half_precision(teacher, pixels):
    cached, live = (NormalFeatures(teacher, pixels, limit, batch=4) for limit in (10**9, 0))
    assert cached.stages is not None
    assert live.stages is None
    for kept, computed in zip(cached(CHOSEN), live(CHOSEN), strict=True):
        assert kept.dtype == computed.dtype == torch.float32
        assert kept.shape == computed.shape
        # float16 rounds by 2**-11 of a value; the rest is the teacher's own rounding, and what is too small for float16.
        torch.testing.assert_close(kept, computed, rtol=2**-10, atol=1e-4 * float(computed.abs().max()))
    assert [tuple(stage.shape) for stage in cached(CHOSEN)] == [(4, 24, 16, 16), (4, 40, 8, 8), (4, 112, 4, 4)]


def test_images_are_told_apart_and_keep_their_order(teacher, pixels):
    features = NormalFeatures(teacher, pixels, 10**9, batch=3)
    together = features(CHOSEN)
    for place, index in enumerate(CHOSEN):
        for stage, alone in zip(together, features(np.array([index])), strict=True):
            assert torch.equal(stage[place], alone[0])
    assert not torch.equal(together[0][0], together[0][1])


@pytest.mark.parametrize(("spare", "cached"), [(0, True), (-1, False)])
def test_the_limit_holds_to_the_byte(teacher, pixels, spare, cached):
    features = NormalFeatures(teacher, pixels, len(pixels) * ONE_IMAGE + spare, batch=4)
    assert (features.stages is not None) == cached
    if cached:
        assert sum(stage.nbytes for stage in features.stages) == len(pixels) * ONE_IMAGE


def test_oblong_images_keep_height_and_width_apart(teacher, pixels):
    oblong = np.ascontiguousarray(pixels[:, :32])
    cached, live = (NormalFeatures(teacher, oblong, limit, batch=4) for limit in (10**9, 0))
    assert tuple(cached(CHOSEN)[0].shape) == (4, 24, 8, 16)
    # As above; height and width confused would differ by the features themselves, which are about 1.
    torch.testing.assert_close(cached(CHOSEN)[0], live(CHOSEN)[0], rtol=2**-10, atol=1e-3)


def test_progress_counts_every_image_once(teacher, pixels):
    reported = []
    NormalFeatures(teacher, pixels, 10**9, batch=4, on_progress=lambda *done: reported.append(done))
    assert reported == [(4, 10), (8, 10), (10, 10)]


class LoudTeacher(Teacher):
    """Features beyond the range of float16."""

    def forward(self, images):
        return [1e6 * stage for stage in super().forward(images)]


def test_features_beyond_half_precision_are_not_kept(teacher, pixels):
    loud = LoudTeacher(teacher.info)
    features = NormalFeatures(loud, pixels, 10**9, batch=4)
    assert features.stages is None
    assert all(bool(stage.isfinite().all()) for stage in features(CHOSEN))

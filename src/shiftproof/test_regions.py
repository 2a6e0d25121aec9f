"""Regions against SciPy's labels, on masks of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from shiftproof.regions import find_regions, label

masks = arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@given(masks)
def test_labels_are_those_of_scipy(mask):
    rows, columns, labels = label(mask)
    expected, count = ndimage.label(mask, structure=np.ones((3, 3)))
    found = np.zeros(mask.shape, int)
    found[rows, columns] = labels + 1
    assert len(set(zip(found[mask].tolist(), expected[mask].tolist(), strict=True))) == count
    assert set(found[mask].tolist()) == set(range(1, count + 1))
    assert not found[~mask].any()


def test_a_long_snake_is_one_region():
    mask = np.zeros((65, 64), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    assert label(mask)[2].max() == 0


@given(masks, st.integers(1, 3), st.integers(1, 3))
def test_regions_tell_box_area_and_peak(mask, down, across):
    heat = np.where(mask, 1 + np.arange(mask.size).reshape(mask.shape), 0).astype(np.float32)
    size = (mask.shape[0] * down, mask.shape[1] * across)
    found = find_regions(heat, 0.5, size, most=1000)
    expected, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    assert sum(region.area for region in found) == mask.sum() * down * across
    assert [region.peak.value for region in found] == sorted((region.peak.value for region in found), reverse=True)
    by_peak = {region.peak.value: region for region in found}
    for number, (rows, columns) in enumerate(ndimage.find_objects(expected), start=1):
        region = by_peak[heat[expected == number].max()]
        assert (region.box.y, region.box.height) == (rows.start * down, (rows.stop - rows.start) * down)
        assert (region.box.x, region.box.width) == (columns.start * across, (columns.stop - columns.start) * across)
        assert heat[region.peak.y // down, region.peak.x // across] == region.peak.value


def test_an_image_smaller_than_the_map_keeps_its_regions():
    heat = np.zeros((64, 64), np.float32)
    heat[63, 63] = 2
    (region,) = find_regions(heat, 1.0, (8, 16))
    assert (region.area, region.box.width, region.box.height) == (1, 1, 1)
    assert (region.box.x, region.box.y, region.peak.x, region.peak.y) == (15, 7, 15, 7)


@pytest.mark.parametrize("most", [1, 3])
def test_of_many_regions_the_hottest_are_listed(most):
    heat = np.zeros((9, 9), np.float32)
    heat[::2, ::2] = np.arange(1, 26).reshape(5, 5)
    assert [region.peak.value for region in find_regions(heat, 0.5, (9, 9), most)] == [25.0, 24.0, 23.0][:most]

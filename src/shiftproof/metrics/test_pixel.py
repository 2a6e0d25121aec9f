"""Pixel metrics against scikit-learn and against AUPRO worked out the slow way, threshold by threshold."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from shiftproof.metrics import PixelMetrics
from shiftproof.metrics.pixel import BINS, ordered_keys

NAMES = ["auroc", "ap", "f1_max", "aupro_30", "aupro_05"]


def measure(images):
    metrics = PixelMetrics()
    for anomaly_map, mask in images:
        metrics.update(anomaly_map, mask)
    return metrics.compute()


# The slow way


def regions_of(mask):
    """The 8-connected regions of a mask, each a set of pixels, found by walking from neighbour to neighbour."""
    left, regions = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            region.add((row, column))
            for neighbour in itertools.product((row - 1, row, row + 1), (column - 1, column, column + 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    edge.append(neighbour)
        regions.append(region)
    return regions


def slow_aupro(images, limit):
    """MVTec's definition: every distinct value is a threshold; rates and overlaps are of the whole set of images."""
    regions = [(number, region) for number, (_, mask) in enumerate(images) for region in regions_of(mask)]
    good = np.concatenate([anomaly_map[~mask] for anomaly_map, mask in images])
    curve = [(0.0, 0.0)]
    for threshold in sorted({float(value) for anomaly_map, _ in images for value in anomaly_map.ravel()}, reverse=True):
        overlaps = [
            sum(images[number][0][pixel] >= threshold for pixel in region) / len(region) for number, region in regions
        ]
        curve.append((np.mean(good >= threshold), np.mean(overlaps)))
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 > limit:
            if x0 < limit:
                y_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
                total += (limit - x0) * (y0 + y_limit) / 2
            break
        total += (x1 - x0) * (y0 + y1) / 2
    return total / limit


def reference(images):
    labels = np.concatenate([mask.ravel() for _, mask in images])
    values = np.concatenate([anomaly_map.ravel() for anomaly_map, _ in images]).astype(np.float64)
    precision, recall, _ = precision_recall_curve(labels, values)
    return {
        "auroc": roc_auc_score(labels, values),
        "ap": average_precision_score(labels, values),
        "f1_max": np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300)),
        "aupro_30": slow_aupro(images, 0.3),
        "aupro_05": slow_aupro(images, 0.05),
    }


# Small images whose values the bins can tell apart whatever their range: 12 bits suffice for them.

coarse = st.integers(-2000, 2000).map(lambda k: k / 4)
few = st.sampled_from([-1.0, -0.0, 0.0, 0.5])


def image_of(values):
    shape = st.tuples(st.integers(1, 6), st.integers(1, 6))
    return shape.flatmap(lambda size: st.tuples(arrays(np.float32, size, elements=values), arrays(np.bool_, size)))


def sets_of(values):
    return st.lists(image_of(values), min_size=1, max_size=4)


def both_classes(images):
    return any(mask.any() for _, mask in images) and any(not mask.all() for _, mask in images)


@settings(deadline=None)
@given(sets_of(coarse) | sets_of(few))
def test_the_values_are_the_references_to_the_last_bits(images):
    assume(both_classes(images))
    assert measure(images) == pytest.approx(reference(images), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(sets_of(st.integers(0, 200)), st.sampled_from([1e-3, 1.0, 1000.0, -1e30]))
def test_a_narrow_range_of_values_is_told_apart_to_the_last_bit(images, base):
    assume(both_classes(images))
    unit = np.spacing(np.float32(abs(base)))
    narrow = [((np.float32(base) + steps * unit).astype(np.float32), mask) for steps, mask in images]
    assert np.unique(narrow[0][0]).size == np.unique(images[0][0]).size
    assert measure(narrow) == pytest.approx(reference(narrow), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(sets_of(st.integers(-200, 200)))
def test_a_monotone_change_of_all_values_changes_nothing(images):
    assume(both_classes(images))
    before = measure(images)
    for change in (lambda v: np.exp(v / 20), lambda v: v / 1024 - 300, lambda v: v**3, lambda v: -np.exp(-v / 20)):
        after = measure([(change(anomaly_map.astype(np.float64)), mask) for anomaly_map, mask in images])
        assert after == pytest.approx(before, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(sets_of(st.floats(allow_nan=False, width=32)), st.randoms())
def test_the_order_of_the_images_does_not_matter(images, random):
    """Over the whole range of floats, so that the bins have to be merged at another moment in each order."""
    shuffled = random.sample(images, len(images))
    assert measure(shuffled) == pytest.approx(measure(images), abs=1e-12)


@given(st.floats(allow_nan=False, width=32), st.floats(allow_nan=False, width=32))
def test_keys_are_in_the_order_of_the_floats(one, other):
    key, other_key = ordered_keys(np.array([one, other], np.float32)).tolist()
    assert (key < other_key, key == other_key) == (one < other, one == other)


# Maps as they come: smooth backgrounds, blurred defects


def smooth_maps(count, size, *, seed, offset=0.0):
    from scipy import ndimage

    random = np.random.default_rng(seed)
    images = []
    for number in range(count):
        mask = np.zeros((size, size), bool)
        for _ in range(random.integers(1, 4) if number % 3 else 0):
            row, column = random.integers(0, size - 6, 2)
            mask[row : row + random.integers(1, 6), column : column + random.integers(1, 6)] = True
        background = ndimage.gaussian_filter(random.normal(size=mask.shape), 2)
        heat = ndimage.gaussian_filter(mask * random.uniform(0.2, 1.5), 1)
        images.append(((background + heat + offset).astype(np.float32), mask))
    return images


@pytest.mark.parametrize("offset", [0.0, -7.0, 1000.0], ids=["both signs", "negative", "far from zero"])
def test_smooth_maps_agree_with_the_references_to_a_ten_thousandth(offset):
    images = smooth_maps(9, 20, seed=0, offset=offset)
    assert measure(images) == pytest.approx(reference(images), abs=1e-4)


def test_many_more_pixels_than_bins_agree_with_scikit_learn_to_a_ten_thousandth():
    images = smooth_maps(10, 512, seed=1)
    labels = np.concatenate([mask.ravel() for _, mask in images])
    values = np.concatenate([anomaly_map.ravel() for anomaly_map, _ in images])
    measured = measure(images)
    assert labels.size > 2**21
    assert measured["auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-6)
    assert measured["ap"] == pytest.approx(average_precision_score(labels, values), abs=1e-4)


# Worked by hand


def test_good_images_count_in_the_false_positive_rate():
    defect = np.array([[9.0, 1.0]], np.float32), np.array([[True, False]])
    loud_and_good = np.full((1, 3), 10.0, np.float32), np.zeros((1, 3), bool)
    assert measure([defect])["aupro_30"] == 1.0
    assert measure([defect, loud_and_good])["aupro_30"] == 0.0  # the defect is reached at a rate of 3/4


def test_each_region_counts_alike_whatever_its_size_and_its_image():
    mask = np.zeros((3, 20), bool)
    mask[:, :10] = True  # found; 30 pixels
    mask[0, 15] = True  # missed; 1 pixel
    anomaly_map = np.zeros((3, 20), np.float32)
    anomaly_map[:, :10] = 1.0
    found_alone = np.ones((1, 1), np.float32), np.ones((1, 1), bool)
    # The curve jumps to the share of regions found at rate 0, then rises in one straight line to (1, 1).
    for images, found in ([(anomaly_map, mask)], 1 / 2), ([(anomaly_map, mask), found_alone], 2 / 3):
        assert measure(images)["aupro_30"] == pytest.approx(found + (1 - found) * 0.15, abs=1e-12)


def test_pixels_that_touch_at_a_corner_are_one_region():
    corner, far = np.eye(2, dtype=bool), np.array([[True, False, True]])
    half_found = np.diag([1.0, 0.0]).astype(np.float32)
    more = [(np.zeros((1, 3), np.float32), far)]
    assert measure([(half_found, corner), *more])["aupro_30"] == pytest.approx(
        slow_aupro([(half_found, corner), *more], 0.3), abs=1e-12
    )
    assert len(regions_of(corner)) == 1
    assert len(regions_of(far)) == 2


def test_a_region_of_one_pixel_is_found_or_not():
    mask = np.zeros((10, 10), bool)
    mask[4, 4] = True
    anomaly_map = np.arange(100, dtype=np.float32).reshape(10, 10)
    anomaly_map[4, 4] = 94.5  # below 5 of 99 defect-free pixels
    measured = measure([(anomaly_map, mask)])
    assert measured["aupro_05"] == pytest.approx(0.0, abs=1e-12)
    assert measured["aupro_30"] == pytest.approx((0.3 - 5 / 99) / 0.3, abs=1e-12)


def test_a_constant_map_knows_nothing():
    mask = np.zeros((10, 10), bool)
    mask[0, :5] = True
    measured = measure([(np.full((10, 10), 3.25, np.float32), mask)])
    assert measured == pytest.approx(
        {"auroc": 0.5, "ap": 0.05, "f1_max": 2 * 5 / 105, "aupro_30": 0.15, "aupro_05": 0.025}, abs=1e-12
    )


def test_a_perfect_map_is_exactly_one():
    for images in smooth_maps(40, 30, seed=2)[1::3]:
        mask = images[1]
        assert measure([(np.where(mask, 2.0, images[0] / 100), mask)]) == dict.fromkeys(NAMES, 1.0)


def test_infinite_values_are_the_highest():
    mask = np.array([[True, False, False]])
    assert measure([(np.array([[np.inf, 3e38, -np.inf]], np.float32), mask)]) == dict.fromkeys(NAMES, 1.0)


@pytest.mark.parametrize("masks", [[], [np.zeros((4, 4), bool)], [np.ones((4, 4), bool)]])
def test_without_both_kinds_of_pixel_nothing_is_defined(masks):
    random = np.random.default_rng(0)
    assert measure([(random.random((4, 4), np.float32), mask) for mask in masks]) == dict.fromkeys(NAMES)


def test_two_values_as_far_apart_as_there_are_bins_do_not_share_one():
    values = np.array([[1.0, 1.25]], np.float32)
    assert np.diff(ordered_keys(values)) == BINS
    assert measure([(values, np.array([[False, True]]))])["auroc"] == 1.0


# Refusals


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "message"),
    [
        (np.zeros((4, 5)), np.zeros((5, 4)), r"\(4, 5\) and mask \(5, 4\)"),
        (np.zeros((1, 4, 5)), np.zeros((1, 4, 5)), "height, width"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "height, width"),
        (np.array([[1.0, np.nan]]), np.zeros((1, 2)), "1 of 2 values of the map are NaN"),
        (np.array([[1.0, -np.nan]]), np.zeros((1, 2)), "1 of 2 values of the map are NaN"),
    ],
)
def test_a_map_that_is_refused_is_not_counted(anomaly_map, mask, message):
    metrics = PixelMetrics()
    metrics.update(np.array([[0.0, 1.0, 2.0]], np.float32), np.array([[False, True, False]]))
    before = metrics.compute()
    with pytest.raises(ValueError, match=message):
        metrics.update(anomaly_map, mask)
    assert metrics.compute() == before


# Memory


def test_memory_does_not_grow_with_the_number_of_images():
    images = smooth_maps(3, 256, seed=3)
    tracemalloc.start()
    try:
        metrics, held = PixelMetrics(), []
        for count in (5, 50):
            tracemalloc.reset_peak()
            for number in range(count):
                metrics.update(*images[number % 3])
            metrics.compute()
            held.append(tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    (few_now, few_peak), (many_now, many_peak) = held
    assert many_now < few_now + 100_000
    assert many_peak < few_peak + 100_000
    assert many_peak < 100 * 2**20

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from shiftproof.data import write_image
from shiftproof.drift import REFERENCE, Reference, corrected_groups, load_reference, make_reference, write_reference
from shiftproof.drift.reference import MOST, describe, reference_of_files
from shiftproof.errors import DataError, ModelError
from shiftproof.model_io import load_manifest, save_model


def numbers(seed, count):
    return np.random.default_rng(seed).standard_normal((count, 18)) * 10


@pytest.fixture
def folder(tmp_path):
    reference = Reference(numbers(0, 50), numbers(1, 20))
    files = {REFERENCE: reference.to_bytes()}
    save_model(tmp_path / "model", {"drift": describe(reference)}, {"a": np.zeros(1)}, files=files)
    return tmp_path / "model"


def test_a_reference_comes_back_as_it_was(folder):
    loaded = load_reference(folder, load_manifest(folder))
    np.testing.assert_array_equal(loaded.trained, numbers(0, 50))
    np.testing.assert_array_equal(loaded.calibration, numbers(1, 20))
    assert loaded.fingerprint == Reference(numbers(0, 50), numbers(1, 20)).fingerprint
    assert loaded.fingerprint != Reference(numbers(0, 50), numbers(2, 20)).fingerprint


def test_every_other_row_comes_back_as_it_was():
    every = numbers(3, 40)
    again = Reference.from_bytes(Reference(every[::2], every[1::2]).to_bytes())
    np.testing.assert_array_equal(again.trained, every[::2])
    np.testing.assert_array_equal(again.calibration, every[1::2])


def test_a_reference_can_be_replaced_and_the_model_stays_whole(folder):
    write_reference(folder, Reference(numbers(5, 9), numbers(6, 3)))
    manifest = load_manifest(folder)  # checks every hash
    assert manifest["drift"]["images"] == 12
    assert len(load_reference(folder, manifest).trained) == 9


def test_a_model_without_one_or_with_another_is_one_line(folder):
    manifest = load_manifest(folder)
    with pytest.raises(ModelError, match=r"holds no reference for drift.*train it again.*--reference"):
        load_reference(folder, {})
    with pytest.raises(ModelError, match="other statistics"):
        load_reference(folder, {"drift": {**manifest["drift"], "statistics": ["light"]}})
    (folder / REFERENCE).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"drift.safetensors is damaged"):
        load_reference(folder, manifest)
    (folder / REFERENCE).write_bytes(
        safetensors.numpy.save({"trained": np.zeros((2, 3)), "calibration": np.zeros((2, 3))})
    )
    with pytest.raises(ModelError, match=r"drift.safetensors is damaged"):
        load_reference(folder, manifest)


def test_p_values_of_good_images_are_uniform_and_far_images_have_the_smallest():
    reference = Reference(numbers(0, 300), numbers(1, 199))
    p_values = np.array([reference.p_value(reference.distance(values)) for values in numbers(2, 400)])
    assert 0.4 < p_values.mean() < 0.6
    assert (p_values <= 0.1).mean() < 0.16
    assert reference.p_value(reference.distance(reference.center + 30 * reference.sigma)) == 1 / 200
    assert np.median(reference.distances) == pytest.approx(1, abs=0.15)


def test_one_constant_statistic_or_few_images_do_no_harm():
    values = numbers(0, 4)
    values[:, 3] = 7.0
    reference = Reference(values, values[:1])
    assert np.isfinite(reference.distance(values[0] + 1))
    assert (reference.sigma > 0).all()


def test_very_many_images_are_drawn_from():
    images = np.zeros((3000, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(3000) % 256
    reference, about = make_reference(images[:2500], images[2500:], np.random.default_rng(0))
    assert about["images"] == len(reference.good) == pytest.approx(MOST, abs=1)


def test_a_folder_of_good_images_is_dealt_in_two(tmp_path):
    for seed in range(7):
        write_image(
            tmp_path / f"{seed}.png", np.random.default_rng(seed).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        )
    reference = reference_of_files(sorted(tmp_path.glob("*.png")), (32, 32))
    assert (len(reference.trained), len(reference.calibration)) == (4, 3)
    assert len(np.unique(reference.good[:, 0])) == 7
    with pytest.raises(DataError, match="expected 2 at least"):
        reference_of_files([tmp_path / "0.png"], (32, 32))


def test_what_is_corrected_follows_from_the_model():
    manifest = {"config": {"method": {"correction": "both"}}}
    assert "light" in corrected_groups(manifest) and "orientation" not in corrected_groups(manifest)
    assert corrected_groups(manifest, correction=False) == ()
    assert corrected_groups({"config": {"method": {"correction": "features"}}}) == ()

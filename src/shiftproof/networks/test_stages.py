"""A teacher whose stages are adapted on the way: what the stage gives, and what the next one reads."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from shiftproof.errors import UsageError
from shiftproof.networks import teacher as module
from shiftproof.networks.teacher import Teacher, describe_teacher, stage_modules

# One of each kind of end that a stage can have: a linear block, a sum and a ReLU in place, activations of all sorts, a sum.
NAMES = (
    "tf_efficientnet_lite0.in1k",
    "resnet18.tv_in1k",
    "mobilenetv3_small_050.lamb_in1k",
    "regnety_002.pycls_in1k",
    "convnext_atto.d2_in1k",
)


@pytest.fixture(scope="module", params=NAMES)
def teacher(request: pytest.FixtureRequest) -> Teacher:
    torch.manual_seed(0)
    return Teacher(describe_teacher(request.param))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def another(stage: Tensor) -> Tensor:
    """A change that no layer makes."""
    return 1 - 2 * stage.flip(0)


def unchanged(stage: Tensor) -> Tensor:
    return stage


def hooks(teacher: Teacher) -> int:
    return sum(len(part._forward_hooks) for part in teacher.modules())


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stage_is_adapted_and_the_next_one_reads_it(teacher: Teacher, images: Tensor, stage: int):
    with torch.no_grad():
        plain = teacher(images)
        adapted = teacher(images, [*[unchanged] * stage, another])
        torch.testing.assert_close(adapted[stage], another(plain[stage]))
        for k in range(stage):
            assert torch.equal(adapted[k], plain[k])
        for k in range(stage + 1, 3):
            assert not torch.allclose(adapted[k], plain[k], rtol=1e-3)
        # Nothing is left behind.
        assert hooks(teacher) == 0
        for again, before in zip(teacher(images), plain, strict=True):
            assert torch.equal(again, before)


def test_every_stage_is_given_what_came_of_the_one_before(teacher: Teacher, images: Tensor):
    seen = []

    def watch(stage: Tensor) -> Tensor:
        seen.append(stage)
        return another(stage)

    with torch.no_grad():
        stages = teacher(images, [watch, watch, watch])
        first, second, _ = (teacher(images, [another] * k)[k] for k in range(3))
    assert len(seen) == 3  # each once
    assert [tuple(stage.shape) for stage in seen] == [tuple(stage.shape) for stage in stages]
    torch.testing.assert_close(seen[0], first)
    torch.testing.assert_close(seen[1], second)
    for given, stage in zip(seen, stages, strict=True):
        torch.testing.assert_close(stage, another(given))


def test_hooks_are_gone_after_an_error_as_well(images: Tensor):
    teacher = Teacher(describe_teacher(NAMES[0]))

    def fail(stage: Tensor) -> Tensor:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        teacher(images, [fail])
    assert hooks(teacher) == 0


def test_another_thread_sees_its_own_features(images: Tensor):
    """While one thread is in the middle of adapting, another looks at the same image through the same teacher."""
    torch.manual_seed(0)
    teacher = Teacher(describe_teacher(NAMES[0]))
    inside, go_on = threading.Event(), threading.Event()
    found: list[Tensor] = []

    def slowly(stage: Tensor) -> Tensor:
        inside.set()
        assert go_on.wait(60)
        return another(stage)

    def adapt() -> None:
        with torch.no_grad():
            found.extend(teacher(images, [slowly]))

    with torch.no_grad():
        plain, expected = teacher(images), teacher(images, [another])
        thread = threading.Thread(target=adapt)
        thread.start()
        assert inside.wait(60)
        meanwhile = teacher(images)
        meanwhile_adapted = teacher(images, [another])
        go_on.set()
        thread.join()
    for stages, wanted in ((meanwhile, plain), (meanwhile_adapted, expected), (found, expected)):
        for stage, want in zip(stages, wanted, strict=True):
            assert torch.equal(stage, want)


def test_a_stage_that_no_module_returns_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch):
    class Loose(torch.nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [images * 2]

    monkeypatch.setattr(module, "_build_pyramid", lambda name: Loose())
    with pytest.raises(UsageError, match="the stages of backbone loose cannot be adapted") as raised:
        stage_modules("loose")
    assert "--correction image" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_finding_the_stages_draws_no_random_numbers():
    state = torch.get_rng_state()
    stage_modules.cache_clear()
    assert stage_modules("resnet18.tv_in1k") == ("layer1", "layer2", "layer3")
    assert torch.equal(torch.get_rng_state(), state)

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shiftproof.benchmark.plan import BenchmarkRequest, plan
from shiftproof.benchmark.recipes import RECIPES
from shiftproof.benchmark.runs import FILE
from shiftproof.data.generate import generate
from shiftproof.errors import DataError, UsageError
from shiftproof.methods import method_class
from shiftproof.training import TrainConfig


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(("screw", "wood")):
        generate("mvtec", tmp_path / "data" / name, np.random.default_rng(number))
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def planned(root, out, **request):
    return plan([root], out, BenchmarkRequest(**request))


def test_every_method_on_every_category_with_every_seed(root, out):
    found = planned(root, out, methods=("rd", "gnl"), seeds=(3, 1))
    places = [(run.category, run.seed, run.method) for run in found.runs]
    assert len(set(places)) == len(places) == 8
    assert places[:3] == [("screw", 3, "rd"), ("screw", 3, "gnl"), ("screw", 1, "rd")]
    assert len({run.folder for run in found.runs}) == len({run.model for run in found.runs}) == 8
    assert not out.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": "64"},
        {"steps": 5},
        {"epochs": 5},
        {"settings": {"batch_size": 2}},
        {"settings": {"distillation": "position"}},
        {"backbone": "resnet18.tv_in1k"},
        {"protocol": "oracle"},
        {"layout": "mvtec"},
        {"recipe": "adshift-iccv2023"},
        {"seeds": (1,)},
    ],
)
def test_another_setting_is_another_cell_and_another_model(root, out, change):
    base = {"methods": ("gnl",), "categories": ("screw",)}
    (before,), (after,) = planned(root, out, **base).runs, planned(root, out, **{**base, **change}).runs
    assert before.folder != after.folder
    assert before.model != after.model


@pytest.mark.parametrize("change", [{"shifts": "clean,jpeg"}, {"without_correction": True}])
def test_other_conditions_are_another_cell_of_the_same_model(root, out, change):
    base = {"methods": ("gnl",), "categories": ("screw",)}
    (before,), (after,) = planned(root, out, **base).runs, planned(root, out, **{**base, **change}).runs
    assert before.folder != after.folder
    assert before.model == after.model


def test_the_same_data_elsewhere_is_the_same_cell_and_changed_data_another(root, out, tmp_path):
    before = planned(root, out, methods=("rd",)).runs
    shutil.move(root, tmp_path / "moved")
    assert [run.folder for run in planned(tmp_path / "moved", out, methods=("rd",)).runs] == [c.folder for c in before]
    (tmp_path / "moved" / "screw" / "train" / "good" / "000.png").unlink()
    after = planned(tmp_path / "moved", out, methods=("rd",)).runs
    assert [new.folder == old.folder for new, old in zip(after, before, strict=True)] == [False, True]


def test_settings_go_to_the_methods_that_have_them(root, out):
    names = ("rd", "rdpp", "rdpp:ssot_points=8,ssot=reference")
    found = planned(root, out, methods=names, categories=("screw",), settings={"ssot": "off", "batch_size": 2})
    by_name = {run.method: run.settings for run in found.runs}
    assert "ssot" not in by_name["rd"]["options"]
    assert by_name["rdpp"]["options"]["ssot"] == "off"
    own = by_name[names[2]]["options"]
    assert (own["ssot"], own["ssot_points"]) == ("reference", 8)  # a method's own come last
    assert all(settings["schedule"]["batch_size"] == 2 for settings in by_name.values())


def test_textures_concern_only_who_makes_anomalies_of_them(root, out, tmp_path):
    generate("folder", tmp_path / "dtd", np.random.default_rng(0))
    names = ("rd", "gnl", "gnl:segmentation=false")
    with_them = planned(root, out, methods=names, categories=("screw",), textures=tmp_path / "dtd").runs
    without = planned(root, out, methods=names, categories=("screw",)).runs
    assert [a.model == b.model for a, b in zip(with_them, without, strict=True)] == [True, False, True]
    assert [run.textures is not None for run in with_them] == [False, True, False]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_what_there_is(root, out, name):
    recipe = RECIPES[name]
    TrainConfig(**recipe.schedule)
    for method in recipe.methods:
        fields = method_class(method).Config(**recipe.options).__dataclass_fields__
        assert recipe.options.keys() <= fields.keys()
    found = planned(root, out, recipe=name)
    assert found.methods == recipe.methods
    settings = found.runs[0].settings
    assert settings["backbone"] == "wide_resnet50_2.tv_in1k"
    assert settings["options"] == {**settings["options"], **recipe.options}
    assert settings["schedule"]["optimizer"] == "adam"
    assert found.differs == recipe.differs


def test_rdpp_trains_as_long_as_the_paper_says_for_each_category(root, out):
    runs = planned(root, out, recipe="rdpp-cvpr2023").runs
    assert {run.category: run.settings["schedule"]["epochs"] for run in runs} == {"screw": 280, "wood": 100}
    for shorter in ({"epochs": 2}, {"steps": 9}):
        found = planned(root, out, recipe="rdpp-cvpr2023", **shorter)
        for run in found.runs:
            schedule = run.settings["schedule"]
            assert (schedule["epochs"], schedule["steps"]) == (shorter.get("epochs"), shorter.get("steps", 1200))
        assert found.differs[0].startswith("set by hand: ")


def test_the_oracle_looks_twenty_times_unless_told_otherwise(root, out):
    def every(**request):
        return planned(root, out, protocol="oracle", methods=("rd",), **request).runs[0].settings["oracle_every"]

    assert (every(), every(epochs=45), every(oracle_every=7)) == (60, 3, 7)
    assert "oracle_every" not in planned(root, out).runs[0].settings


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"methods": ("rdp",)}, "unknown method 'rdp'; did you mean rdpp"),
        ({"methods": ("rd", "rd")}, "named twice"),
        ({"methods": ("rd:sssot=off",)}, "unknown option of rd 'sssot'"),
        ({"methods": ("rd:ssot",)}, "setting 'ssot' is not understood"),
        ({"categories": ("scrow",)}, "unknown category 'scrow'; did you mean screw"),
        ({"seeds": (0, 0)}, "each once"),
        ({"seeds": (-1,)}, "seed -1 is negative"),
        ({"shifts": "jpg"}, "unknown shift 'jpg'"),
        ({"protocol": "orakel"}, "unknown protocol"),
        ({"oracle_every": 2}, "--protocol oracle"),
        ({"recipe": "rdpp"}, "unknown recipe 'rdpp'; expected one of: adshift-iccv2023"),
        ({"settings": {"bath_size": 3}}, "did you mean batch_size"),
        ({"settings": {"batch_size": "many"}}, "setting batch_size=many is not understood: expected a whole number"),
        ({"settings": {"batch_size": True}}, "expected a whole number"),
        ({"settings": {"segmentation": 1}, "methods": ("gnl",)}, "expected true or false"),
        ({"settings": {"learning_rate": "high"}}, "expected a number"),
        ({"settings": {"seed": 3}}, "unknown setting 'seed'"),
        ({"steps": 3, "epochs": 3}, "epochs and steps"),
        ({"image_size": "big"}, "image size 'big'"),
        ({"weights": Path("nowhere.safetensors")}, "no weights file at nowhere.safetensors"),
    ],
)
def test_wrong_use(root, out, request_, message):
    with pytest.raises(UsageError, match=message):
        planned(root, out, **request_)


def test_nothing_recognised_and_names_that_clash(root, out, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no category found in it"):
        planned(tmp_path / "empty", out)
    shutil.copytree(root, tmp_path / "copy")
    with pytest.raises(DataError, match="both called screw"):
        plan([root, tmp_path / "copy"], out, BenchmarkRequest())


def test_what_a_category_lacks_is_noted(root, out):
    shutil.rmtree(root / "wood" / "ground_truth")
    for kind in ("scratch_head", "thread_top"):
        shutil.rmtree(root / "screw" / "test" / kind)
        shutil.rmtree(root / "screw" / "ground_truth" / kind)
    notes = planned(root, out).notes
    assert any(note.startswith("screw: no defective image to test on") for note in notes)
    assert "wood: no masks: pixel figures are null" in notes


def test_a_finished_cell_is_known_by_its_file_and_a_spoilt_one_refused(root, out):
    run = planned(root, out, methods=("rd",)).runs[0]
    assert run.result() is None
    run.finish({"rows": [1.5]})
    assert run.result()["rows"] == [1.5]
    path = run.folder / FILE
    text = json.loads(path.read_text())
    text["settings"]["schedule"]["batch_size"] += 1
    path.write_text(json.dumps(text))
    with pytest.raises(DataError, match=r"holds results of other settings \(schedule\)"):
        run.result()
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match="is damaged"):
        run.result()


def test_a_lock_is_had_once_and_let_go(root, out):
    run = planned(root, out, methods=("gnl",)).runs[0]
    other = replace(run, settings={**run.settings, "conditions": ["jpeg-3"]})  # another run of the same model
    with run.lock(wait=False) as mine, other.lock(wait=False) as theirs:
        assert (mine, theirs) == (True, False)
    with other.lock(wait=False) as theirs:
        assert theirs

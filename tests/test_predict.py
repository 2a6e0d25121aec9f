from __future__ import annotations

import importlib
import os

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from shiftproof.data import read_image
from shiftproof.loading import load

from .parts import read_csv, read_json, save, scratched, texture
from .test_evaluate import assert_self_contained

prediction = importlib.import_module("shiftproof.pipelines.predict")  # the package gives the function that name
COLUMNS = ["path", "status", "score", "p_value", "verdict", "threshold", "latency_ms", "error"]


@pytest.fixture(scope="module")
def predicted(model, product, tmp_path_factory):
    """What predict says of the test images, for tests that only read it."""
    from shiftproof.cli import run

    out = tmp_path_factory.mktemp("prediction")
    assert run(["predict", str(model), str(product / "test"), "--out", str(out)]) == 0
    return out


def test_the_table_has_a_row_for_every_image(predicted, model, product):
    rows = read_csv(predicted / "predictions.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == [str(path) for path in sorted((product / "test").rglob("*.png"))]
    threshold = read_json(model / "model.json")["calibration"]["threshold"]
    for row in rows:
        assert row["status"] == "ok"
        assert float(row["threshold"]) == threshold
        assert row["verdict"] == ("defective" if float(row["score"]) > threshold else "good")
        assert 0 < float(row["p_value"]) <= 1
        assert float(row["latency_ms"]) > 0
        assert row["error"] == ""
    assert {row["verdict"] for row in rows if "scratch" in row["path"]} == {"defective"}


def test_every_image_has_its_heatmap_and_its_mask(predicted, product):
    verdicts = {row["path"]: row["verdict"] for row in read_csv(predicted / "predictions.csv")}
    for folder in ("heatmaps", "masks"):
        names = sorted(path.relative_to(predicted / folder).as_posix() for path in (predicted / folder).rglob("*.png"))
        assert names == sorted(
            f"{path.relative_to(product / 'test')}.png" for path in (product / "test").rglob("*.png")
        )
    for path, verdict in verdicts.items():
        name = f"{os.path.relpath(path, product / 'test')}.png"
        mask = np.asarray(Image.open(predicted / "masks" / name))
        assert mask.dtype == np.uint8
        assert mask.shape == (64, 64)
        assert set(np.unique(mask)) <= {0, 255}
        assert mask.any() == (verdict == "defective")
        heat = np.asarray(Image.open(predicted / "heatmaps" / name))
        assert heat.shape == (64, 64, 3)
        assert not np.array_equal(heat, read_image(path))


def test_the_report_is_one_file(predicted):
    text = assert_self_contained(predicted / "report.html")
    assert text.count("data:image/") >= 7
    assert sorted(path.name for path in predicted.iterdir()) == [
        *("heatmaps", "masks", "predictions.csv", "regions.csv", "report.html")
    ]


def test_evaluate_and_predict_give_the_same_scores(shiftproof, predicted, model, product, tmp_path):
    assert shiftproof("evaluate", model, product, "--out", tmp_path).code == 0
    evaluated = {row["path"]: float(row["score"]) for row in read_csv(tmp_path / "scores.csv")}
    for row in read_csv(predicted / "predictions.csv"):
        assert float(row["score"]) == pytest.approx(evaluated[os.path.relpath(row["path"], product)], rel=1e-5)


def test_an_unreadable_image_is_a_row_and_the_rest_is_finished(shiftproof, model, tmp_path):
    for number in range(11):  # more than a batch
        save(tmp_path / "in" / f"{number}.png", texture(number))
    (tmp_path / "in" / "3.png").write_bytes(b"")
    (tmp_path / "in" / "9.png").write_bytes((tmp_path / "in" / "8.png").read_bytes()[:300])
    (tmp_path / "in" / "notes.txt").write_text("not looked at")
    said = shiftproof("predict", model, tmp_path / "in", tmp_path / "gone.png", "--out", tmp_path / "out")
    assert said.code == 3
    assert len(said.warnings) == 3
    rows = {os.path.basename(row["path"]): row for row in read_csv(tmp_path / "out" / "predictions.csv")}  # noqa: PTH119
    assert set(rows) == {*(f"{number}.png" for number in range(11)), "gone.png"}
    failed = {name for name, row in rows.items() if row["status"] == "error"}
    assert failed == {"3.png", "9.png", "gone.png"}
    for name in failed:
        assert rows[name]["error"]
        assert rows[name]["score"] == rows[name]["verdict"] == rows[name]["p_value"] == ""
    assert "is empty (0 bytes)" in rows["3.png"]["error"]
    assert "12 images: " in said.out
    assert "3 unreadable" in said.out
    assert len(list((tmp_path / "out" / "heatmaps").rglob("*.png"))) == 9
    assert "3.png" in assert_self_contained(tmp_path / "out" / "report.html")


def test_a_run_in_which_nothing_can_be_read_still_writes_its_table(shiftproof, model, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    said = shiftproof("predict", model, tmp_path / "text.png", "--out", tmp_path / "out")
    assert said.code == 3
    (row,) = read_csv(tmp_path / "out" / "predictions.csv")
    assert row["status"] == "error"
    assert "is not an image" in row["error"]
    assert_self_contained(tmp_path / "out" / "report.html")


def test_gray_16_bit_and_transparent_images_score_as_their_8_bit_colours(shiftproof, model, tmp_path):
    colour = texture(5)
    gray = colour[..., 0]
    alpha = np.full((64, 64, 1), 255, np.uint8)
    save(tmp_path / "in" / "rgb.png", colour)
    save(tmp_path / "in" / "rgba.png", np.concatenate([colour, alpha], axis=2))
    save(tmp_path / "in" / "gray.png", gray)
    save(tmp_path / "in" / "gray_rgb.png", np.repeat(gray[..., None], 3, axis=2))
    save(tmp_path / "in" / "gray16.png", gray.astype(np.uint16) * 257)
    save(tmp_path / "in" / "gray.tif", gray)
    assert shiftproof("predict", model, tmp_path / "in", "--out", tmp_path / "out").code == 0
    scores = {os.path.basename(r["path"]): float(r["score"]) for r in read_csv(tmp_path / "out" / "predictions.csv")}  # noqa: PTH119
    assert scores["rgba.png"] == pytest.approx(scores["rgb.png"], rel=1e-5)
    for name in ("gray.png", "gray16.png", "gray.tif"):
        assert scores[name] == pytest.approx(scores["gray_rgb.png"], rel=1e-5)
    assert scores["gray.png"] != pytest.approx(scores["rgb.png"], rel=1e-5)
    assert {path.name for path in (tmp_path / "out" / "heatmaps").iterdir()} >= {"gray.png.png", "gray.tif.png"}


def test_maps_come_in_the_size_of_their_image(shiftproof, model, tmp_path):
    image, _ = scratched(7, side=160)
    save(tmp_path / "in" / "wide.png", image[:50])
    save(tmp_path / "in" / "small.png", texture(1)[:20, :30])
    assert shiftproof("predict", model, tmp_path / "in", "--out", tmp_path / "out").code == 0
    for name, size in (("wide", (160, 50)), ("small", (30, 20))):
        for folder in ("heatmaps", "masks"):
            assert Image.open(tmp_path / "out" / folder / f"{name}.png.png").size == size


def test_files_of_one_name_in_several_folders_do_not_meet(shiftproof, model, tmp_path, monkeypatch):
    for number, folder in enumerate(("a", "b", "c/d")):
        save(tmp_path / folder / "x.png", texture(number))
    monkeypatch.chdir(tmp_path)
    said = shiftproof("predict", model, "a", "a/x.png", "a/../b/x.png", tmp_path / "c", "--out", "out")
    assert said.code == 0
    assert [row["path"] for row in read_csv(tmp_path / "out" / "predictions.csv")] == [
        "a/x.png",
        "a/../b/x.png",
        str(tmp_path / "c/d/x.png"),
    ]
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    names = ("a/x.png.png", "b/x.png.png", "c/d/x.png.png")
    assert written == sorted(f"{folder}/{name}" for folder in ("heatmaps", "masks") for name in names)


def test_no_output_leaves_its_folder(shiftproof, model, tmp_path, monkeypatch):
    for folder in ("a", "b"):
        save(tmp_path / folder / "x.png", texture(0))
    monkeypatch.chdir(tmp_path)
    assert shiftproof("predict", model, "a", "a/../b/x.png", "--out", "out").code == 0
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert written == ["heatmaps/a/x.png.png", "heatmaps/b/x.png.png", "masks/a/x.png.png", "masks/b/x.png.png"]


def test_a_file_name_that_is_no_unicode_is_no_obstacle(shiftproof, model, tmp_path):
    name = os.fsdecode(b"part \xff,1.png")
    save(tmp_path / "in" / "plain.png", texture(0)).rename(tmp_path / "in" / name)
    save(tmp_path / "in" / "<b>&.png", texture(1))
    (tmp_path / "in" / os.fsdecode(b"\xfe.png")).write_bytes(b"")
    said = shiftproof("predict", model, tmp_path / "in", "--out", tmp_path / "out")
    assert said.code == 3
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    assert sorted(row["status"] for row in rows) == ["error", "ok", "ok"]
    assert len(list((tmp_path / "out" / "heatmaps").iterdir())) == 2
    assert "<b>&" not in assert_self_contained(tmp_path / "out" / "report.html")


def test_its_own_pictures_are_never_inspected(shiftproof, model, tmp_path):
    for number in range(2):
        save(tmp_path / f"{number}.png", texture(number))
    (tmp_path / "linked").symlink_to(tmp_path / "heatmaps")
    for _ in range(2):
        assert shiftproof("predict", model, tmp_path, "--out", tmp_path).code == 0
        assert [row["path"] for row in read_csv(tmp_path / "predictions.csv")] == [
            str(tmp_path / f"{number}.png") for number in range(2)
        ]
    said = shiftproof("predict", model, tmp_path / "heatmaps", "--out", tmp_path)
    assert said.code == 2
    assert f"all 2 images are heatmaps and masks of {tmp_path}" in said.error


def test_images_may_be_named_by_a_parquet_list(shiftproof, model, tmp_path):
    for name in ("b", "a"):
        save(tmp_path / "in" / f"{name}.png", texture(1))
    rows = ["in/b.png", "in/gone.png", str(tmp_path / "in" / "a.png"), "in/b.png"]
    pyarrow.parquet.write_table(pyarrow.table({"path": rows}), tmp_path / "list.parquet")
    said = shiftproof("predict", model, tmp_path / "list.parquet", "--out", tmp_path / "out")
    assert said.code == 3
    found = [(os.path.basename(row["path"]), row["status"]) for row in read_csv(tmp_path / "out" / "predictions.csv")]  # noqa: PTH119
    assert found == [("b.png", "ok"), ("gone.png", "error"), ("a.png", "ok")]


def test_rows_are_in_the_table_as_they_come_and_no_old_report_beside_them(model, tmp_path):
    for number in range(10):
        save(tmp_path / "in" / f"{number}.png", texture(number))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("old")

    def killed(done, total):
        assert len(read_csv(tmp_path / "out" / "predictions.csv")) == done
        assert not (tmp_path / "out" / "report.html").exists()
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prediction.predict(load(model), [tmp_path / "in"], tmp_path / "out", on_progress=killed)
    assert len(read_csv(tmp_path / "out" / "predictions.csv")) == 9


def test_a_long_name_takes_neither_verdict_nor_pictures(shiftproof, model, tmp_path):
    long = [f"{'x' * 250}{end}.png" for end in ("a"[:1], "")]
    for name in ("a.png", *long, "z.png"):
        save(tmp_path / "in" / name, texture(1))
    said = shiftproof("predict", model, tmp_path / "in", "--out", tmp_path / "out")
    assert said.code == 0
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    assert [row["status"] for row in rows] == ["ok"] * 4
    for folder in ("heatmaps", "masks"):
        assert len(list((tmp_path / "out" / folder).iterdir())) == 4


def test_a_picture_that_fails_takes_no_verdict(shiftproof, model, tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, texture(1))
    (tmp_path / "out" / "heatmaps" / "a.png.png").mkdir(parents=True)  # something is in the way
    said = shiftproof("predict", model, tmp_path / "in", "--out", tmp_path / "out")
    assert said.code == 3
    assert [row["status"] for row in read_csv(tmp_path / "out" / "predictions.csv")] == ["ok", "ok"]
    assert any("a.png.png" in line for line in said.warnings)


def test_pictures_may_be_left_out(shiftproof, model, tmp_path):
    save(tmp_path / "in" / "a.png", texture(1))
    assert shiftproof("predict", model, tmp_path / "in", "--out", tmp_path / "out", "--no-heatmaps").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions.csv",
        "regions.csv",
        "report.html",
    ]


def test_regions_are_a_table_of_their_own(predicted):
    verdicts = {row["path"]: row for row in read_csv(predicted / "predictions.csv")}
    regions = read_csv(predicted / "regions.csv")
    defective = {path for path, row in verdicts.items() if row["verdict"] == "defective"}
    assert {row["path"] for row in regions} == defective
    for path in defective:
        mine = [row for row in regions if row["path"] == path]
        peaks = [float(row["peak"]) for row in mine]
        assert peaks == sorted(peaks, reverse=True)
        assert all(peak > float(verdicts[path]["threshold"]) for peak in peaks)
        for row in mine:
            x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= int(row["peak_x"]) < x + width <= 64 and 0 <= y <= int(row["peak_y"]) < y + height <= 64
            assert 1 <= int(row["area"]) <= width * height


@pytest.mark.parametrize(
    ("image", "note"),
    [
        (texture(1)[:32], "64x32"),
        (np.full((64, 64, 3), 120, np.uint8), "one colour"),
        ((texture(1)[..., 0].astype(np.uint16) * 16), "16 bits"),
    ],
)
def test_an_image_of_another_kind_is_told(shiftproof, model, tmp_path, image, note):
    save(tmp_path / "in" / "odd.png", image)
    save(tmp_path / "in" / "usual.png", texture(2))
    said = shiftproof("predict", model, tmp_path / "in", "--out", tmp_path / "out")
    assert said.code == 0
    (line,) = said.warnings
    assert (note in line and "odd.png" in line and line.startswith("warning: 1 image ")) or "1 image" in line


def test_large_images_are_held_in_smaller_batches(model, tmp_path, monkeypatch):
    from shiftproof import detector as detectors

    batched = detectors.batched

    for number in range(6):
        save(tmp_path / f"{number}.png", texture(number, side=200))
    sizes = []
    loaded = load(model)
    compute = loaded.backend.maps_and_scores
    monkeypatch.setattr(loaded, "maps_and_scores", lambda pixels: sizes.append(len(pixels)) or compute(pixels))
    paths = sorted(tmp_path.glob("*.png"))
    assert len(list(loaded.predict(paths))) == 6
    monkeypatch.setattr(
        detectors, "batched", lambda items, size, weight=None: batched(items, size, weight, 2 * 120_000)
    )
    sizes.clear()
    assert len(list(loaded.predict(paths))) == 6
    assert sizes == [2, 2, 2]


def test_the_report_holds_few_rows_and_small_pictures(model, tmp_path, monkeypatch):
    for number in range(5):
        save(tmp_path / "in" / f"{number}.png", texture(number, side=500))
    for name, most in (("MOST_ROWS", 3), ("MOST_PICTURES", 2), ("MOST_FAILURES", 1)):
        monkeypatch.setattr(prediction, name, most)
    for name in ("bad", "worse"):
        (tmp_path / "in" / f"{name}.png").write_bytes(b"")
    shown = []
    monkeypatch.setattr(prediction, "write_prediction_report", lambda path, report: shown.append(report))
    found = prediction.predict(load(model), [tmp_path / "in"], tmp_path / "out")
    (report,) = shown
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    scores = sorted((float(row["score"]) for row in rows if row["score"]), reverse=True)
    assert sorted(report.scores, reverse=True) == scores
    assert [float(row["score"]) for row in report.rows] == scores[:3]
    assert [picture.score for picture in report.pictures] == scores[:2]
    assert {picture.image.shape for picture in report.pictures} == {(420, 420, 3)}
    assert {picture.overlay.shape for picture in report.pictures} == {(420, 420, 3)}
    assert (len(report.failures), report.failed, len(found.failures), found.images) == (1, 2, 2, 7)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((), "no image given: name files or folders"),
        (("nowhere",), "nowhere: no such file or folder"),
        (("empty",), "no images found; looked for"),
    ],
)
def test_nothing_to_look_at_is_refused(shiftproof, model, tmp_path, monkeypatch, images, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    said = shiftproof("predict", model, *images, "--out", "out")
    assert said.code == 2
    assert message in said.error
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_ends_in_a_line(shiftproof, model, product, tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = shiftproof("predict", model, product / "test", "--out", tmp_path / "file")
    assert said.code == 2
    assert "cannot be written" in said.error
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_disk_that_is_full_ends_in_a_line_and_keeps_the_rows_before(shiftproof, model, product, tmp_path, small_disk):
    small_disk(1000)  # less than a heatmap
    said = shiftproof("predict", model, product / "test", "--out", tmp_path / "out")
    assert said.code == 2
    assert "cannot be written" in said.error
    assert "File too large" in said.error
    assert (tmp_path / "out" / "predictions.csv").exists()
    assert list((tmp_path / "out" / "heatmaps").rglob("*.png")) == []


def test_a_threshold_of_a_run_moves_the_verdicts_and_nothing_else(model, product, shiftproof, tmp_path):
    def rows(*options: object) -> list[dict[str, str]]:
        assert shiftproof("predict", model, product / "test", "--out", tmp_path / "out", *options).code == 0
        return read_csv(tmp_path / "out" / "predictions.csv")

    usual, low, high = rows(), rows("--threshold", -1), rows("--threshold", 1e6)
    for key in ("path", "score", "p_value"):
        assert [row[key] for row in usual] == [row[key] for row in low] == [row[key] for row in high]
    assert {(row["verdict"], row["threshold"]) for row in low} == {("defective", "-1.0")}
    assert {(row["verdict"], row["threshold"]) for row in high} == {("good", "1000000.0")}
    for options in (
        ("--threshold", "nan"),
        ("--threshold", 1, "--threshold-mode", "conditional"),
        ("--threshold", "x"),
    ):
        assert shiftproof("predict", model, product / "test", "--out", tmp_path / "none", *options).code == 2
    assert not (tmp_path / "none").exists()

"""The addresses of a station on both databases: what is answered, and that it is remembered."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from shiftproof.service.conftest import BAD, CALIBRATION, GOOD, png

INSPECT = "/v1/models/part/inspect"


def files(*contents, field="files"):
    return [(field, (f"{number}.png", content, "image/png")) for number, content in enumerate(contents)]


def inspect(client, *contents, **options):
    answer = client.post(INSPECT, files=files(*contents), **options)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_an_answer_says_what_and_where_and_is_in_the_history(client):
    good, bad = inspect(client, png(GOOD), png(BAD), params={"station": "line 2"})
    assert (good["verdict"], bad["verdict"]) == ("good", "defective")
    assert good["regions"] == []
    (region,) = bad["regions"]
    box = region["box"]
    assert (box["x"], box["y"]) == pytest.approx((24, 8), abs=3)
    assert (box["width"], box["height"]) == pytest.approx((12, 8), abs=4)
    assert region["peak"]["value"] == bad["score"]
    assert bad["threshold"] == CALIBRATION.threshold
    assert bad["p_value"] == CALIBRATION.p_value(bad["score"])
    assert (bad["file"], bad["station"], bad["width"], bad["height"]) == ("1.png", "line 2", 60, 40)
    page = client.get("/v1/inspections").json()
    assert page == {"items": [bad, good], "next": None}
    one = client.get(bad["links"]["self"]).json()
    assert one == {**bad, "reviews": [], "image_kept": True}


def test_raw_bytes_are_an_image_too(client):
    answer = client.post(INSPECT, content=png(BAD), headers={"Content-Type": "image/png"})
    assert answer.json()["results"][0]["verdict"] == "defective"
    assert answer.json()["results"][0]["file"] is None


def test_unreadable_files_are_entries_among_others_and_a_status_alone(client):
    torn, text = png(GOOD)[:200], b"GIF89a no"
    one, two, three = inspect(client, torn, png(GOOD), text)
    assert (one["status"], three["status"]) == (422, 415)
    assert "damaged or truncated" in one["error"]
    assert two["verdict"] == "good"
    assert len(client.get("/v1/inspections").json()["items"]) == 1
    assert client.post(INSPECT, files=files(torn)).status_code == 422
    alone = client.post(INSPECT, files=files(text))
    assert (alone.status_code, alone.json()) == (415, {"error": three["error"].replace("2.png", "0.png")})


def test_pictures_come_back(client):
    sent = png(BAD)
    (inspection,) = inspect(client, sent, params={"heatmap": True})
    image = client.get(inspection["links"]["image"])
    assert (image.content, image.headers["content-type"]) == (sent, "image/png")
    assert image.headers["content-security-policy"] == "default-src 'none'; sandbox"
    drawn = client.get(inspection["links"]["heatmap"]).content
    assert base64.b64decode(inspection["heatmap"]) == drawn
    heat = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"), int)
    original = np.asarray(Image.open(io.BytesIO(sent)), int)
    assert heat.shape == original.shape == (40, 60, 3)
    difference = abs(heat - original).sum(axis=2)
    assert difference[9:15, 26:34].min() > difference[25:, :20].max()  # the heat lies where the defect is
    small = client.get(inspection["links"]["heatmap"], params={"longest": 30}).content
    assert Image.open(io.BytesIO(small)).size == (30, 20)
    small = client.get(inspection["links"]["image"], params={"longest": 30}).content
    assert Image.open(io.BytesIO(small)).size == (30, 20)


def test_the_history_is_filtered_and_paged(client):
    for number in range(5):
        inspect(client, png(BAD if number % 2 else GOOD, seed=number), params={"station": f"line {number % 2}"})
    first = client.get("/v1/inspections", params={"limit": 2}).json()
    second = client.get("/v1/inspections", params={"limit": 2, "before": first["next"]}).json()
    third = client.get("/v1/inspections", params={"limit": 2, "before": second["next"]}).json()
    ids = [one["id"] for page in (first, second, third) for one in page["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 5
    assert third["next"] is None

    def found(**wanted):
        return {one["id"] for one in client.get("/v1/inspections", params=wanted).json()["items"]}

    time = client.get(f"/v1/inspections/{ids[2]}").json()["time"]
    assert found(since=time) == set(ids[:3])
    assert found(until=time) == set(ids[3:])
    assert found(verdict="defective") == found(station="line 1") == {ids[1], ids[3]}
    assert found(model="other") == set()
    assert found(after=ids[1]) == {ids[0]}
    client.post(f"/v1/inspections/{ids[4]}/review", json={"verdict": "defective"})
    assert found(reviewed=True) == found(review="defective") == {ids[4]}
    assert found(reviewed=False) == set(ids[:4])


def test_the_latest_review_holds_and_earlier_ones_stay(client):
    (inspection,) = inspect(client, png(BAD))
    address = inspection["links"]["self"]
    for verdict, note in (("defective", None), ("good", "dust")):
        said = client.post(f"{address}/review", json={"verdict": verdict, "operator": "Ida", "note": note}).json()
        assert said["inspection"]["review"] == verdict
    one = client.get(address).json()
    assert one["review"] == "good"
    assert [(said["truth"], said["operator"], said["note"]) for said in one["reviews"]] == [
        ("defective", "Ida", None),
        ("good", "Ida", "dust"),
    ]
    assert client.post("/v1/inspections/999/review", json={"verdict": "good"}).status_code == 404
    assert client.post(f"{address}/review", json={"verdict": "fine"}).status_code == 422


def test_rates_are_shares_of_reviewed_parts(client):
    inspections = inspect(client, *(png(BAD if number < 3 else GOOD, seed=number) for number in range(10)))
    truths = {0: "defective", 1: "defective", 2: "good", 3: "good", 4: "good", 5: "good", 6: "defective"}
    for number, truth in truths.items():
        client.post(f"{inspections[number]['links']['self']}/review", json={"verdict": truth})
    rates = client.get("/v1/models/part/rates").json()
    assert (rates["false_alarms"]["count"], rates["false_alarms"]["of"]) == (1, 4)
    assert (rates["missed_defects"]["count"], rates["missed_defects"]["of"]) == (1, 3)
    assert rates["false_alarms"]["low"] < 0.25 < rates["false_alarms"]["high"]
    assert (rates["reviewed"]["good"]["count"], rates["reviewed"]["good"]["of"]) == (4, 7)
    assert rates["remark"] == ""
    assert client.get("/v1/models/part/rates", params={"since": "2100-01-01"}).json()["false_alarms"]["of"] == 0


def test_rates_say_when_reviews_are_lopsided(client):
    inspections = inspect(client, *(png(BAD if number < 20 else GOOD, seed=number) for number in range(60)))
    for one in inspections[:20]:
        client.post(f"{one['links']['self']}/review", json={"verdict": "defective"})
    remark = client.get("/v1/models/part/rates").json()["remark"]
    assert remark.startswith("20 of 20 defective verdicts were reviewed, and 0 of 40 good ones")


def test_a_repeated_request_gets_the_same_answer(client):
    key = {"Idempotency-Key": "shift-7/1"}
    first = inspect(client, png(GOOD), png(BAD), headers=key)
    again = inspect(client, png(GOOD), png(BAD), headers=key)
    assert again == first
    assert len(client.get("/v1/inspections").json()["items"]) == 2
    more = inspect(client, png(GOOD), png(BAD), png(GOOD, seed=3), headers=key)  # as after half of it was committed
    assert more[:2] == first
    assert more[2]["id"] > first[1]["id"]
    other = client.post(INSPECT, files=files(png(GOOD, seed=5)), headers=key)
    assert (other.status_code, "was used for another image" in other.json()["error"]) == (422, True)
    assert client.post(INSPECT, files=files(png(GOOD)), headers=key).status_code == 422  # fewer files than before
    assert len(client.get("/v1/inspections").json()["items"]) == 3  # what is refused is not half done


def test_the_same_image_twice_is_two_inspections_and_one_file(client, bench):
    one, two = inspect(client, png(GOOD), png(GOOD))
    assert one["id"] != two["id"]
    assert one["image_sha256"] == two["image_sha256"]
    stored = [path for path in (bench.settings.data / "files").rglob("*") if path.is_file()]
    assert len(stored) == 2  # the image and its map


def test_recalibration_needs_enough_good_images_and_keeps_the_former_threshold(client):
    inspections = inspect(client, *(png(GOOD + number, seed=number) for number in range(60)))
    for one in inspections[:58]:
        client.post(f"{one['links']['self']}/review", json={"verdict": "good"})
    refused = client.post("/v1/models/part/recalibrate")
    assert refused.status_code == 409
    assert refused.json()["error"].startswith("58 images of part that are kept were reviewed as good; 59 certify 5 %")
    client.post(f"{inspections[58]['links']['self']}/review", json={"verdict": "good"})
    client.post(f"{inspections[59]['links']['self']}/review", json={"verdict": "defective"})
    done = client.post("/v1/models/part/recalibrate", json={}).json()
    scores = sorted(one["score"] for one in inspections[:59])
    assert done["calibration"]["threshold"] == pytest.approx(scores[-1])
    assert done["calibration"]["bound"] < 0.05
    assert done["former"]["threshold"] == CALIBRATION.threshold
    (now,) = inspect(client, png(BAD))
    assert (now["threshold"], now["calibration"]) == (done["calibration"]["threshold"], done["calibration"]["id"])
    listed = client.get("/v1/models/part").json()["calibrations"]
    assert [one["source"] for one in listed] == ["training", "reviews"]
    back = client.post("/v1/models/part/recalibrate", json={"calibration": listed[0]["id"]}).json()
    assert back["calibration"]["threshold"] == CALIBRATION.threshold
    assert inspect(client, png(BAD))[0]["threshold"] == CALIBRATION.threshold
    assert client.post("/v1/models/part/recalibrate", json={"calibration": 999}).status_code == 404


def test_recalibration_says_when_mostly_alarms_were_reviewed(client):
    inspections = inspect(client, *(png(BAD, seed=number) for number in range(60)))
    for one in inspections:
        client.post(f"{one['links']['self']}/review", json={"verdict": "good"})
    done = client.post("/v1/models/part/recalibrate").json()
    assert done["remark"].startswith("60 of the 60 images had been called defective")


def test_recalibration_over_reviewed_defects_has_to_be_accepted(client):
    good = inspect(
        client, *(png(GOOD + number, seed=number) for number in range(56)), *(png(BAD, seed=n) for n in range(4))
    )
    bad = inspect(client, *(png(BAD, seed=number) for number in range(10, 18)))
    for truth, inspections in (("good", good), ("defective", bad)):
        for one in inspections:
            client.post(f"{one['links']['self']}/review", json={"verdict": truth})
    former = client.get("/v1/models/part").json()["calibration"]["threshold"]
    refused = client.post("/v1/models/part/recalibrate")
    assert refused.status_code == 409
    missed = sum(one["score"] <= max(each["score"] for each in good) for one in bad)
    assert missed > 0 and f"{missed} of 8 reviewed defects would pass" in refused.json()["error"]
    assert client.get("/v1/models/part").json()["calibration"]["threshold"] == former
    assert client.get("/v1/models/part/rates").json()["missed_defects"]["count"] == 0
    done = client.post("/v1/models/part/recalibrate", json={"accept_missed_defects": True}).json()
    assert f"{missed} of 8 reviewed defects" in done["remark"]
    rates = client.get("/v1/models/part/rates").json()  # of the threshold in use, not of verdicts that were given
    assert (rates["missed_defects"]["count"], rates["missed_defects"]["of"]) == (missed, 8)
    assert rates["false_alarms"]["count"] == 0


def test_models_and_their_card(client):
    (brief,) = client.get("/v1/models").json()["models"]
    assert (brief["name"], brief["method"], brief["image_size"]) == ("part", "rd", {"height": 32, "width": 64})
    card = client.get("/v1/models/part").json()
    assert card["card"]["backbone"] == "toy"
    assert card["calibration"]["bound"] == CALIBRATION.bound
    missing = client.get("/v1/models/prat")
    assert (missing.status_code, missing.json()) == (404, {"error": "no model 'prat'; there are: part"})


def test_health_and_figures(client):
    inspect(client, png(BAD), png(GOOD)[:99])
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["problems"], list(ready["models"])) == ("ready", {}, ["part"])
    figures = client.get("/metrics").text
    assert 'shiftproof_inspections_total{model="part",verdict="defective"} 1.0' in figures
    assert 'shiftproof_unreadable_total{model="part"} 1.0' in figures
    assert 'shiftproof_seconds_count{model="part",stage="total"} 1.0' in figures
    assert 'shiftproof_waiting{model="part"} 0.0' in figures


def test_openapi_has_an_example_of_every_body(client):
    paths = client.get("/openapi.json").json()["paths"]
    inspect_ = paths["/v1/models/{name}/inspect"]["post"]
    assert inspect_["responses"]["200"]["content"]["application/json"]["example"]["results"]
    assert "multipart/form-data" in inspect_["requestBody"]["content"]
    assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere


def test_what_was_inspected_is_there_after_a_restart(bench, database):
    with bench.running(database=database) as client:
        (inspection,) = inspect(client, png(BAD))
        client.post(f"{inspection['links']['self']}/review", json={"verdict": "defective"})
    with bench.running(database=database) as client:
        assert client.get("/v1/inspections").json()["items"] == [{**inspection, "review": "defective"}]
        assert client.get(inspection["links"]["image"]).content == png(BAD)
        assert len(client.get("/v1/models/part").json()["calibrations"]) == 1

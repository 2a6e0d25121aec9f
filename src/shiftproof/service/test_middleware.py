"""Who is let in, from which page and under which name; what a hostile client can and cannot do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from shiftproof.errors import UsageError
from shiftproof.service.api.login import local_path
from shiftproof.service.api.middleware import COOKIE, SESSION_SECONDS, new_session, session
from shiftproof.service.conftest import png
from shiftproof.service.server import check_token, listen
from shiftproof.service.settings import Limits, Settings
from shiftproof.service.test_station import INSPECT, files, inspect

TOKEN = "a-secret-of-the-line"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def guarded(bench):
    with bench.running(token=TOKEN) as client:
        yield client


def test_without_the_token_nothing_is_told(guarded):
    for path in ("/v1/models", "/v1/inspections", "/v1/inspections/1/image", "/metrics", "/openapi.json", "/nowhere"):
        answer = guarded.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert guarded.get(path, headers=BEARER).status_code in (200, 404)
        for wrong in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"):
            headers = [(b"Authorization", wrong.encode("latin-1"))]
            assert guarded.get(path, headers=headers).status_code == 401
    assert guarded.post(INSPECT, files=files(png())).status_code == 401
    assert inspect(guarded, png(), headers=BEARER)
    assert guarded.get("/healthz").json() == {"status": "ok"}
    assert guarded.get("/readyz").json() == {"status": "ready"}  # and no word of the models
    assert "models" in guarded.get("/readyz", headers=BEARER).json()


def test_a_page_gets_a_session_for_the_token(guarded):
    page = guarded.get("/v1/models", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/v1/models")
    wrong = guarded.post("/login", data={"token": "wrong"}, follow_redirects=False)
    assert wrong.headers["location"] == "/login?wrong=1"
    assert COOKIE not in guarded.cookies
    right = guarded.post("/login", data={"token": TOKEN, "next": "/v1/models"}, follow_redirects=False)
    assert right.headers["location"] == "/v1/models"
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/v1/models").status_code == 200
    guarded.post("/logout", follow_redirects=False)
    assert guarded.get("/v1/models").status_code == 401


@pytest.mark.parametrize("path", ["//evil", "https://evil", "/\\evil", "/a\r\nSet-Cookie: b", "", "evil"])
def test_a_login_leads_to_this_station_alone(path):
    assert local_path(path) == "/"


def test_a_session_ends_and_cannot_be_made_up():
    def holds(value, now=0.0):
        return session(Headers({"cookie": f"{COOKIE}={value}"}), TOKEN, now)

    good = new_session(TOKEN, now=0.0)
    until, _, signature = good.partition(".")
    assert holds(good)
    assert not holds(good, now=SESSION_SECONDS + 1)
    assert not holds(f"{int(until) + 1}.{signature}")
    assert not holds(new_session("another-secret-here", now=0.0))
    for wrong in ("", ".", until, f"{until}.", "x.y", "9" * 400 + ".a", "²." + signature):
        assert not holds(wrong)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost:1"}, False),
    ],
)
def test_no_other_site_can_change_anything(bench, headers, allowed):
    with bench.running() as client:
        assert (client.post(INSPECT, files=files(png()), headers=headers).status_code == 200) is allowed
        assert (
            client.post("/v1/inspections/1/review", json={"verdict": "good"}, headers=headers).status_code == 403
        ) is (not allowed)


def test_on_loopback_other_names_are_refused(bench):
    with bench.running(public_hosts=("station.factory",), token=TOKEN) as client:
        for host, status in (
            ("localhost:8000", 200),
            ("127.0.0.1", 200),
            ("[::1]:8000", 200),
            ("Station.Factory", 200),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("", 403),
            ("[", 403),
        ):
            assert client.get("/healthz", headers={"Host": host}).status_code == status, host


def test_every_answer_has_the_strict_headers(guarded):
    for path in ("/healthz", "/v1/models", "/nowhere"):
        headers = guarded.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in guarded.get(path, headers={"Origin": "http://evil"}).headers


def test_a_token_is_needed_where_others_can_reach_it():
    told = Settings(models=(), data=None)
    check_token(told)
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 can be reached from other machines: give --token-file"):
        check_token(replace(told, host="0.0.0.0"))
    with pytest.raises(UsageError, match="--public-host makes the station known"):
        check_token(replace(told, public_hosts=("a",)))
    with pytest.raises(UsageError, match="the token has 5 characters; expected 16"):
        check_token(replace(told, token="short"))
    check_token(replace(told, host="0.0.0.0", token=TOKEN))


def test_an_address_that_cannot_be_listened_on_is_one_line():
    with listen("127.0.0.1", 0) as taken, pytest.raises(UsageError, match="choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
    for host, port in (("127.0.0.1", 70000), ("203.0.113.1", 0)):
        with pytest.raises(UsageError, match="cannot listen on"):
            listen(host, port)


SMALL = Limits(files=2, file_bytes=30_000, body_bytes=70_000, waiting_bytes=100_000, pixels=10_000)


def test_what_is_too_large_or_too_much_is_413(bench):
    with bench.running(limits=SMALL) as client:
        budget = client.app.state.station.budget
        for contents in ([b"x" * 30_001], [b"x" * 25_000] * 3, [b"x", b"y", b"z"]):
            assert client.post(INSPECT, files=files(*contents)).status_code == 413
            assert budget.left == SMALL.waiting_bytes
        assert client.post(INSPECT, content=b"x" * 30_001, headers={"Content-Type": "image/png"}).status_code == 413

        def without_end():
            for _ in range(100):
                yield b"x" * 1000

        answer = client.post(INSPECT, content=without_end(), headers={"Content-Type": "image/png"})
        assert answer.status_code == 413
        bomb = client.post(INSPECT, files=files(png(size=(101, 100))))
        assert (bomb.status_code, "claims 100x101 pixels" in bomb.json()["error"]) == (413, True)
        assert client.post("/v1/inspections/1/review", content=b"x" * 70_000).status_code == 413
        assert inspect(client, png())
        assert budget.left == SMALL.waiting_bytes


def test_more_uploads_than_fit_into_memory_are_429(bench):
    with bench.running(limits=SMALL) as client:
        budget = client.app.state.station.budget
        budget.left = 1000
        answer = client.post(INSPECT, files=files(png()))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert budget.left == 1000


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"x", 415),
        ("application/json", b"{}", 415),
        ("", b"x", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=", b"x", 400),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n", 400),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 400),
        ("multipart/form-data; boundary=b", b"garbage", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\n", 400),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n--b--\r\n',
            400,
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\n\r\n--b--\r\n',
            422,
        ),
        ("multipart/form-data; boundary=" + "b" * 5000, b"x", 400),
        ("image/png", b"", 422),
        ("image/svg+xml", b"<svg onload='x'/>", 415),
        ("application/octet-stream", b"\x89PNG\r\n\x1a\n", 422),
    ],
)
def test_malformed_bodies_are_refused(bench, kind, body, status):
    with bench.running() as client:
        answer = client.post(INSPECT, content=body, headers={"Content-Type": kind})
        assert answer.status_code == status, answer.text
        assert "\n" not in answer.json()["error"]
        assert client.app.state.station.budget.left == Limits().waiting_bytes


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "..\\..\\x", "a\x00b.png", "x" * 4000])
def test_no_name_of_a_client_is_a_path(bench, name):
    with bench.running() as client:
        before = sorted(bench.settings.data.parent.rglob("*"))
        (inspection,) = client.post(INSPECT, files=[("files", (name, png(), "image/png"))]).json()["results"]
        assert inspection["file"] is None or "/" not in inspection["file"]
        new = set(bench.settings.data.parent.rglob("*")) - set(before)
        assert all(len(path.name) == 64 for path in new if "files" in path.parts)
        for number in ("..%2f..%2fetc%2fpasswd", "1%00", "0", "-1", "99999999999999999999"):
            assert client.get(f"/v1/inspections/{number}/image").status_code in (404, 422)
        assert client.get("/v1/models/..%2f..%2f").status_code in (404, 422)
        with pytest.raises(ValueError, match="is no SHA-256"):
            client.app.state.station.files.remove("../../station.sqlite")


@pytest.fixture(scope="module")
def one_client(tmp_path_factory):
    from shiftproof.service.conftest import Bench, Brightness, make_model

    folder = tmp_path_factory.mktemp("fuzz")
    told = Settings(models=(make_model(folder / "part"),), data=folder / "data")
    with Bench(told, Brightness()).running() as client:
        yield client


@st.composite
def torn(draw):
    """A PNG with some bytes changed, cut or added."""
    data = bytearray(png())
    for _ in range(draw(st.integers(1, 5))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=20))


@given(content=st.one_of(st.binary(max_size=300), torn()), multipart=st.booleans())
def test_no_upload_is_a_fault_of_the_station(one_client, content, multipart):
    if multipart:
        answer = one_client.post(INSPECT, files=files(content))
    else:
        answer = one_client.post(INSPECT, content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code in (200, 413, 415, 422)


@given(head=st.binary(max_size=80), content=st.binary(max_size=200))
def test_no_multipart_body_is_a_fault_of_the_station(one_client, head, content):
    body = b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n--b--\r\n"
    answer = one_client.post(INSPECT, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert 200 <= answer.status_code < 500


@settings(max_examples=40)
@given(
    station=st.text(max_size=120), key=st.text(st.characters(codec="latin-1"), max_size=220), note=st.text(max_size=100)
)
def test_no_text_is_a_fault_of_the_station(one_client, station, key, note):
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    answer = one_client.post(INSPECT, files=files(png()), params={"station": station}, headers=headers)
    assert answer.status_code in (200, 400, 422)
    said = one_client.post("/v1/inspections/1/review", json={"verdict": "good", "note": note})
    assert said.status_code in (200, 404)

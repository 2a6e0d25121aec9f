"""Webhooks against a real HTTP server, MQTT against a small broker that speaks what version 3.1.1 asks of one."""

from __future__ import annotations

import builtins
import json
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from shiftproof.errors import BackendError, DataError, UsageError
from shiftproof.watch import DeliveryWorker, Journal, MqttTopic, Webhook


@contextmanager
def http_server(port=0, answers=()):
    """A server that notes (key, authorization, body); its answers are the given ones, then 204."""
    got, left = [], list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.headers["Idempotency-Key"], self.headers["Authorization"], body))
            self.send_response(left.pop(0) if left else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Broker:
    """Accepts MQTT clients one after the other; the first ``deaf`` messages are never confirmed."""

    def __init__(self, deaf=0):
        self.got, self.clients, self._deaf = [], [], deaf
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listening.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                while head := stream.read(1):
                    length, shift = 0, 0
                    while True:
                        digit = stream.read(1)[0]
                        length |= (digit & 127) << shift
                        shift += 7
                        if digit < 128:
                            break
                    body, kind = stream.read(length), head[0] >> 4
                    if kind == 1:  # CONNECT: protocol name, level, flags, keep-alive, then the client's name
                        self.clients.append(body[12 : 12 + struct.unpack(">H", body[10:12])[0]].decode())
                        connection.sendall(b"\x20\x02\x00\x00")
                    elif kind == 3:  # PUBLISH: topic, packet number, payload
                        end = 2 + struct.unpack(">H", body[:2])[0]
                        if self._deaf:
                            self._deaf -= 1
                            break
                        self.got.append((body[2:end].decode(), json.loads(body[end + 2 :])))
                        connection.sendall(b"\x40\x02" + body[end : end + 2])
                    elif kind == 12:
                        connection.sendall(b"\xd0\x00")
                    elif kind == 14:
                        break


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "out.csv.journal") as journal:
        yield journal


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_messages_arrive_in_order_with_their_keys_and_the_token(journal, monkeypatch):
    monkeypatch.setenv("SHIFTPROOF_WEBHOOK_TOKEN", "secret")
    with http_server() as (port, got):
        delivery_worker = DeliveryWorker(journal, Webhook(f"http://127.0.0.1:{port}/hook"), pytest.fail)
        for number in range(3):
            journal.queue_message([delivery_worker.name], f"key-{number}", json.dumps({"number": number}))
        delivery_worker.start()
        journal.queue_message([delivery_worker.name], "key-3", json.dumps({"number": 3}))
        delivery_worker.wake()
        delivery_worker.stop(20)
    assert got == [(f"key-{number}", "Bearer secret", {"number": number}) for number in range(4)]
    assert journal.undelivered() == 0


def test_a_webhook_that_is_down_gets_everything_once_it_is_up(journal):
    with http_server() as (port, _):
        pass  # now nobody listens there
    warned = []
    delivery_worker = DeliveryWorker(journal, Webhook(f"http://127.0.0.1:{port}/"), warned.append, first_pause=0.02)
    for number in range(3):
        journal.queue_message([delivery_worker.name], f"{number}", "{}")
    delivery_worker.start()
    wait_until(lambda: warned)
    assert "does not take messages" in warned[0] and "they wait in" in warned[0]
    assert journal.undelivered() == 3
    with http_server(port, answers=[500, 302, 204]) as (_, got):
        wait_until(lambda: journal.undelivered() == 0)
        delivery_worker.stop(20)
    assert [key for key, _, _ in got] == ["0", "0", "0", "1", "2"]
    assert len(warned) == 2 and "again" in warned[1]


def test_what_was_not_delivered_is_delivered_after_a_restart(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        delivery_worker = DeliveryWorker(journal, Webhook("http://127.0.0.1:9/"), lambda line: None)
        journal.queue_message([delivery_worker.name], "k", "{}")
        delivery_worker.start()
        delivery_worker.stop(20)
        assert journal.undelivered() == 1
    with http_server() as (port, got), Journal(tmp_path / "journal") as journal:
        assert journal.undelivered() == 1
        hook = Webhook(f"http://127.0.0.1:{port}/")
        hook.name = "webhook http://127.0.0.1:9/"
        delivery_worker = DeliveryWorker(journal, hook, pytest.fail)
        delivery_worker.start()
        delivery_worker.stop(20)
        assert journal.undelivered() == 0
    assert len(got) == 1


def test_mqtt_messages_are_confirmed_by_the_broker(journal):
    broker = Broker()
    delivery_worker = DeliveryWorker(
        journal, MqttTopic(f"127.0.0.1:{broker.port}/line3/inspections", journal.id), pytest.fail
    )
    for number in range(3):
        journal.queue_message([delivery_worker.name], f"{number}", json.dumps({"number": number}))
    delivery_worker.start()
    delivery_worker.stop(20)
    broker.close()
    assert broker.got == [("line3/inspections", {"number": number}) for number in range(3)]
    assert broker.clients == [f"shiftproof-{journal.id[:12]}"]
    assert journal.undelivered() == 0


def test_a_message_that_the_broker_does_not_confirm_is_sent_again(journal, monkeypatch):
    monkeypatch.setattr("shiftproof.watch.delivery.PATIENCE", 0.3)
    broker, warned = Broker(deaf=1), []
    topic = MqttTopic(f"127.0.0.1:{broker.port}/t", journal.id)
    delivery_worker = DeliveryWorker(journal, topic, warned.append, first_pause=0.05)
    journal.queue_message([delivery_worker.name], "0", "{}")
    delivery_worker.start()
    wait_until(lambda: journal.undelivered() == 0)
    delivery_worker.stop(20)
    broker.close()
    assert len(broker.got) >= 1 and "does not take messages" in warned[0]


@pytest.mark.parametrize("url", ["ftp://host/", "host/path", "http://", "file:///etc/passwd"])
def test_an_address_that_is_no_webhook_is_refused(url):
    with pytest.raises(UsageError, match="expected an address such as https"):
        Webhook(url)


@pytest.mark.parametrize("address", ["host", "/topic", "host:x/topic", "host/a/#"])
def test_an_address_that_is_no_topic_is_refused(address):
    with pytest.raises(UsageError, match=r"expected HOST\[:PORT\]/TOPIC"):
        MqttTopic(address, "id")


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("paho"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendError, match=r"pip install 'shiftproof\[mqtt\]'"):
        MqttTopic("host/topic", "id")


def test_a_journal_is_one_watchs_and_nothing_else(tmp_path, journal):
    with pytest.raises(UsageError, match="in use by another watch"):
        Journal(journal.path)
    (tmp_path / "other").write_text("this is no journal of a watch, it is a text " * 100)
    with pytest.raises(DataError, match="is no journal"):
        Journal(tmp_path / "other")
    with pytest.raises(DataError, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "journal")


def test_what_was_begun_together_is_there_whole_or_not_at_all(journal):
    with pytest.raises(ZeroDivisionError), journal.transaction():
        journal.add_line(1, "a\n")
        1 / 0  # noqa: B018
    assert journal.unconfirmed() == [] and journal.next_number == 1
    with journal.transaction():
        journal.add_line(1, "a\n")
    assert journal.unconfirmed() == ["a\n"] and journal.next_number == 2
    journal.confirm()
    assert journal.unconfirmed() == [] and journal.next_number == 2

"""Delivery of messages from the journal to a webhook or an MQTT topic: at least once each, in order, with patience."""

from __future__ import annotations

import http.client
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from shiftproof.errors import BackendError, UsageError
from shiftproof.watch.journal import Journal, Message

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between attempts; each pause is twice the one before
PATIENCE = 10.0  # seconds for one attempt
WEBHOOK_TOKEN = "SHIFTPROOF_WEBHOOK_TOKEN"  # noqa: S105 - the name of an environment variable
MQTT_USER, MQTT_PASSWORD = "SHIFTPROOF_MQTT_USER", "SHIFTPROOF_MQTT_PASSWORD"


class Receiver(Protocol):
    """Who takes messages."""

    name: str  # in the journal and in warnings

    def send(self, message: Message) -> None:
        """Deliver one; any exception means that it has to be tried again."""
        ...

    def close(self) -> None:
        """No more messages."""
        ...


class Webhook:
    """An address that takes JSON by POST; any answer of 200 to 299 means that it has it.

    The header ``Idempotency-Key`` is the same at every attempt. A token in the environment variable
    SHIFTPROOF_WEBHOOK_TOKEN is sent as ``Authorization: Bearer``.

    Args:
        url: http or https.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"webhook {url!r}; expected an address such as https://host/path")
        self.name = f"webhook {parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self._url = url
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, message: Message) -> None:
        """See :meth:`Receiver.send`."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.key, "User-Agent": "shiftproof"}
        if token := os.environ.get(WEBHOOK_TOKEN):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self._url, message.body.encode(), headers, method="POST")  # noqa: S310 - checked
        with self._opener.open(request, timeout=PATIENCE) as answer:
            answer.read(1)

    def close(self) -> None:
        """Nothing is held open."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, without its body."""

    def redirect_request(self, *_: Any) -> None:
        """None: an answer of 300 to 399 is an error."""


class MqttTopic:
    """A topic of an MQTT broker, quality of service 1: the broker confirms each message.

    User and password are read from SHIFTPROOF_MQTT_USER and SHIFTPROOF_MQTT_PASSWORD.

    Args:
        address: HOST[:PORT]/TOPIC; the port is 1883 by default.
        client: name to connect by; the same after a restart.
    """

    def __init__(self, address: str, client: str):
        host, _, self._topic = address.partition("/")
        self._host, _, port = host.partition(":")
        if not self._host or not self._topic or not (port or "1883").isdigit() or set("#+") & set(self._topic):
            raise UsageError(
                f"MQTT address {address!r}; expected HOST[:PORT]/TOPIC, such as broker:1883/line3/inspections"
            )
        try:
            from paho.mqtt import client as paho
        except ModuleNotFoundError as error:
            raise BackendError("--mqtt needs the package paho-mqtt: pip install 'shiftproof[mqtt]'") from error
        self.name = f"MQTT {address}"
        self._port = int(port or 1883)
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"shiftproof-{client[:12]}")
        if user := os.environ.get(MQTT_USER):
            self._client.username_pw_set(user, os.environ.get(MQTT_PASSWORD))
        self._client.connect_timeout = PATIENCE
        self._started = False

    def send(self, message: Message) -> None:
        """See :meth:`Receiver.send`."""
        if not self._started:
            self._client.connect(self._host, self._port)
            self._client.loop_start()
            self._started = True
        sent = self._client.publish(self._topic, message.body, qos=1)
        sent.wait_for_publish(PATIENCE)
        if not sent.is_published():
            self.close()
            raise ConnectionError("the broker did not confirm the message in time")

    def close(self) -> None:
        """Disconnect."""
        if self._started:
            self._client.disconnect()
            self._client.loop_stop()
            self._started = False


class DeliveryWorker:
    """A thread that takes one receiver's messages from the journal to it, the oldest first.

    A message that is refused is tried again, after 1, 2, 4, ... 60 seconds; those behind it wait, so that their order
    stays. It leaves the journal when it has arrived: killed in between, it is delivered again with the same key.

    Args:
        journal: with the messages.
        receiver: of them.
        warn: is told a line when deliveries begin to fail, and when they succeed again.
        first_pause: seconds after the first failure.
    """

    def __init__(
        self, journal: Journal, receiver: Receiver, warn: Callable[[str], None], first_pause: float = FIRST_PAUSE
    ):
        self._journal, self._receiver, self._warn, self._first_pause = journal, receiver, warn, first_pause
        self._new_message, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=receiver.name, daemon=True)

    @property
    def name(self) -> str:
        """Of the receiver, as in the journal."""
        return self._receiver.name

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self) -> None:
        """There is a new message."""
        self._new_message.set()

    def stop(self, timeout: float) -> None:
        """Deliver what waits for so many seconds at most; the rest stays in the journal."""
        self._stopping.set()
        self._new_message.set()
        self._thread.join(timeout)
        self._receiver.close()

    def _run(self) -> None:
        pause = 0.0
        while True:
            self._new_message.clear()
            message = self._journal.oldest(self.name)
            if message is None:
                if self._stopping.is_set():
                    return
                self._new_message.wait()
                continue
            try:
                self._receiver.send(message)
            except (OSError, http.client.HTTPException, ValueError, RuntimeError) as error:
                if not pause:
                    self._warn(f"{self.name} does not take messages ({error}); they wait in {self._journal.path}")
                pause = min(2 * pause or self._first_pause, LONGEST_PAUSE)
                if self._stopping.wait(pause):
                    return
            else:
                if pause:
                    self._warn(f"{self.name} takes messages again")
                pause = 0.0
                self._journal.delivered(message)

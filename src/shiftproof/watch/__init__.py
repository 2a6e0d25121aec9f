"""Watching a folder: each image is inspected once as it arrives, and told of to a table, a webhook, an MQTT topic."""

from __future__ import annotations

from shiftproof.watch.delivery import DeliveryWorker, MqttTopic, Webhook
from shiftproof.watch.journal import Journal
from shiftproof.watch.run import Totals, Watch

__all__ = ["DeliveryWorker", "Journal", "MqttTopic", "Totals", "Watch", "Webhook"]

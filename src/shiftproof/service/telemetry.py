"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.2, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Telemetry:
    """The station's figures, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.inspections = Counter(
            "shiftproof_inspections", "Images inspected and committed.", ("model", "verdict"), registry=registry
        )
        self.unreadable = Counter(
            "shiftproof_unreadable", "Files that could not be inspected.", ("model",), registry=registry
        )
        self.rejected = Counter(
            "shiftproof_rejected", "Images refused because the queue was full.", ("model",), registry=registry
        )
        self.errors = Counter("shiftproof_errors", "Requests that failed for a fault of ours.", registry=registry)
        self.reviews = Counter("shiftproof_reviews", "Reviews by operators.", ("model", "truth"), registry=registry)
        self.seconds = Histogram(
            "shiftproof_seconds",
            "Seconds of an image's way: waiting in the queue, inference of its batch, and from acceptance to commit.",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "shiftproof_batch_images",
            "Images that went through a model at once.",
            ("model",),
            buckets=_SIZES,
            registry=registry,
        )
        self.waiting = Gauge(
            "shiftproof_waiting", "Images accepted and not yet answered.", ("model",), registry=registry
        )
        self.stored = Gauge("shiftproof_stored_bytes", "Bytes of images and maps on disk.", registry=registry)
        self.model = Gauge(
            "shiftproof_model", "1 for the version that is served.", ("model", "version", "backend"), registry=registry
        )
        self.reload_failed = Gauge(
            "shiftproof_reload_failed", "1 while a new version cannot be loaded.", ("model",), registry=registry
        )
        self.drift = Gauge(
            "shiftproof_drift_evidence", "Evidence for a drift, a power of ten.", ("model",), registry=registry
        )

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)

"""The addresses of the station, and what guards them."""

from __future__ import annotations

from shiftproof.service.api.app import create_app

__all__ = ["create_app"]

"""The pages of the station: inspect, review, rates and drift in a browser, rendered on the server; scripts only add to it."""

from __future__ import annotations

from fastapi import APIRouter

from shiftproof.service.page import drift, history, inspect, login, models, review
from shiftproof.service.page.rendering import error_page, static

__all__ = ["error_page", "router", "static"]

router = APIRouter(include_in_schema=False)
for page in (inspect, history, review, drift, models, login):
    router.include_router(page.router)

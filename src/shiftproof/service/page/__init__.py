"""The page of the station: inspect, review, measure and watch in a browser; rendered here, scripts only add to it."""

from __future__ import annotations

from fastapi import APIRouter

from shiftproof.service.page import drifting, history, inspecting, models, reviewing, signing
from shiftproof.service.page.rendering import refusal_page, static

__all__ = ["refusal_page", "router", "static"]

router = APIRouter(include_in_schema=False)
for one in (inspecting, history, reviewing, drifting, models, signing):
    router.include_router(one.router)

"""The station's memory: inspections, reviews and calibrations in a database, images and maps as files by their hash."""

from __future__ import annotations

from shiftproof.service.store.database import Database
from shiftproof.service.store.files import Files
from shiftproof.service.store.history import Filter, Page
from shiftproof.service.store.records import VERDICTS, InspectionRecord, Review, inspection_json

__all__ = ["Database", "Files", "Filter", "InspectionRecord", "Page", "Review", "VERDICTS", "inspection_json"]

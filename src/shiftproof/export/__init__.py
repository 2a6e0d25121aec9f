"""Exported graphs: written, held against the model, and kept in its folder."""

from __future__ import annotations

from shiftproof.export.export import Exported, export_model

__all__ = ["Exported", "export_model"]

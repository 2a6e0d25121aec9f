"""What OpenAPI says of bodies: schemas and examples."""

from __future__ import annotations

from typing import Any

_EXAMPLE = {
    "id": 17,
    "time": "2026-01-02T03:04:05.678901Z",
    "model": "screw",
    "version": "5f1d0c2ab39e",
    "calibration": 1,
    "backend": "openvino",
    "station": "line 2",
    "file": "part-0042.png",
    "image_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "bytes": 104857,
    "width": 1024,
    "height": 1024,
    "verdict": "defective",
    "score": 7.25,
    "p_value": 0.0153,
    "threshold": 5.5,
    "regions": [
        {
            "box": {"x": 512, "y": 96, "width": 40, "height": 24},
            "area": 640,
            "peak": {"value": 7.25, "x": 530, "y": 108},
        }
    ],
    "latency_ms": 21.5,
    "shift": None,
    "review": None,
    "links": {
        "self": "/v1/inspections/17",
        "image": "/v1/inspections/17/image",
        "heatmap": "/v1/inspections/17/heatmap",
    },
}
_NUMBER, _INTEGER, _TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_WORD = {"type": "string", "enum": ["good", "defective"]}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or list(properties)}


_REGION = _object(
    {
        "box": _object(dict.fromkeys(("x", "y", "width", "height"), _INTEGER)),
        "area": _INTEGER,
        "peak": _object({"value": _NUMBER, "x": _INTEGER, "y": _INTEGER}),
    }
)
INSPECTION_SCHEMA = _object(
    {
        "id": _INTEGER,
        "time": {"type": "string", "format": "date-time"},
        **dict.fromkeys(("model", "version"), _TEXT),
        "calibration": _INTEGER,
        "backend": _TEXT,
        **dict.fromkeys(("station", "file"), _TEXT_OR_NULL),
        "image_sha256": _TEXT,
        **dict.fromkeys(("bytes", "width", "height"), _INTEGER),
        "verdict": _WORD,
        **dict.fromkeys(("score", "p_value", "threshold"), _NUMBER),
        "regions": {"type": "array", "items": _REGION},
        "latency_ms": _NUMBER,
        "shift": {"type": ["object", "null"]},
        "review": {"enum": ["good", "defective", None]},
        "links": _object(dict.fromkeys(("self", "image", "heatmap"), _TEXT)),
    }
)
_UNREADABLE = _object({"file": _TEXT_OR_NULL, "status": _INTEGER, "error": _TEXT})
_RESULT = {
    "anyOf": [
        {**INSPECTION_SCHEMA, "properties": {**INSPECTION_SCHEMA["properties"], "heatmap": _TEXT}},
        _UNREADABLE,
    ]
}


def _json(description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


INSPECTED = _json(
    "One result for each file, in their order.",
    _object({"model": _TEXT, "results": {"type": "array", "items": _RESULT}}),
    {
        "model": "screw",
        "results": [
            _EXAMPLE,
            {"file": "torn.png", "status": 422, "error": "torn.png: is damaged or truncated; save or copy it again"},
        ],
    },
)
INSPECTION = _json("The inspection.", INSPECTION_SCHEMA, _EXAMPLE)
PAGE = _json(
    "The newest first; `next` is the value of `before` that leads on.",
    _object({"items": {"type": "array", "items": INSPECTION_SCHEMA}, "next": {"type": ["integer", "null"]}}),
    {"items": [_EXAMPLE], "next": None},
)
PICTURE = {"description": "The picture.", "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
ERROR = _object({"error": _TEXT})
_REASONS = {
    400: "Malformed.",
    401: "Without the token.",
    403: "From another site's page, or under a name that is not the station's.",
    404: "No such thing.",
    408: "Nothing came for too long.",
    409: "Not now: see the message.",
    410: "No longer kept.",
    413: "Too large, or too many.",
    415: "Of another type.",
    422: "Understood, but not possible.",
    429: "Full; Retry-After says when to send it again.",
    503: "Cannot be written down now.",
}
FAILURES: dict[int | str, dict[str, Any]] = {
    status: _json(reason, ERROR, {"error": reason}) for status, reason in _REASONS.items()
}
INSPECT_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _object(
                {"files": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}}
            )
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
        "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
    },
}

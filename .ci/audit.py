"""Hold the pinned packages against the known vulnerabilities; left out, and said so, where their list is not within reach.

    python .ci/audit.py [constraints.txt]

One package is asked about first: where that gets no answer, no other is asked about. Exit code 1: something is vulnerable.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def audit(pins: list[str]) -> list[dict[str, Any]]:
    """What pip-audit says of each pin; an empty list where it could not even run."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        options = [
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        command = [sys.executable, "-m", "pip_audit", *options]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900).stdout  # noqa: S603
    try:
        found: list[dict[str, Any]] = json.loads(said)["dependencies"]
    except (ValueError, KeyError):
        return []
    return found


def main() -> int:
    """Print what is vulnerable, or why nothing is known."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "constraints.txt")
    pins = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    answered = [one for one in audit(pins[:1]) if "skip_reason" not in one]
    if not answered:
        print("audit: left out, the list of vulnerabilities is not within reach")
        return 0
    found = audit(pins)
    skipped = [one["name"] for one in found if "skip_reason" in one]
    vulnerable = [one for one in found if one.get("vulns")]
    for one in vulnerable:
        for vulnerability in one["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            print(f"audit: {one['name']} {one['version']}: {vulnerability['id']}, mended in {fixed}")
    print(
        f"audit: {len(found) - len(skipped)} of {len(pins)} pinned packages known to it, {len(vulnerable)} vulnerable"
    )
    return bool(vulnerable)


if __name__ == "__main__":
    sys.exit(main())

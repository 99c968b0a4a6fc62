"""A checksum inside a safetensors file, over all the rest of it: a flipped bit is noticed."""

import hashlib
import json
from typing import Any

METADATA, FIELD = "__metadata__", "sha256"


def sealed(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order and its checksum among them.

    Safetensors itself shuffles the metadata from run to run.
    """
    header, data = _parts(content)
    metadata = header.get(METADATA, {}) | {FIELD: _checksum(header, data)}
    header |= {METADATA: dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def is_intact(content: bytes) -> bool:
    """Whether a safetensors file is as it was sealed; one that never was is taken as it is."""
    header, data = _parts(content)
    wanted = header.get(METADATA, {}).get(FIELD)
    return wanted is None or wanted == _checksum(header, data)


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def _checksum(header: dict[str, Any], data: bytes) -> str:
    metadata = {k: v for k, v in header.get(METADATA, {}).items() if k != FIELD}
    text = json.dumps(header | {METADATA: metadata}, sort_keys=True)
    return hashlib.sha256(text.encode() + data).hexdigest()

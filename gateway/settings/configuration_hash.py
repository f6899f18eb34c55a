"""Hash of a configuration, to tell in audit records which one was in use."""

from __future__ import annotations

import hashlib

import orjson

from gateway.settings.model import Settings


def configuration_hash(settings: Settings) -> str:
    """Return the SHA-256, in hexadecimal, of all settings with their defaults, as JSON with sorted names.

    The values of secrets are not part of it, only whether they are set: another provider key has the same hash. Hashes
    of keys are part of it. Another version of Runward may have other settings, and so another hash.
    """
    document = settings.model_dump(mode="json", by_alias=True)
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()

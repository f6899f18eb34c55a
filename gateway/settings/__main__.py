"""JSON schema generator: python -m gateway.settings > config/gateway.schema.json."""

from __future__ import annotations

import sys

from gateway.settings.schema import render_schema

sys.stdout.write(render_schema())

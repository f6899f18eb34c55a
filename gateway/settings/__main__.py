"""Prints the configuration's JSON schema: python -m gateway.settings > config/gateway.schema.json."""

from __future__ import annotations

import sys

from gateway.settings.schema import render_schema

sys.stdout.write(render_schema())

"""Validation of custom resources against the TypeScript types of their operators, which `make` installs by npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.helm.chart import Object
from tests.support.process import ROOT

INSTALLED = ROOT / ".venv" / "crds"
API_GROUPS = {
    "monitoring.coreos.com": "prometheus-operator",
    "keda.sh": "keda",
    "gateway.networking.k8s.io": "gateway-api",
    "external-secrets.io": "external-secrets",
}
"""The packages of the groups that are not Kubernetes' own."""
_OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext")

_missing = shutil.which("node") is None or not (INSTALLED / ".installed").exists()
_required = os.environ.get("RUNWARD_REQUIRE_NODE") == "1"
needs_types = pytest.mark.skipif(
    _missing and not _required, reason="Node or the types of custom resources are not installed (`make test` does it)"
)


def refused(objects: Sequence[Object]) -> str:
    """Return type errors of these objects: unknown fields, missing fields, wrong types; empty if valid."""
    lines = []
    for number, o in enumerate(objects):
        group, _, version = o["apiVersion"].partition("/")
        module = f"@kubernetes-models/{API_GROUPS[group]}/{group}/{version}/{o['kind']}"
        lines.append(f'import type {{ I{o["kind"]} as T{number} }} from "{module}";')
        lines.append(f"const o{number}: T{number} = {json.dumps(o)};")
    with TemporaryDirectory(dir=INSTALLED) as folder:
        program = Path(folder) / "objects.ts"
        program.write_text("\n".join(lines))
        compiler = INSTALLED / "node_modules" / ".bin" / "tsc"
        done = subprocess.run([compiler, *_OPTIONS, program], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr

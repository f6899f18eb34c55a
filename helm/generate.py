"""Writes what the chart has from elsewhere: the schema of `config`, copies of rules and dashboards, the values' table.

`make chart` runs it; tests/helm holds what it writes equal to what is in the repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
CHART = ROOT / "helm" / "runward"
_OURS = "Gateway"
_BEGIN, _END = "<!-- values: written by `make chart` -->\n", "<!-- end of values -->"
_LONGEST = 60  # characters of a default in the table


def files() -> dict[Path, str]:
    """Every written file of the chart with its text."""
    copies = {CHART / "files" / "prometheus-rules.yaml": (ROOT / "config" / "prometheus-rules.yaml").read_text()}
    for dashboard in sorted((ROOT / "config" / "grafana").glob("*.json")):
        copies[CHART / "files" / "dashboards" / dashboard.name] = dashboard.read_text()
    return {**copies, CHART / "values.schema.json": _schema(), CHART / "README.md": _readme()}


def _schema() -> str:
    """The chart's schema, its `$defs` of the gateway's configuration taken from config/gateway.schema.json."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    gateway = json.loads((ROOT / "config" / "gateway.schema.json").read_text())
    taken = {"Settings": {key: gateway[key] for key in ("type", "additionalProperties", "properties")}}
    own = {name: node for name, node in schema["$defs"].items() if not name.startswith(_OURS)}
    theirs = {_OURS + name: _adopted(node) for name, node in sorted({**gateway["$defs"], **taken}.items())}
    schema["$defs"] = own | theirs
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _adopted(node: Any) -> Any:
    """A node of the gateway's schema with our references. A secret's field is left to the templates.

    Helm prints values that a schema refuses; the templates refuse a literal secret without printing it.
    """
    if isinstance(node, list):
        return [_adopted(child) for child in node]
    if not isinstance(node, Mapping):
        return node
    if set(node.get("properties", ())) == {"env", "file"}:
        return {"description": "{file: PATH} or {env: NAME}; the templates refuse anything else."}
    adopted = {_looser(key): _adopted(child) for key, child in node.items()}
    if isinstance(node.get("pattern"), str):
        adopted["pattern"] = _looser(node["pattern"])
    if isinstance(node.get("$ref"), str):
        adopted["$ref"] = node["$ref"].replace("#/$defs/", f"#/$defs/{_OURS}")
    return adopted


def _looser(pattern: str) -> str:
    """The pattern without looks ahead, which Helm's regular expressions do not have; it allows more, never less."""
    return re.sub(r"\(\?[!=][^()]*\)", "", pattern)


def _readme() -> str:
    """The chart's page with its table of values."""
    before, _, rest = (CHART / "README.md").read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    return before + _BEGIN + "\n" + table((CHART / "values.yaml").read_text()) + "\n" + _END + after


def table(text: str) -> str:
    """The table of a values file: each key that has a comment above it, its default and that comment."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    defaults = yaml.safe_load(text)
    for path, comment in commented(text):
        value = defaults
        for key in path:
            value = value[key]
        lines.append(f"| `{'.'.join(path)}` | {_default(value)} | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def commented(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key that has a comment directly above it, as its way from the root, with the comment in one line."""
    way: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := re.fullmatch(r" *# ?(.*)", line):
            comment.append(found[1])
        elif found := re.match(r"( *)([A-Za-z][A-Za-z0-9]*):", line):
            way[len(found[1]) // 2 :] = [found[2]]
            if comment:
                yield tuple(way), " ".join(comment)
            comment = []
        else:
            comment = []


def _default(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return "see values.yaml" if len(shown) > _LONGEST else f"`{shown}`".replace("|", "\\|")


if __name__ == "__main__":
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

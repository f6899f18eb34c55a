"""Generator of the derived files of the chart: schema of `config`, copies of rules and dashboards, table of values.

`make chart` runs it; tests/helm compare its output with the files in the repository.
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
_GATEWAY_PREFIX = "Gateway"
_BEGIN, _END = "<!-- values: written by `make chart` -->\n", "<!-- end of values -->"
_MAX_DEFAULT_LENGTH = 60  # characters of a default in the table


def files() -> dict[Path, str]:
    """Return the text of every generated file by path."""
    copies = {CHART / "files" / "prometheus-rules.yaml": (ROOT / "config" / "prometheus-rules.yaml").read_text()}
    for dashboard in sorted((ROOT / "config" / "grafana").glob("*.json")):
        copies[CHART / "files" / "dashboards" / dashboard.name] = dashboard.read_text()
    return {**copies, CHART / "values.schema.json": _schema(), CHART / "README.md": _readme()}


def _schema() -> str:
    """Return the schema of the values; the `$defs` of `config` come from config/gateway.schema.json."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    gateway = json.loads((ROOT / "config" / "gateway.schema.json").read_text())
    taken = {"Settings": {key: gateway[key] for key in ("type", "additionalProperties", "properties")}}
    own = {name: node for name, node in schema["$defs"].items() if not name.startswith(_GATEWAY_PREFIX)}
    theirs = {_GATEWAY_PREFIX + name: _adopted(node) for name, node in sorted({**gateway["$defs"], **taken}.items())}
    schema["$defs"] = own | theirs
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _adopted(node: Any) -> Any:
    """Convert a node of the gateway's schema: references are renamed, fields of secrets are left to the templates.

    Helm prints values that a schema refuses; the templates refuse a literal secret without printing it.
    """
    if isinstance(node, list):
        return [_adopted(child) for child in node]
    if not isinstance(node, Mapping):
        return node
    if set(node.get("properties", ())) == {"env", "file"}:
        return {"description": "{file: PATH} or {env: NAME}; the templates refuse anything else."}
    adopted = {_without_lookahead(key): _adopted(child) for key, child in node.items()}
    if isinstance(node.get("pattern"), str):
        adopted["pattern"] = _without_lookahead(node["pattern"])
    if isinstance(node.get("$ref"), str):
        adopted["$ref"] = node["$ref"].replace("#/$defs/", f"#/$defs/{_GATEWAY_PREFIX}")
    return adopted


def _without_lookahead(pattern: str) -> str:
    """Return the pattern without lookaheads, which Helm's regular expressions lack; it never accepts less."""
    return re.sub(r"\(\?[!=][^()]*\)", "", pattern)


def _readme() -> str:
    """Return the README of the chart with its table of values."""
    before, _, rest = (CHART / "README.md").read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    return before + _BEGIN + "\n" + table((CHART / "values.yaml").read_text()) + "\n" + _END + after


def table(text: str) -> str:
    """Return the Markdown table of a values file: each commented key with its default and its comment."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    defaults = yaml.safe_load(text)
    for path, comment in commented(text):
        value = defaults
        for key in path:
            value = value[key]
        lines.append(f"| `{'.'.join(path)}` | {_default(value)} | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def commented(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path of each key with a comment directly above it, and the comment on one line."""
    key_path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := re.fullmatch(r" *# ?(.*)", line):
            comment.append(found[1])
        elif found := re.match(r"( *)([A-Za-z][A-Za-z0-9]*):", line):
            key_path[len(found[1]) // 2 :] = [found[2]]
            if comment:
                yield tuple(key_path), " ".join(comment)
            comment = []
        else:
            comment = []


def _default(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return "see values.yaml" if len(shown) > _MAX_DEFAULT_LENGTH else f"`{shown}`".replace("|", "\\|")


if __name__ == "__main__":
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

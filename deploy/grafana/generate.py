"""Generator of the Grafana dashboards in config/grafana. `make dashboards` runs it; tests compare its output."""

from __future__ import annotations

from pathlib import Path

from deploy.grafana import client, overview, provider, store

FOLDER = Path(__file__).parent.parent.parent / "config" / "grafana"


def files() -> dict[Path, str]:
    """Return the text of every dashboard by path."""
    boards = {"overview": overview, "provider": provider, "client": client, "store": store}
    return {FOLDER / f"{name}.json": module.board().text() for name, module in boards.items()}


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content)

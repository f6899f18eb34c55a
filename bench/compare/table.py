"""The result as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.compare.figures import Cell, Figure

NOT_MEASURED = "not measured"


def table(
    titles: Mapping[str, str],
    figures: Sequence[Figure],
    values: Mapping[str, Mapping[str, Cell]],
    remarks: Mapping[tuple[str, str], str],
) -> str:
    """Return a table with a row for each figure and a column for each participant of `titles`.

    `values` has the cells by figure and participant. A remark by figure and participant takes the place of its cell.
    """
    lines = [f"| {_row(list(titles.values()))}", "|---" * (1 + len(titles)) + "|"]
    for figure in figures:
        found = values.get(figure.key, {})
        shown = [
            remarks.get((figure.key, name)) or cell_text(found.get(name, Cell(None)), figure.decimals)
            for name in titles
        ]
        lines.append(_row([figure.title, *shown]))
    return "\n".join(lines)


def cell_text(cell: Cell, decimals: int) -> str:
    """Return the value with spaces between thousands, and the ratio in brackets."""
    if cell.value is None:
        return NOT_MEASURED
    value = f"{cell.value:,.{decimals}f}".replace(",", " ")
    return value if cell.ratio is None else f"{value} ({ratio_text(cell.ratio)})"


def ratio_text(ratio: float) -> str:
    """Return two decimals below 10, one below 100, else none."""
    return f"{ratio:.{2 if ratio < 9.995 else 1 if ratio < 99.95 else 0}f}"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"

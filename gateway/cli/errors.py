"""Errors of commands, and text that is safe for a terminal."""

from __future__ import annotations

import typer


class CliError(typer.TyperException):
    """Command failed; the text has one line per error."""

    def __init__(self, text: str, exit_code: int = 2) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def sanitize_for_terminal(text: str) -> str:
    """Replace control characters by "?"; line feeds and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)

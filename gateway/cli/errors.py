"""Why a command ends early, in words fit for a terminal."""

from __future__ import annotations

import typer


class CliError(typer.TyperException):
    """A command that can not go on; the text is one line for each thing that is wrong."""

    def __init__(self, text: str, exit_code: int = 2) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def sanitize_for_terminal(text: str) -> str:
    """Make anybody's text safe for a terminal: what controls it is shown as "?", lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)

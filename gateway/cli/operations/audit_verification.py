"""`runward audit verify`: the chain of audit records of a running gateway, or of an export, is verified here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import typer

from gateway.audit.chain import ChainCheck, parse_head
from gateway.cli.errors import CliError, sanitize_for_terminal
from gateway.cli.operations.audit import iter_pages
from gateway.cli.operations.output import print_json
from gateway.json import strict_json
from gateway.store.audit import GENESIS, AuditHead, AuditState

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.cli.operations.client import OpsClient
    from providers.contract import JsonValue

_MAX_LINE = 65_536  # bytes


def verify_chain(client: OpsClient, noted: str | None, *, as_json: bool) -> None:
    """Verify the records of a gateway, from the last purged one to the head. Raises CliError, exit code 1 if broken."""
    check, state = ChainCheck(GENESIS, _noted(noted)), AuditState()
    for page in iter_pages(client, 0):
        state = AuditState(_place(page.anchor), _place(page.head))
        check.continue_after_purge(state.anchor)
        for record in page.records:
            check.add(record)
    check.end(state)
    _report(check, as_json=as_json)


def verify_file(path: Path, noted: str | None, *, as_json: bool) -> None:
    """Verify exported records. Raises CliError, exit code 1 if the chain is broken."""
    check = ChainCheck(None, _noted(noted))
    with _open(path) as file:
        while line := file.readline(_MAX_LINE):
            if line.strip():
                check.add(_parse(line))
    check.end()
    _report(check, as_json=as_json)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None


def _parse(line: bytes) -> dict[str, JsonValue]:
    """Return the members of a line; none if it is no JSON object, which is a finding."""
    try:
        document = strict_json.read_unique(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _noted(text: str | None) -> AuditHead | None:
    try:
        return None if text is None else parse_head(text)
    except ValueError as error:
        raise CliError(f"--head {error}") from None


def _place(value: JsonValue) -> AuditHead:
    members = value if isinstance(value, dict) else {}
    sequence, text = members.get("sequence"), members.get("hash")
    if not isinstance(sequence, int) or not isinstance(text, str):
        raise CliError("not a response of the operations port: check --ops-url")
    return AuditHead(sequence, text)


def _report(check: ChainCheck, *, as_json: bool) -> None:
    head = f"{check.head.sequence}:{check.head.hash}"
    if as_json:
        print_json(
            {
                "records": check.count,
                "first": check.first,
                "head": head,
                "findings": list(check.findings),
                "without_end": list(check.without_end),
            }
        )
    else:
        for finding in check.findings:
            typer.echo(sanitize_for_terminal(finding))
        if check.without_end:
            listed = ", ".join(str(each) for each in check.without_end[:20])
            noun = "record" if len(check.without_end) == 1 else "records"
            typer.echo(f"acts whose end is not recorded: {len(check.without_end)} ({noun} {listed})", err=True)
    if check.findings:
        found = "1 finding" if len(check.findings) == 1 else f"{len(check.findings)} findings"
        raise CliError(f"the chain is broken: {found}", exit_code=1)
    if not as_json:
        typer.echo(f"verified: {check.count} records, from {check.first} to {check.head.sequence}")
        typer.echo(f"head: {sanitize_for_terminal(head)}")

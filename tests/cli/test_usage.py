"""`runward usage`: requests to the operations port, table, JSON, CSV and the export in the form of FOCUS."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

MANDATORY = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
)
"""Columns with the feature level Mandatory in FOCUS 1.2."""
NULLABLE = {"ChargeClass", "Tags", "x_Key", "x_Team"}
ROWS: list[dict[str, object]] = [
    {"client": "checkout", "workflow": "=1+1", "runs": 3, "spent": "0.12", "unknown": "0"},
    {"client": "search\x1b[2J", "workflow": "triage", "runs": 1, "spent": "0", "unknown": "0.04"},
]
TOTAL = {"runs": 4, "spent": "0.12", "unknown": "0.04"}


class StubUsage:
    """Stub of an operations port with usage of two days."""

    def __init__(self) -> None:
        self.queries: list[list[tuple[str, str]]] = []
        self.currency = "EUR"

    def answer(self, request: PortRequest) -> tuple[int, bytes]:
        parts = urlsplit(request.target)
        assert (request.method, parts.path) == ("GET", "/api/usage")
        query = parse_qsl(parts.query, keep_blank_values=True)
        self.queries.append(query)
        given = dict(query)
        if given.get("from") == "soon":
            errors = [{"pointer": "?from", "detail": "must be a day"}]
            return 422, json.dumps({"code": "invalid_request", "detail": "No.", "errors": errors}).encode()
        names = [name for name in given["group_by"].split(",") if name]
        rows = ROWS
        if "certainty" in names:
            rows = [
                self._charge(given["from"], "spent", "0.12", "0"),
                self._charge(given["from"], "unknown", "0", "0.04"),
            ]
            rows.append(self._charge(given["from"], "none", "0", "0"))
        document: dict[str, Any] = {
            "from": given.get("from", "2026-12-31"),
            "to": given.get("to", "2027-01-01"),
            "currency": self.currency,
            "group_by": names,
            "rows": rows,
            "total": TOTAL,
        }
        return 200, json.dumps(document).encode()

    @staticmethod
    def _charge(day: str, certainty: str, spent: str, unknown: str) -> dict[str, object]:
        key, team = ("key_1", "shop") if certainty == "spent" else ("", "")
        values = {
            "client": "checkout",
            "team": team,
            "key": key,
            "workflow": "=1+1",
            "provider": "studio",
            "api": "run",
        }
        return {"day": day, **values, "certainty": certainty, "runs": 3, "spent": spent, "unknown": unknown}


@pytest.fixture
def port() -> StubUsage:
    return StubUsage()


@pytest.fixture
def url(port: StubUsage) -> Iterator[str]:
    with stub_port(port.answer) as serving:
        yield serving


def test_the_report_is_a_table_with_its_total(runward: RunCommand, url: str) -> None:
    result = runward("usage", "--by", "client,workflow", RUNWARD_OPS_URL=url)
    assert (0, "") == (result.code, result.err)
    assert [line.split() for line in result.out.splitlines()] == [
        ["CLIENT", "WORKFLOW", "RUNS", "SPENT", "UNKNOWN"],
        ["checkout", "=1+1", "3", "0.12", "0"],
        ["search?[2J", "triage", "1", "0", "0.04"],
        ["total", "-", "4", "0.12", "0.04"],
    ]


def test_every_option_is_a_condition(runward: RunCommand, url: str, port: StubUsage) -> None:
    words = "--from 2026-11-01 --to 2026-11-30 --by month --client a --client b --team shop --key key_1 --workflow w"
    more = "--provider p --api run --outcome failed --certainty spent --tag x"
    assert runward("usage", *words.split(), *more.split(), RUNWARD_OPS_URL=url).code == 0
    assert port.queries == [
        [
            *(("from", "2026-11-01"), ("to", "2026-11-30"), ("group_by", "month"), ("client", "a"), ("client", "b")),
            *(("team", "shop"), ("key", "key_1"), ("workflow", "w"), ("provider", "p"), ("api", "run")),
            *(("outcome", "failed"), ("certainty", "spent"), ("tag", "x")),
        ]
    ]


def test_as_json_the_document_is_printed(runward: RunCommand, url: str) -> None:
    result = runward("usage", "--json", "--by", "client,workflow", RUNWARD_OPS_URL=url)
    assert (ROWS, TOTAL) == (json.loads(result.out)["rows"], json.loads(result.out)["total"])
    assert "\x1b" not in result.out


def test_as_csv_no_cell_is_a_formula(runward: RunCommand, url: str) -> None:
    result = runward("usage", "--csv", "--by", "client,workflow", RUNWARD_OPS_URL=url)
    assert list(csv.reader(io.StringIO(result.out)))[:2] == [
        ["client", "workflow", "runs", "spent", "unknown"],
        ["checkout", "'=1+1", "3", "0.12", "0"],
    ]


def test_the_export_has_every_mandatory_column_and_value(runward: RunCommand, url: str, port: StubUsage) -> None:
    result = runward("usage", "export", "--focus", RUNWARD_OPS_URL=url)
    assert (0, "") == (result.code, result.err)
    rows = list(csv.DictReader(io.StringIO(result.out)))
    names = list(rows[0])
    own = [name for name in names if name.startswith("x_")]
    assert set(MANDATORY) <= set(names)
    assert names == sorted(set(names) - set(own)) + own
    assert [dict(query).get("from") for query in port.queries] == [None, "2026-12-31", "2027-01-01"]
    assert len(rows) == 4
    for row in rows:
        assert {name for name, value in row.items() if value == ""} <= NULLABLE
    paid, maybe = rows[:2]
    assert {
        name: paid[name] for name in ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")
    } == dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), "0.12")
    assert {
        "BillingCurrency": "EUR",
        "BillingPeriodStart": "2026-12-01T00:00:00Z",
        "BillingPeriodEnd": "2027-01-01T00:00:00Z",
        "ChargePeriodStart": "2026-12-31T00:00:00Z",
        "ChargePeriodEnd": "2027-01-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "PricingQuantity": "3",
        "ResourceId": "'=1+1",
        "ServiceCategory": "AI and Machine Learning",
        "SubAccountId": "checkout",
        "Tags": '{"team": "shop"}',
        "x_Certainty": "spent",
        "x_Key": "key_1",
    }.items() <= paid.items()
    assert ("0.04", "unknown", "", "") == (maybe["BilledCost"], maybe["x_Certainty"], maybe["x_Key"], maybe["Tags"])


@pytest.mark.parametrize("currency", ["XXX", "credits", "\x1b[2J"])
def test_a_currency_that_is_none_is_told(runward: RunCommand, url: str, port: StubUsage, currency: str) -> None:
    port.currency = currency
    result = runward("usage", "export", "--focus", RUNWARD_OPS_URL=url)
    assert result.code == 0
    assert "usage.currency" in result.err
    assert "\x1b" not in result.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--from", "soon"), "?from: must be a day"),
        (("export",), "--focus"),
        (("export", "--focus", "--from", "soon"), "?from: must be a day"),
        (("--json", "--csv"), "not both"),
        (("--outcome", "maybe"), "maybe"),
    ],
)
def test_what_has_no_meaning_ends_with_2(runward: RunCommand, url: str, words: tuple[str, ...], text: str) -> None:
    result = runward("usage", *words, RUNWARD_OPS_URL=url)
    assert result.code == 2
    assert text in result.err

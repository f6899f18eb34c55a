"""Usage in the form of FOCUS 1.2 (FinOps Open Cost and Usage Specification): a row for each charge.

It has every mandatory column, some of the others, and own ones with the prefix `x_`. Runs of a day that have the
client, key, workflow, provider and API in common are one charge; amounts that may have been paid are another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING

from gateway.cli.errors import CliError

if TYPE_CHECKING:
    from providers.contract import JsonValue

GROUP_BY = ("day", "client", "team", "key", "workflow", "provider", "api", "certainty")
"""Of the report whose rows become charges."""

FOCUS_COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart"),
    *("ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart"),
    *("ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost"),
    *("PricingQuantity", "PricingUnit", "ProviderName", "PublisherName"),
    *("ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory"),
    *("SubAccountId", "SubAccountName", "Tags", "x_Api", "x_Certainty", "x_Key", "x_Team"),
)
_UNIT = "Runs"
_DESCRIPTIONS = {
    "spent": "Runs at the declared price",
    "unknown": "Runs that may have been executed, at the declared price",
}


def focus_rows(rows: Iterable[Mapping[str, JsonValue]], currency: str) -> Iterator[tuple[object, ...]]:
    """Yield the charges of a report, with the values of `FOCUS_COLUMNS`; runs that cost nothing for certain are none.

    Raises CliError for a row that is none of such a report.
    """
    for row in rows:
        certainty = str(row.get("certainty"))
        if certainty not in _DESCRIPTIONS:
            continue
        values = _charge(row, certainty, currency)
        yield tuple(values.get(name) for name in FOCUS_COLUMNS)


def is_iso_currency(text: str) -> bool:
    """Return whether a currency has the form of a code of ISO 4217, and is not the one for no currency."""
    return re.fullmatch("[A-Z]{3}", text) is not None and text != "XXX"


def _charge(row: Mapping[str, JsonValue], certainty: str, currency: str) -> dict[str, object]:
    try:
        day = date.fromisoformat(str(row.get("day")))
    except ValueError:
        raise CliError("the gateway sent a day that cannot be read") from None
    provider, client, workflow = (str(row.get(name)) for name in ("provider", "client", "workflow"))
    month = day.replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    amount, runs = row.get(certainty), row.get("runs")
    return {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), amount),
        "BillingAccountId": provider,
        "BillingAccountName": provider,
        "BillingCurrency": currency,
        "BillingPeriodStart": _midnight(month),
        "BillingPeriodEnd": _midnight(next_month),
        "ChargeCategory": "Usage",
        "ChargeDescription": _DESCRIPTIONS[certainty],
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _midnight(day),
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), runs),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), _UNIT),
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceName"), provider),
        "ResourceId": workflow,
        "ResourceName": workflow,
        "ResourceType": "Workflow",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": client,
        "SubAccountName": client,
        "Tags": _tags(row),
        "x_Api": row.get("api"),
        "x_Certainty": certainty,
        "x_Key": row.get("key") or None,
        "x_Team": row.get("team") or None,
    }


def _tags(row: Mapping[str, JsonValue]) -> str | None:
    """Return the team as a tag, in JSON: it is the only one that all runs of a charge have."""
    team = row.get("team")
    return json.dumps({"team": team}) if team else None


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"

"""Declared prices of a configuration, by the names that clients use, for what is only planned."""

from __future__ import annotations

from gateway.runs.prices import PriceTable
from gateway.settings import Settings
from gateway.settings.price_section import PriceSettings


def price_table(settings: PriceSettings | None) -> PriceTable | None:
    """Return the prices of a workflow or provider; None if it declares none."""
    return None if settings is None else PriceTable(settings.default, settings.labels, settings.versions)


def price_of_start(settings: Settings, name: str, label: str | None, version: int | None) -> int | None:
    """Return the price of a start on a workflow, in micros, by its alias or `provider/name`; None if none is declared.

    `label` and `version`: what the run asked for; a release that the configuration pins takes precedence.
    """
    workflow = settings.workflows.get(name)
    provider = settings.providers.get(name.partition("/")[0] if workflow is None else workflow.provider)
    table = price_table((workflow and workflow.price) or (provider and provider.price) or None)
    if table is None:
        return None
    if workflow is None:
        return table.price_of(label, version)
    return table.price_of(workflow.label or label, workflow.version or version)

"""Operations of `gateway.api.admin.attention`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.runs.attention.items import AttentionKind, Severity


class AttentionShown(BaseModel):
    """Something that needs an operator."""

    id: Annotated[str, Field(description="The same for this kind and this subject at every replica.")]
    kind: AttentionKind
    severity: Severity
    since: Annotated[
        datetime | None,
        Field(description="When it began, as far as that is known; else when this replica found it first."),
    ]
    subject: Annotated[str, Field(description="Name of what is concerned, such as a provider or a workflow.")]
    summary: Annotated[str, Field(description="One sentence, or an operator's note.")]
    runbook: Annotated[str, Field(description="Page and section of the documentation.")]
    action: Annotated[str, Field(description="A command, a request to this port, or a sentence.")]
    count: Annotated[int | None, Field(description="Number of runs, or of other things, that the item stands for.")]


class AttentionItems(BaseModel):
    """What needs an operator now, critical items first; empty if nothing does."""

    items: list[AttentionShown]
    checked_at: datetime


GROUP = OperationGroup(
    "Attention",
    "What needs an operator now.",
    (
        Operation(
            "GET",
            "/api/attention",
            "listAttention",
            "List what needs an operator",
            {200: Answer("The items.", AttentionItems)},
            description="Of all replicas on the store as far as the store knows, else of the replica that answers. A "
            "source that cannot be read is an item of the kind `source_unavailable`.",
        ),
    ),
)

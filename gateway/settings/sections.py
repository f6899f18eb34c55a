"""The sections about the gateway itself: what it listens on, logs, keeps, retries and calls back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FilePath, WithJsonSchema, model_validator
from pydantic_settings import NoDecode

from gateway.settings.addresses import AllowedTarget, BaseUrl, Host, NetworkSetting, StoreUrl
from gateway.settings.errors import raise_validation_error
from gateway.settings.field_types import Attempts, Count, KeyHash, Port, Timestamp
from gateway.settings.secret import Secret, WebhookSecret
from gateway.settings.units import DURATION_PATTERN, Duration, DurationOrZero, Lease, Size

STANDARD_SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""The delays, in seconds, that the Standard Webhooks specification suggests ("Deliverability and reliability")."""


class Section(BaseModel):
    """What every section has in common: no unknown keys, no changes, no values in its complaints."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class KeySettings(Section):
    """A key, by its hash."""

    hash: KeyHash
    """sha256: and the key's SHA-256 in hexadecimal, as `runward keys` prints it."""
    expires: Timestamp | None = None
    """Expiry: a date (00:00 UTC) or a date and time; never by default."""


class TlsSettings(Section):
    """TLS of a port. The files are read again when they change; open connections are kept."""

    cert: FilePath
    """Certificate with its chain, PEM."""
    key: FilePath
    """Private key of the certificate, PEM, without a passphrase."""
    client_ca: FilePath | None = None
    """Certificates of the authorities that issue client certificates (mutual TLS), PEM; none by default."""
    client_certificates: Literal["optional", "required"] = "required"
    """Whether clients must present a certificate of client_ca; one that is presented must be valid either way."""

    @model_validator(mode="after")
    def _require_client_ca(self) -> Self:
        if self.client_ca is None and "client_certificates" in self.model_fields_set:
            raise_validation_error([(("client_certificates",), "needs client_ca")])
        return self


class OpsTlsSettings(Section):
    """TLS of the operations port; each value defaults to that of server.tls."""

    enabled: bool = True
    """Whether the operations port uses TLS if it has a certificate; false: plain HTTP."""
    cert: FilePath | None = None
    """Certificate with its chain, PEM."""
    key: FilePath | None = None
    """Private key of the certificate, PEM, without a passphrase."""
    client_ca: FilePath | None = None
    """Certificates of the authorities that issue client certificates, PEM."""
    client_certificates: Literal["none", "optional", "required"] | None = None
    """none: probes and Prometheus need no certificate, whatever server.tls demands."""

    @model_validator(mode="after")
    def _require_pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            missing = "cert" if self.cert is None else "key"
            raise_validation_error([((missing,), "is required: cert and key belong together")])
        return self


class ServerSettings(Section):
    """The two ports, and what bounds a request before it is known whose it is."""

    host: Host = "127.0.0.1"
    """Where the public port listens; 0.0.0.0 or :: for every interface."""
    port: Port = 8080
    """The public port; 0 lets the system choose."""
    ops_host: Host = "127.0.0.1"
    """Where the operations port (metrics, health, callbacks) listens."""
    ops_port: Port = 9090
    """The operations port; 0 lets the system choose."""
    drain: DurationOrZero = 10.0
    """How long a stopping gateway still takes requests, so that nobody is cut off."""
    grace: Duration = 60.0
    """How long runs in flight may still take then; those that take longer are cut off, and kept if they can be."""
    max_body: Size = 1_000_000
    """The largest request body; more is a 413."""
    max_in_flight: Count = 2000
    """How many requests may be in work at once; more is a 503."""
    header_timeout: Duration = 10.0
    """How long a request's headers may take, and an idle connection may stay."""
    body_timeout: Duration = 10.0
    """How long a request's body may take; longer is a 408."""
    open_docs: bool = False
    """Whether /openapi.json on the public port needs no key."""
    trusted_proxies: tuple[NetworkSetting, ...] = ()
    """Networks of the proxies whose X-Forwarded-For is believed; from others it counts for nothing."""
    public_url: BaseUrl | None = None
    """Where providers reach this gateway; then PromptLayer says when a run has ended, instead of being asked often."""
    max_queued: Count = 1000
    """How many runs of one client may be kept in the background at once; more is a 503."""
    max_queued_per_workflow: Count = 5000
    """How many runs of one workflow, over all clients, may be kept in the background at once; more is a 503."""
    tls: TlsSettings | None = None
    """TLS (1.2 or newer) of both ports; none by default: plain HTTP."""
    ops_tls: OpsTlsSettings = OpsTlsSettings()
    """TLS of the operations port where it differs from server.tls."""
    ops_keys: tuple[KeySettings, ...] = ()
    """Keys of the operations port; without any it needs none. Liveness and readiness never need one."""

    @property
    def resolved_ops_tls(self) -> TlsSettings | None:
        """TLS of the operations port, with the values that it takes from `tls`; None for plain HTTP."""
        ops, base = self.ops_tls, self.tls
        cert, key = (ops.cert, ops.key) if ops.cert else (base.cert, base.key) if base else (None, None)
        if not ops.enabled or cert is None or key is None:
            return None
        client_ca = ops.client_ca or (base.client_ca if base else None)
        demand = ops.client_certificates or (base.client_certificates if base else "required")
        if client_ca is None or demand == "none":
            return TlsSettings(cert=cert, key=key)
        return TlsSettings(cert=cert, key=key, client_ca=client_ca, client_certificates=demand)

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.port == self.ops_port != 0 and self.host == self.ops_host:
            raise_validation_error([(("ops_port",), "must differ from server.port")])
        return self

    @model_validator(mode="after")
    def _ops_client_certificates_need_an_authority(self) -> Self:
        authority = self.ops_tls.client_ca or (self.tls and self.tls.client_ca)
        if self.ops_tls.client_certificates in {"optional", "required"} and authority is None:
            raise_validation_error([(("ops_tls", "client_certificates"), "needs client_ca")])
        return self


class LogsSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """json for machines, console for people; auto is console on a terminal."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """TLS files in PEM: trusted CA certificates (default: those of the system), client certificate and its key."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None


SYSTEM_TLS = TlsFiles()
"""The CA certificates of the system, and no client certificate."""


class StoreSettings(Section):
    """Where runs, idempotency records and callbacks are kept."""

    url: StoreUrl = "sqlite:///var/runward.db"
    """sqlite:///path, redis://user@host:port/0 for replicas (rediss:// for TLS), or memory:// for tests."""
    password: Secret | None = None
    """What a Redis or Valkey server wants to hear, where it wants anything."""
    ca_file: FilePath | None = None
    """CA certificates to trust instead of the system's for a rediss:// server, in PEM."""
    client_cert_file: FilePath | None = None
    """Client certificate for a rediss:// server, in PEM; the file may contain its key."""
    client_key_file: FilePath | None = None
    """Key of the client certificate, in PEM; in client_cert_file by default."""
    retention: Duration = 7 * 86400.0
    """How long a finished run can be looked up."""
    lease: Lease = 30.0
    """How long a replica's runs and its slots of shared limits stay its own without a word from it."""

    @property
    def tls_files(self) -> TlsFiles:
        """The TLS files of the store."""
        return TlsFiles(self.ca_file, self.client_cert_file, self.client_key_file)

    @model_validator(mode="after")
    def _require_tls_for_files(self) -> Self:
        names = [name for name in ("ca_file", "client_cert_file", "client_key_file") if getattr(self, name)]
        if names and not self.url.startswith("rediss:"):
            raise_validation_error([((name,), "needs a rediss:// store.url") for name in names])
        if self.client_key_file and not self.client_cert_file:
            raise_validation_error([(("client_key_file",), "needs client_cert_file")])
        return self


def _parse_schedule(value: object) -> object:
    if isinstance(value, str):
        return STANDARD_SCHEDULE if value == "standard" else value.split(",")
    return value


class CallbackSettings(Section):
    """How results are delivered to a `callback_url`."""

    secrets: tuple[WebhookSecret, ...] = ()
    """What callbacks are signed with, newest first; two while one is replaced by the other."""
    allow: tuple[AllowedTarget, ...] = ()
    """Hosts, host:port or networks that may be private and plain http. Everything else must be public https."""
    schedule: Annotated[
        tuple[DurationOrZero, ...],
        NoDecode,
        BeforeValidator(_parse_schedule),
        Field(min_length=1, max_length=50, json_schema_extra={"default": "standard"}),
        WithJsonSchema(
            {
                "anyOf": [
                    {"const": "standard"},
                    {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 50,
                        "items": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": DURATION_PATTERN}]},
                    },
                ]
            }
        ),
    ] = STANDARD_SCHEDULE
    """The delays before each attempt: "standard", or a list such as [0s, 5s, 5m]. The first one is made at once."""


class RetrySettings(Section):
    """How a call to a provider is repeated where that is safe."""

    attempts: Attempts = 3
    """How often a call is made at most, the first one included."""
    backoff: DurationOrZero = 0.1
    """The longest wait before the second attempt; it doubles with each further one."""
    backoff_max: DurationOrZero = 5.0
    """The longest wait there is."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.backoff_max < self.backoff:
            raise_validation_error([(("backoff_max",), "must be at least backoff")])
        return self


class BreakerSettings(Section):
    """When a workflow whose provider fails is left alone for a while."""

    failures: Count = 3
    """How many starts must have failed within the window, at least."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Which share of the starts within the window must have failed, at least."""
    window: Duration = 10.0
    """How far back failures count."""
    cooldown: Duration = 10.0
    """How long the circuit stays open before one run may try; six times longer after each failed try."""
    cooldown_max: Duration = 300.0
    """The longest time it stays open."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.cooldown_max < self.cooldown:
            raise_validation_error([(("cooldown_max",), "must be at least cooldown")])
        return self


class PollingSettings(Section):
    """How PromptLayer is asked whether a run is done."""

    first: Duration = 0.25
    """The shortest wait; when to ask is learned from how long a workflow's runs usually take."""
    max: Duration = 60.0
    """The longest wait between two questions."""
    timeout: Duration = 10.0
    """How long one question may stay unanswered before it is asked again."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.max < self.first:
            raise_validation_error([(("max",), "must be at least first")])
        return self

"""Sections of the gateway itself: server, logs, store, callbacks, retries, breaker, polling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FilePath, WithJsonSchema, model_validator

from gateway.settings.errors import raise_validation_error
from gateway.settings.types.addresses import (
    AllowedTarget,
    BaseUrl,
    Host,
    NetworkSetting,
    ProxyUrl,
    StoreUrl,
    WebhookUrl,
)
from gateway.settings.types.fields import PLAIN_TEXT, Attempts, Count, KeyHash, Name, Port, Timestamp
from gateway.settings.types.secret_reference import ProxyCredentials, Secret, WebhookSecret
from gateway.settings.types.units import DURATION_PATTERN, Duration, DurationOrZero, HeaderSize, Lease, Size

STANDARD_SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Delays in seconds that the Standard Webhooks specification suggests ("Deliverability and reliability")."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, instances are immutable, errors contain no values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KeySettings(Section):
    """A key, by its hash."""

    hash: KeyHash
    """sha256: and the key's SHA-256 in hexadecimal, as `runward keys` prints it."""
    expires: Timestamp | None = None
    """Expiry: a date (00:00 UTC) or a date and time; never by default."""


class OpsKeySettings(KeySettings):
    """A key of the operations port, by its hash."""

    role: Literal["viewer", "operator"] = "operator"
    """viewer: may read everything; operator: may change something too, such as the mode of a provider."""
    name: Name | None = None
    """Name of the person or program that has the key, for records of changes; none by default."""
    team: Name | None = None
    """viewer: may read what belongs to this team only, its runs and its clients; everything by default."""

    @model_validator(mode="after")
    def _require_viewer_for_team(self) -> Self:
        if self.team is not None and self.role != "viewer":
            raise_validation_error([(("team",), "needs role: viewer")])
        return self


class TlsSettings(Section):
    """TLS of a port. The files are read again when they change; open connections are kept."""

    cert: FilePath
    """Certificate with its chain, PEM."""
    key: FilePath
    """Private key of the certificate, PEM, without a passphrase."""
    client_ca: FilePath | None = None
    """Certificates of the authorities that issue client certificates (mutual TLS), PEM; none by default."""
    client_certificates: Literal["optional", "required"] = "required"
    """Client certificates are required or optional; one that is presented must be valid in both cases."""

    @model_validator(mode="after")
    def _require_client_ca(self) -> Self:
        if self.client_ca is None and "client_certificates" in self.model_fields_set:
            raise_validation_error([(("client_certificates",), "needs client_ca")])
        return self


class OpsTlsSettings(Section):
    """TLS of the operations port; each value defaults to that of server.tls."""

    enabled: bool = True
    """Use TLS on the operations port if it has a certificate; false: plain HTTP."""
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
    """Ports, and limits that apply before a request is authenticated."""

    host: Host = "127.0.0.1"
    """Address of the public port; 0.0.0.0 for every interface, :: for every interface with IPv6 and IPv4."""
    port: Port = 8080
    """Public port; 0: chosen by the system."""
    ops_host: Host = "127.0.0.1"
    """Address of the operations port (metrics, health, callbacks), as for host."""
    ops_port: Port = 9090
    """Operations port; 0: chosen by the system."""
    drain: DurationOrZero = 10.0
    """Graceful shutdown: time for which requests are accepted while readiness fails."""
    grace: Duration = 60.0
    """Graceful shutdown: time for runs in flight to end after `drain`; durable runs continue on another replica."""
    max_body: Size = 1_000_000
    """Largest request body; larger ones are answered with 413."""
    max_in_flight: Count = 2000
    """Concurrent requests; further ones are answered with 503 (load shedding). Beyond it, up to twice as many in sum, a
    client is served that has less than its share: max_in_flight / clients with requests in progress."""
    header_timeout: Duration = 10.0
    """Time to receive the headers of a request; also the time for which a client may read nothing of its response."""
    idle_timeout: Duration = 75.0
    """Keep-alive time: a connection without a request is closed after it; longer than the load balancer's."""
    body_timeout: Duration = 10.0
    """Time to receive the body of a request; then 408."""
    open_docs: bool = False
    """Serve /openapi.json on the public port without a key."""
    trusted_proxies: tuple[NetworkSetting, ...] = ()
    """Networks of proxies whose X-Forwarded-For and X-Forwarded-Prefix are trusted; ignored from other addresses."""
    public_url: BaseUrl | None = None
    """URL at which providers reach the gateway; PromptLayer then reports the end of a run and is polled less."""
    max_passthrough: Size = 20_000_000
    """Largest body of a request that is passed through, and of its response; larger ones are a 413 or a 502."""
    max_queued: Count = 1000
    """Background runs of one client; further ones are answered with 503."""
    max_queued_per_workflow: Count = 5000
    """Background runs of one workflow, over all clients; further ones are answered with 503."""
    max_header: HeaderSize = 8190
    """Largest request line and header field, from 4kB to 1MiB; larger ones are answered with 431."""
    max_bytes_in_flight: Size | None = None
    """Bytes of request bodies, answers and responses that one process holds; a run whose answer would exceed them is
    answered with 503 before it is started. By default a quarter of the memory limit (container, else machine)."""
    tls: TlsSettings | None = None
    """TLS (1.2 or newer) of both ports; none by default: plain HTTP."""
    ops_tls: OpsTlsSettings = OpsTlsSettings()
    """TLS of the operations port where it differs from server.tls."""
    ops_keys: tuple[OpsKeySettings, ...] = ()
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
    """Logging."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """json, console, or auto: console on a terminal."""
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the access lines of successful requests that are written; all others always are."""
    slow: Duration = 30.0
    """Access lines of requests that take as long are always written."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """TLS files in PEM: trusted CA certificates (default: those of the system), client certificate and its key."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None


SYSTEM_TLS = TlsFiles()
"""The CA certificates of the system, and no client certificate."""


class StoreSettings(Section):
    """Store of runs, idempotency records and callbacks."""

    url: StoreUrl = "sqlite:///var/runward.db"
    """sqlite:///path, redis://user@host:port/0 for replicas (rediss:// for TLS), or memory:// for tests.

    redis+sentinel://user@host:26379,host2:26379/name/0 (rediss+sentinel:// for TLS) is the primary `name` that Redis
    Sentinel reports.
    """
    password: Secret | None = None
    """Password of the Redis or Valkey server; none by default."""
    sentinel_password: Secret | None = None
    """Password of the Sentinel processes; none by default."""
    ca_file: FilePath | None = None
    """CA certificates to trust instead of the system's for a rediss:// server, in PEM."""
    client_cert_file: FilePath | None = None
    """Client certificate for a rediss:// server, in PEM; the file may contain its key."""
    client_key_file: FilePath | None = None
    """Key of the client certificate, in PEM; in client_cert_file by default."""
    retention: Duration = 7 * 86400.0
    """Time for which a finished run can be looked up."""
    lease: Lease = 30.0
    """Lease of a replica on its runs and its slots of shared limits, renewed by heartbeats."""

    @property
    def tls_files(self) -> TlsFiles:
        """The TLS files of the store."""
        return TlsFiles(self.ca_file, self.client_cert_file, self.client_key_file)

    @model_validator(mode="after")
    def _require_tls_for_files(self) -> Self:
        names = [name for name in ("ca_file", "client_cert_file", "client_key_file") if getattr(self, name)]
        if names and not self.url.startswith("rediss"):
            raise_validation_error([((name,), "needs a rediss:// store.url") for name in names])
        if self.sentinel_password and "+sentinel:" not in self.url:
            raise_validation_error([(("sentinel_password",), "needs a redis+sentinel:// store.url")])
        if self.client_key_file and not self.client_cert_file:
            raise_validation_error([(("client_key_file",), "needs client_cert_file")])
        return self


class HistorySettings(Section):
    """Records of runs: what happened to them, without input and output."""

    keep: Literal["all", "kept", "none"] = "all"
    """Runs with a record: all; kept: only those whose results the store keeps; none: not even their timelines."""
    retention: Annotated[Duration, Field(alias="for")] = 7 * 86400.0
    """Time for which the records of other runs are kept; those of kept runs are kept for store.retention."""
    most: Count | None = None
    """Most records of other runs; the oldest are deleted. Default: a million in SQLite, 100 000 in Redis or Valkey."""


class AuditSettings(Section):
    """Audit records: what was changed, by which operator."""

    retention: Annotated[Duration, Field(alias="for")] = 400 * 86400.0
    """Time for which they are kept."""
    most: Count | None = None
    """Most records; the oldest are deleted. Default: a million in SQLite, 200 000 in Redis or Valkey."""


def _parse_schedule(value: object) -> object:
    if isinstance(value, str):
        return STANDARD_SCHEDULE if value == "standard" else value.split(",")
    return value


class CallbackSettings(Section):
    """Delivery of results to a `callback_url`."""

    secrets: tuple[WebhookSecret, ...] = ()
    """Signing secrets (Standard Webhooks: whsec_ and base64), newest first; two during a rotation."""
    allow: tuple[AllowedTarget, ...] = ()
    """Receivers (hosts, host:port or networks) that may be private and plain http; others must be public https."""
    proxy: ProxyUrl | None = None
    """HTTP proxy for deliveries (CONNECT): http://host:port; none by default."""
    proxy_auth: ProxyCredentials | None = None
    """User and password of the proxy, as user:password; none by default."""
    schedule: Annotated[
        tuple[DurationOrZero, ...],
        PLAIN_TEXT,
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
    """Delays before each attempt: "standard", or a list such as [0s, 5s, 5m]."""

    @model_validator(mode="after")
    def _require_proxy(self) -> Self:
        if self.proxy_auth is not None and self.proxy is None:
            raise_validation_error([(("proxy_auth",), "needs proxy")])
        return self


class AttentionSettings(Section):
    """Announcement of what needs an operator (`GET /api/attention` of the operations port)."""

    webhook: WebhookUrl | None = None
    """URL that gets new items, signed with callbacks.secrets: public https, or in callbacks.allow. None by default."""


class RetrySettings(Section):
    """Retries of provider calls that cannot start a second run: exponential backoff with jitter."""

    attempts: Attempts = 3
    """Attempts, the first included."""
    backoff: DurationOrZero = 0.1
    """Longest wait before the second attempt; doubled for each further one."""
    backoff_max: DurationOrZero = 5.0
    """Longest wait before any attempt."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.backoff_max < self.backoff:
            raise_validation_error([(("backoff_max",), "must be at least backoff")])
        return self


class BreakerSettings(Section):
    """Circuit breaker of each workflow."""

    failures: Count = 3
    """Failed starts within the window that open the circuit, at least."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of failed starts within the window that opens the circuit, at least."""
    window: Duration = 10.0
    """Length of the sliding window."""
    cooldown: Duration = 10.0
    """Time until one trial run is let through; six times longer after each failed trial."""
    cooldown_max: Duration = 300.0
    """Longest time until a trial run."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.cooldown_max < self.cooldown:
            raise_validation_error([(("cooldown_max",), "must be at least cooldown")])
        return self


class PollingSettings(Section):
    """Polling of PromptLayer for results."""

    first: Duration = 0.25
    """Shortest interval; intervals adapt to the usual duration of a workflow's runs."""
    max: Duration = 60.0
    """Longest interval."""
    timeout: Duration = 10.0
    """Timeout of one poll; then it is repeated."""
    follow_for: DurationOrZero = 3600.0
    """Time after its deadline for which a started run is polled on, until its record has its true end."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.max < self.first:
            raise_validation_error([(("max",), "must be at least first")])
        return self

"""Factories of authentication, and of the records of what operators change, from the settings."""

from __future__ import annotations

import os
import platform

from gateway.app.tokens import login_config
from gateway.audit.recorder import AuditRecorder
from gateway.auth.certificates import CertificateIndex
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRing
from gateway.auth.oidc.login import OidcLogin
from gateway.auth.ops_keys import OpsKey, OpsKeys, Role
from gateway.auth.sessions import SecretStore, Sessions
from gateway.clock import Clock
from gateway.http.ops_authentication import OpsAuthenticator
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.runs.housekeeping_tasks import AuditLimits
from gateway.settings import Settings
from gateway.store.audit import KeepsAudit


def key_ring(settings: Settings) -> KeyRing:
    """Look-up from a gateway key to its client."""
    return KeyRing({name: [(key.hash, key.expires) for key in s.keys] for name, s in settings.clients.items()})


def certificate_index(settings: Settings) -> CertificateIndex:
    """Look-up from a client certificate to its client."""
    return CertificateIndex({name: s.certificates for name, s in settings.clients.items()})


def ops_keys(settings: Settings) -> OpsKeys:
    """Keys of the operations port."""
    return OpsKeys([OpsKey(k.hash, Role(k.role), k.name, k.expires, k.team) for k in settings.server.ops_keys])


def ops_authenticator(
    settings: Settings, keys: OpsKeys, store: SecretStore, clock: Clock, log: Logger
) -> OpsAuthenticator:
    """Authentication of the operations port; the secret of its sessions is in the store. Raises SettingsError."""
    trusted_proxies, login = settings.server.trusted_proxies, OidcLogin(login_config(settings), store, clock)
    limiter = FailedAuthLimiter(clock)
    return OpsAuthenticator(keys, Sessions(store, clock), login, limiter, trusted_proxies, clock, log)


def audit_limits(settings: Settings) -> AuditLimits:
    """Return how long audit records are kept, and how many at most."""
    audit, in_redis = settings.audit, settings.store.url.startswith("redis")
    return AuditLimits(audit.retention, audit.most or (200_000 if in_redis else 1_000_000))


def audit_recorder(store: KeepsAudit, clock: Clock, log: Logger, metrics: Metrics) -> AuditRecorder:
    """Recording of audit records, each with the name of this machine and the id of this process."""
    return AuditRecorder(store.audit, clock, log, metrics.audit_record_dropped, f"{platform.node()}/{os.getpid()}")

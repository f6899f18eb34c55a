"""Errors of each file in tests/bad_config (R84)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import SettingsError, load

FOLDER = Path(__file__).parent.parent / "bad_config"
ENVIRON = {
    "STUDIO_KEY": "ps_4f9a8b7c6d5e",
    "EMPTY": "",
    "PLACEHOLDER": "changeme",
    "SHORT": "abc1234",
    "TWO_LINES": "first-half\nsecond-half",
}

AMOUNT = "must be an amount such as 0.04, of at most 1000000000 and with at most 6 decimals"
ANCHOR = "anchors and aliases are not accepted: write it out"
CHARACTERS = "the secret has characters that cannot be sent in a header, or spaces around it"
CREDENTIALS = "the secret must be user:password"
DATABASE = "must end with the number of a database, such as redis://host:6379/0"
DATE = "must be a date such as 2027-01-31, or 2027-01-31T12:00:00Z"
DURATION = "must be a duration such as 500ms, 10s, 2m, 1h or 7d"
HASH = "must be sha256: and 64 hexadecimal digits: the hash of the key, never the key"
HTTPS = "must be https, unless allow_http: true accepts that the key can be read on the network"
LITERAL = "secrets are not accepted in the YAML: use {env: NAME} or {file: PATH}"
MAPPING = "must be a mapping (key: value)"
NAME = "a name has letters, digits, '.', '_' and '-' only, and 100 of them at most"
NETWORK = "must be an address or a network such as 10.0.0.0/8"
PASSTHROUGH_RULE = "must be a method and a path such as POST /log-request or GET /prompt-templates/*"
QUERY = "must not have a query or fragment"
RATE = "must be a rate such as 50/s, 100/m or 10/h"
REQUIRED = "is required"
SCOPE = "must be a pattern over aliases such as support-*, or provider/pattern"
UNPRICED = "covers workflows without a price (price: 0 says that one is free)"
UNKNOWN = "unknown key"
PROXY = "must be a URL such as http://proxy.example.com:3128"
WEBHOOK = "must be a URL such as https://alerts.example.com/runward"
URL = "must be a URL such as https://api.example.com"

# The file's line where it is known, and the setting; the complaint.
INVALID_FILES = {
    "empty": ("", "is empty"),
    "not_yaml": (":3", "not valid YAML (column 1)"),
    "not_a_mapping": ("", MAPPING),
    "two_documents": (":3", "a second document is not accepted"),
    "duplicate_key": (":6 workflows.triage", "duplicate key (first on line 5)"),
    "duplicate_nested_key": (":4 server.port", "duplicate key (first on line 2)"),
    "anchor": (":1 server", ANCHOR),
    "alias": (":1 server.host", ANCHOR),
    "tag": (":2 server.host", "tags are not accepted"),
    "key_not_text": (":2 server", "has a key that is not a text"),
    "nested_too_deep": (":1 server.a.a.a.a.a.a.a.a.a.a.a.a", "nested deeper than 12 levels"),
    "misspelled_section": (":1 servers", "unknown key (did you mean server?)"),
    "misspelled_key": (":6 workflows.triage.provder", "unknown key (did you mean provider?)"),
    "unknown_key": (":5 workflows.triage.canary_free", UNKNOWN),
    "unknown_limit": (":4 providers.studio.limits.daily", UNKNOWN),
    "missing_provider": (":2 workflows.triage.provider", REQUIRED),
    "missing_api_key": (":2 providers.studio.api_key", REQUIRED),
    "missing_hash": (":3 clients.app.keys[0].hash", REQUIRED),
    "missing_scope": (":2 clients.app.workflows", REQUIRED),
    "section_is_a_text": (":1 server", MAPPING),
    "entry_is_null": (":2 workflows.triage", MAPPING),
    "list_is_a_text": (":5 workflows.triage.fallback", "must be a list"),
    "label_is_a_number": (":5 workflows.triage.label", "must be a text (a number or date needs quotes)"),
    "port_is_a_text": (":1 server.port", "must be a whole number"),
    "port_too_high": (":1 server.port", "must be at most 65535"),
    "ports_equal": (":1 server.ops_port", "must differ from server.port"),
    "attempts_is_a_bool": (":1 retries.attempts", "must be a whole number"),
    "attempts_too_many": (":1 retries.attempts", "must be at most 10"),
    "bool_is_a_text": (":1 server.open_docs", "must be true or false"),
    "unknown_level": (":1 logs.level", "must be 'debug', 'info', 'warning' or 'error'"),
    "bad_duration": (":1 server.drain", DURATION),
    "negative_duration": (":1 server.drain", DURATION),
    "endless_duration": (":1 server.drain", DURATION),
    "zero_timeout": (":5 workflows.triage.timeout", "must be longer than 0"),
    "bad_size": (":1 server.max_body", "must be a size such as 64kB, 1MB or 1MiB, and at most 1GiB"),
    "bad_rate": (":4 providers.studio.limits.rate", RATE),
    "rate_without_period": (":4 providers.studio.limits.rate", RATE),
    "burst_without_rate": (":4 providers.studio.limits.burst", "limits nothing without a rate"),
    "backoff_upside_down": (":1 retries.backoff_max", "must be at least backoff"),
    "polling_upside_down": (":1 polling.max", "must be at least first"),
    "alias_with_slash": (":5 workflows.a/b", NAME),
    "alias_of_dots": (":5 workflows...", NAME),
    "alias_too_long": (f":5 workflows.{'a' * 100}…", NAME),
    "provider_name_with_space": (":2 providers.my studio", NAME),
    "client_name_with_umlaut": (":2 clients.Käse", NAME),
    "own_name_of_dots": (
        ":5 workflows.triage.name",
        "must be a name of 1 to 500 printable characters, and neither . nor ..",
    ),
    "secret_in_yaml": (":3 providers.studio.api_key", LITERAL),
    "numeric_secret_in_yaml": (":2 providers.studio.api_key", LITERAL),
    "callback_secret_in_yaml": (":2 callbacks.secrets[0]", LITERAL),
    "content_key_in_yaml": (":3 content.encrypt.key", LITERAL),
    "content_keys_in_yaml": (":3 content.encrypt.keys[0]", LITERAL),
    "secret_env_and_file": (":2 providers.studio.api_key", "has both env and file: give one"),
    "secret_of_neither": (":2 providers.studio.api_key", "must be {env: NAME} or {file: PATH}"),
    "secret_missing": (":2 providers.studio.api_key", "the environment variable NOBODY_SET_THIS is not set"),
    "secret_as_variable_name": (":2 providers.studio.api_key", "the environment variable it names is not set"),
    "secret_file_missing": (
        ":2 providers.studio.api_key",
        "the secret's file cannot be read (No such file or directory)",
    ),
    "secret_empty": (":2 providers.studio.api_key", "the secret is empty"),
    "secret_placeholder": (":2 providers.studio.api_key", "the secret is a placeholder"),
    "secret_short": (":2 providers.studio.api_key", "the secret is shorter than 8 characters"),
    "secret_not_sendable": (":2 providers.studio.api_key", CHARACTERS),
    "base_url_not_a_url": (":4 providers.studio.base_url", URL),
    "base_url_other_scheme": (":4 providers.studio.base_url", URL),
    "base_url_with_user": (
        ":4 providers.studio.base_url",
        "must not contain a user or password: the key belongs in api_key",
    ),
    "base_url_with_query": (":4 providers.studio.base_url", QUERY),
    "base_url_with_fragment": (":4 providers.studio.base_url", QUERY),
    "base_url_bad_port": (":4 providers.studio.base_url", "is not a URL"),
    "base_url_plain_http": (":4 providers.studio.base_url", HTTPS),
    "ca_file_missing": (":4 providers.studio.ca_file", "names no file"),
    "store_url_other_scheme": (":1 store.url", "must be sqlite:///path, memory://, redis://host or rediss://host"),
    "store_url_with_password": (":1 store.url", "must not contain a password: it belongs in store.password"),
    "store_url_with_user": (":1 store.url", "must not contain a user or password"),
    "store_url_database": (":1 store.url", DATABASE),
    "proxy_with_password": (
        ":4 providers.studio.proxy",
        "must not contain a user or password: they belong in proxy_auth",
    ),
    "proxy_other_scheme": (":4 providers.studio.proxy", PROXY),
    "proxy_without_port": (":2 callbacks.proxy", PROXY),
    "proxy_auth_without_proxy": (":2 callbacks.proxy_auth", CREDENTIALS),
    "proxy_auth_in_yaml": (":3 callbacks.proxy_auth", LITERAL),
    "max_header_too_small": (":1 server.max_header", "must be from 4kB to 1MiB"),
    "store_password_in_yaml": (":1 store.password", LITERAL),
    "proxy_not_a_network": (":1 server.trusted_proxies[1]", NETWORK),
    "proxy_with_host_bits": (":1 server.trusted_proxies[0]", NETWORK),
    "bad_allow": (":1 callbacks.allow[0]", "must be a host, *.host, host:port or network"),
    "webhook_not_a_url": (":1 attention.webhook", WEBHOOK),
    "webhook_with_user": (
        ":1 attention.webhook",
        "must not contain a user or password: messages are signed",
    ),
    "webhook_with_fragment": (
        ":1 attention.webhook",
        "must not have a fragment, and 2000 characters at most",
    ),
    "webhook_unsigned": (":1 attention.webhook", "needs callbacks.secrets: messages are signed with them"),
    "bad_schedule": (":1 callbacks.schedule[1]", DURATION),
    "passthrough_without_method": (":8 clients.checkout.passthrough.studio[0]", PASSTHROUGH_RULE),
    "passthrough_to_everything": (":8 clients.checkout.passthrough.studio[0]", PASSTHROUGH_RULE),
    "passthrough_with_host": (":8 clients.checkout.passthrough.studio[0]", PASSTHROUGH_RULE),
    "passthrough_with_dots": (
        ":8 clients.checkout.passthrough.studio[0]",
        "must be a path without '.', '..', doubled slashes, or escapes of what needs none",
    ),
    "passthrough_unknown_provider": (
        ":8 clients.checkout.passthrough.studi",
        "no such provider (did you mean studio?)",
    ),
    "unknown_provider": (":5 workflows.triage.provider", "no such provider (did you mean studio?)"),
    "unknown_fallback": (":5 workflows.triage.fallback[0]", "no such workflow"),
    "fallback_to_itself": (":5 workflows.triage.fallback[0]", "a workflow cannot be its own fallback"),
    "fallback_twice": (":5 workflows.triage.fallback[1]", "is listed twice"),
    "name_of_another": (":5 workflows.two.aliases.prompt_studio[1]", "workflows.one has this name already"),
    "fallback_in_a_circle": (":5 workflows.one.fallback", "leads back to itself (one → two → three → one)"),
    "label_and_version": (":5 workflows.triage.version", "label and version exclude each other"),
    "version_zero": (":5 workflows.triage.version", "must be at least 1"),
    "max_timeout_too_short": (":5 workflows.triage.max_timeout", "must be at least timeout"),
    "key_instead_of_hash": (":3 clients.app.keys[0].hash", HASH),
    "bad_expiry": (":3 clients.app.keys[0].expires", DATE),
    "numeric_expiry": (":3 clients.app.keys[0].expires", DATE),
    "shared_key": (":6 clients.other.keys[0].hash", "clients.app has this key already"),
    "key_twice": (":3 clients.app.keys[1].hash", "clients.app has this key already"),
    "bad_scope": (":3 clients.app.workflows[1]", SCOPE),
    "price_no_number": (":5 workflows.triage.price", AMOUNT),
    "price_negative": (":5 workflows.triage.price", AMOUNT),
    "price_too_exact": (":5 workflows.triage.price", AMOUNT),
    "price_of_label": (":5 workflows.triage.price.labels.prod", AMOUNT),
    "price_without_default": (":5 workflows.triage.price.default", REQUIRED),
    "budget_without_price": (":8 budgets.all", f"{UNPRICED}: triage"),
    "budget_of_client_without_price": (":8 clients.app.budget", f"{UNPRICED}: other, studio/*"),
    "budget_amount_no_number": (":5 budgets.all.amount", AMOUNT),
    "budget_period": (":5 budgets.all.per", "must be 'day', 'week' or 'month'"),
    "budget_of_unknown_client": (":5 budgets.all.client", "no such client (did you mean shops?)"),
    "budget_share": (":5 budgets.all.warn_at[1]", "must be a share such as 80%, from 1% to 100%"),
    "empty_scope": (":3 clients.app.workflows", "must have at least 1"),
}


@pytest.mark.parametrize("mistake", INVALID_FILES)
def test_an_invalid_file_is_refused_with_its_location(mistake: str) -> None:
    """R84: a mistake is refused with one complaint, which names the line and the setting."""
    place, complaint = INVALID_FILES[mistake]
    error = load_error(mistake)
    assert ((f"{mistake}.yaml{place}", complaint),) == error.errors
    assert f"{mistake}.yaml{place}: {complaint}" == str(error)


@pytest.mark.parametrize("mistake", INVALID_FILES)
def test_an_invalid_file_is_refused_without_its_value(mistake: str) -> None:
    """R84: neither the error nor its causes show a value; invalid values in the files contain "canary"."""
    error = load_error(mistake)
    assert "canary" not in str(error).replace("canary_free", "")
    assert not [value for value in ENVIRON.values() if value and value in str(error)]
    assert (None, None) == (error.__cause__, error.__context__)


def test_every_file_is_tested() -> None:
    """Every file has a row in the table."""
    assert sorted(INVALID_FILES) == sorted(path.stem for path in FOLDER.glob("*"))


def load_error(mistake: str) -> SettingsError:
    """Load the file; returns the error."""
    with pytest.raises(SettingsError) as refused:
        load(FOLDER / f"{mistake}.yaml", ENVIRON)
    return refused.value

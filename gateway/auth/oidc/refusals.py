"""Reasons for the refusal of a token."""

from __future__ import annotations

import enum


class TokenRefusal(enum.Enum):
    """Reason, for logs and metrics. The response is the same for all of them but KEYS_UNAVAILABLE."""

    MALFORMED = "token_malformed"  # no compact JWS, or no unambiguous JSON in it
    TOO_LARGE = "token_too_large"
    ALGORITHM = "token_algorithm"  # not one of the allowed algorithms, or not one of the key
    TYPE = "token_type"  # `typ` of something that is no access or id token, or a nested token
    CRITICAL = "token_critical"  # an extension that must be understood
    NO_KEY_ID = "token_no_key_id"
    UNKNOWN_KEY = "token_unknown_key"  # the issuer has no key with this id
    SIGNATURE = "token_signature"
    ISSUER = "token_issuer"  # not configured
    AUDIENCE = "token_audience"
    AUTHORIZED_PARTY = "token_authorized_party"  # `azp` of a token with several audiences
    CLAIMS = "token_claims"  # a claim is missing, or has no valid form
    EXPIRED = "token_expired"
    NOT_YET_VALID = "token_not_yet_valid"
    BOUND = "token_bound"  # `cnf`: it must not be accepted without a proof of possession
    NO_MATCH = "token_no_match"  # valid, and no client matches
    AMBIGUOUS = "token_ambiguous"  # valid, and several clients match
    KEYS_UNAVAILABLE = "token_keys_unavailable"  # the issuer's keys were never fetched, or are too old


class TokenRefused(Exception):
    """A token is refused. `reason`: for logs; it holds nothing of the token."""

    def __init__(self, reason: TokenRefusal) -> None:
        super().__init__(reason.value)
        self.reason = reason

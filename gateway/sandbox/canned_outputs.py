"""Deterministic outputs of the sandbox workflows; no model is called."""

from __future__ import annotations

from gateway.sandbox.model import NodeFailed, NodeSkipped, RunInput
from providers.contract import JsonValue

_CATEGORIES = {
    "billing": ("bill", "invoice", "charge", "refund", "payment", "subscription"),
    "account": ("password", "log in", "login", "sign in", "account", "email"),
    "shipping": ("deliver", "shipping", "parcel", "package", "tracking"),
    "technical": ("error", "crash", "bug", "broken", "not work", "slow"),
}
_URGENT = ("urgent", "immediately", "asap", "outage", "twice", "right now")
_REPLIES = {
    "billing": "Thank you for writing. We are checking your invoice and will correct any wrong charge.",
    "account": "Thank you for writing. We have sent you a link with which you can reach your account again.",
    "shipping": "Thank you for writing. Your parcel is on its way; here is how to follow it.",
    "technical": "Thank you for writing. We could reproduce the problem and are working on it.",
    "general": "Thank you for writing. A colleague will answer you today.",
}
_KNOWN_ANSWERS = {
    "what is the fastest car in the world?": (
        "The current record holder for the fastest car in the world is the Bugatti Chiron Super Sport 300+, "
        "which reached a top speed of 304.77 mph (490.48 km/h) in 2019."
    )
}
_MEBIBYTE = 1024 * 1024
_TRACEBACK = 'Traceback (most recent call last):\n  File "node.py", line 3, in run\nZeroDivisionError: division by zero'


def echo(run_input: RunInput) -> JsonValue:
    """The input itself."""
    return dict(run_input.input)


def classify(run_input: RunInput) -> JsonValue:
    """Return the category of `message` by keyword, and its urgency."""
    return {**_classify_message(run_input.get_text("message"))}


def triage(run_input: RunInput) -> JsonValue:
    """Category, priority and a reply to `message`; names the version that answered."""
    label = _classify_message(run_input.get_text("message"))
    return {**label, "reply": _REPLIES[label["category"]], "prompt_version": run_input.version}


def reply(run_input: RunInput) -> JsonValue:
    """A reply to `user_message`."""
    return _REPLIES[_classify_message(run_input.get_text("user_message"))["category"]]


def summary(run_input: RunInput) -> JsonValue:
    """The first sentence of `text`, 200 characters at most."""
    sentence = run_input.get_text("text").split(". ")[0].strip().rstrip(".")[:200]
    return sentence and f"{sentence}."


def translation(run_input: RunInput) -> JsonValue:
    """The summary, marked as translated into `language`; skipped if no language is requested."""
    language = run_input.get_text("language")
    if not language:
        raise NodeSkipped
    return f"[{language[:20]}] {summary(run_input)}"


def completion(run_input: RunInput) -> JsonValue:
    """An object as Prompt Studio's page shows it: one completion of `prompt`."""
    prompt = run_input.get_text("prompt")
    text = _KNOWN_ANSWERS.get(prompt, f"No model was asked about these {len(prompt)} characters: this is the sandbox.")
    return {"completion": text}


def large_text(run_input: RunInput) -> JsonValue:
    """Text of the size in the input variable `bytes`, 16 MiB by default, 64 MiB at most."""
    return "x" * int(run_input.get_number("bytes", default=16 * _MEBIBYTE, maximum=64 * _MEBIBYTE))


def large_object(run_input: RunInput) -> JsonValue:
    """`large_text`, in an object."""
    return {"completion": large_text(run_input)}


def empty_object(_: RunInput) -> JsonValue:
    """An empty object."""
    return {}


def fail(_: RunInput) -> JsonValue:
    """Always a failure, with a stack trace in its text as PromptLayer's have."""
    raise NodeFailed(f"Code execution failed: {_TRACEBACK}")


def _classify_message(message: str) -> dict[str, str]:
    text = message.lower()
    found = (name for name, keywords in _CATEGORIES.items() if any(word in text for word in keywords))
    urgent = any(keyword in text for keyword in _URGENT)
    return {"category": next(found, "general"), "priority": "high" if urgent else "normal"}

"""What the sandbox's workflows answer: no model is asked, so it is always the same, and plausible enough."""

from __future__ import annotations

from gateway.sandbox.workflows import NodeFailed, NodeSkipped, Question
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
_KNOWN = {
    "what is the fastest car in the world?": (
        "The current record holder for the fastest car in the world is the Bugatti Chiron Super Sport 300+, "
        "which reached a top speed of 304.77 mph (490.48 km/h) in 2019."
    )
}
_MEBIBYTE = 1024 * 1024
_TRACEBACK = 'Traceback (most recent call last):\n  File "node.py", line 3, in run\nZeroDivisionError: division by zero'


def echo(question: Question) -> JsonValue:
    """The input itself."""
    return dict(question.input)


def classify(question: Question) -> JsonValue:
    """The category of `message` by keyword, and how urgent it sounds."""
    return {**_classified(question.text("message"))}


def triage(question: Question) -> JsonValue:
    """Category, priority and a reply to `message`; names the version that answered."""
    label = _classified(question.text("message"))
    return {**label, "reply": _REPLIES[label["category"]], "prompt_version": question.version}


def reply(question: Question) -> JsonValue:
    """A reply to `user_message`."""
    return _REPLIES[_classified(question.text("user_message"))["category"]]


def summary(question: Question) -> JsonValue:
    """The first sentence of `text`, 200 characters at most."""
    sentence = question.text("text").split(". ")[0].strip().rstrip(".")[:200]
    return sentence and f"{sentence}."


def translation(question: Question) -> JsonValue:
    """The summary, marked as translated into `language`; skipped where none is asked for."""
    language = question.text("language")
    if not language:
        raise NodeSkipped
    return f"[{language[:20]}] {summary(question)}"


def completion(question: Question) -> JsonValue:
    """An object as Prompt Studio's page shows it: one completion of `prompt`."""
    prompt = question.text("prompt")
    text = _KNOWN.get(prompt, f"No model was asked about these {len(prompt)} characters: this is the sandbox.")
    return {"completion": text}


def big(question: Question) -> JsonValue:
    """As many bytes as the input's `bytes` say, 16 MiB where it names none, 64 MiB at most."""
    return "x" * int(question.number("bytes", default=16 * _MEBIBYTE, most=64 * _MEBIBYTE))


def big_object(question: Question) -> JsonValue:
    """The same, in an object."""
    return {"completion": big(question)}


def nothing(_: Question) -> JsonValue:
    """An empty object."""
    return {}


def failure(_: Question) -> JsonValue:
    """Always a failure, with a stack trace in its text as PromptLayer's have."""
    raise NodeFailed(f"Code execution failed: {_TRACEBACK}")


def _classified(message: str) -> dict[str, str]:
    text = message.lower()
    found = (name for name, words in _CATEGORIES.items() if any(word in text for word in words))
    urgent = any(word in text for word in _URGENT)
    return {"category": next(found, "general"), "priority": "high" if urgent else "normal"}

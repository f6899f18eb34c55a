"""The log calls of the code: level, event and names of the fields, by a scan of the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.observability import log_schema

ROOT = Path(__file__).parent.parent.parent
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
_LOGGERS = {"log", "_log", "logger", "_logger"}
_SPAN_FIELDS = {"trace_id", "span_id"}  # of a span's `log_fields`, which a test of tracing compares
_AUDIT_FIELDS = set(log_schema.AUDIT_FIELDS)  # of `logged_fields`, which a test compares
_EXCEPTION_FIELDS = {"exception", "places"}  # of `describe_exception`, which a test compares


@dataclass(frozen=True, slots=True)
class LogCall:
    """A call of a logger. `fields`: those of every line; `optional`: those that a line may have."""

    place: str
    level: str
    event: str
    fields: frozenset[str]
    optional: frozenset[str]


class NotUnderstoodError(Exception):
    """A call whose event or fields cannot be read from the source: write them out there."""


def log_calls() -> list[LogCall]:
    """Return every log call of the gateway and its adapters."""
    files = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "providers").rglob("*.py")])
    return [call for path in files for call in _calls_in(path)]


def _calls_in(path: Path) -> Iterator[LogCall]:
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    nested = {inner for outer in functions for inner in ast.walk(outer) if inner is not outer} & set(functions)
    for function in functions:
        if function not in nested:
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and _is_log_call(call := _as_method(node)):
                    yield _read_call(call, function, f"{path.relative_to(ROOT)}:{node.lineno}")


def _as_method(call: ast.Call) -> ast.Call:
    """Return `log_fields(log, event, fields)` as `log.info(event, **fields)`, which it is short for."""
    if ast.unparse(call.func) != "log_fields":
        return call
    log, event, fields = call.args
    return ast.Call(ast.Attribute(log, "info", ast.Load()), [event], [ast.keyword(None, fields)])


def _is_log_call(call: ast.Call) -> bool:
    method = call.func
    if not isinstance(method, ast.Attribute) or method.attr not in _LEVELS:
        return False
    logger = method.value
    name = logger.attr if isinstance(logger, ast.Attribute) else logger.id if isinstance(logger, ast.Name) else ""
    return name in _LOGGERS


def _read_call(call: ast.Call, function: ast.AST, place: str) -> LogCall:
    assert isinstance(call.func, ast.Attribute)
    level, arguments = call.func.attr, call.args
    if level == "log":
        level, arguments = "any", call.args[1:]
    event = arguments[0] if len(arguments) == 1 else None
    if not isinstance(event, ast.Constant) or not isinstance(event.value, str):
        raise NotUnderstoodError(place)
    fields = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    optional: set[str] = set()
    for keyword in call.keywords:
        if keyword.arg is None:
            always, sometimes = _read_mapping(keyword.value, function, place)
            fields |= always
            optional |= sometimes
    return LogCall(place, level, event.value, frozenset(fields), frozenset(optional - fields))


def _read_mapping(value: ast.expr, function: ast.AST, place: str) -> tuple[set[str], set[str]]:
    """Names in a mapping: of every value of the expression, and of some."""
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith(("describe_exception", "logged_fields")):
        return (set(), _EXCEPTION_FIELDS) if "describe" in ast.unparse(value.func) else (_AUDIT_FIELDS, set())
    if isinstance(value, ast.Attribute) and value.attr == "log_fields":
        return set(), _SPAN_FIELDS
    if ast.unparse(value) in {"actor", "actor_fields(request)"}:  # a mapping that `actor_fields` returned
        return set(), {"actor"}
    if isinstance(value, ast.IfExp):
        branches = [_read_mapping(branch, function, place) for branch in (value.body, value.orelse)]
        return set(), set.union(*(always | sometimes for always, sometimes in branches))
    if isinstance(value, ast.Dict):
        return {_text(key, place) for key in value.keys}, set()
    if not isinstance(value, ast.Name):
        raise NotUnderstoodError(place)
    return _read_variable(value, function, place)


def _read_variable(value: ast.Name, function: ast.AST, place: str) -> tuple[set[str], set[str]]:
    """Names in a mapping that a variable of the function holds, as `_read_mapping`."""
    always: set[str] = set()
    sometimes: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == value.id:
            sometimes |= set.union(*_read_mapping(node.value, function, place))
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            [target, *_] = node.targets if isinstance(node, ast.Assign) else [node.target]
            if isinstance(target, ast.Name) and target.id == value.id:
                found, maybe = _read_mapping(node.value, function, place)
                always |= found
                sometimes |= maybe
            elif isinstance(target, ast.Subscript) and ast.unparse(target.value) == value.id:
                sometimes.add(_text(target.slice, place))
    if not always | sometimes:
        raise NotUnderstoodError(place)
    return always, sometimes


def _text(node: ast.expr | None, place: str) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise NotUnderstoodError(place)
    return node.value

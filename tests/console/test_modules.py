"""Pure functions of the console's modules, run by Node; and the files of other projects, which are unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.api.docs.error_reference import error_document
from gateway.runs.timeline import FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

ASSETS = Path(__file__).parents[2] / "gateway" / "api" / "console" / "assets"
PURE = ("format", "filters", "run_timeline")
REQUIRED = "RUNWARD_REQUIRE_NODE"
NONE = "\N{EN DASH}"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the modules as Node takes them without a package."""
    if shutil.which("node") is None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"Node is not installed, and {REQUIRED} is set")
        pytest.skip("Node is not installed")
    folder = tmp_path_factory.mktemp("modules")
    for name in PURE:
        (folder / f"{name}.mjs").write_bytes((ASSETS / f"{name}.js").read_bytes())
    return folder


def evaluate(folder: Path, *expressions: str) -> Sequence[Any]:
    """Return the values of expressions that use the functions of the modules."""
    imports = "".join(f"import * as {name} from './{name}.mjs';" for name in PURE)
    script = f"{imports} console.log(JSON.stringify([{', '.join(expressions)}]));"
    (folder / "script.mjs").write_text(script)
    environment = {"PATH": os.environ["PATH"], "TZ": "Asia/Kolkata"}
    done = subprocess.run(
        ["node", folder / "script.mjs"], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    values: list[Any] = json.loads(done.stdout)
    return values


def test_times_are_in_utc_with_the_local_time_beside_them(modules: Path) -> None:
    utc, short, local, none = evaluate(
        modules,
        "format.utc('2026-11-27T07:25:13.585Z')",
        "format.utcTime('2026-11-27T07:25:13.585Z', {milliseconds: true})",
        "format.localTime('2026-11-27T07:25:13.585Z')",
        "format.utc(null)",
    )
    assert ("2026-11-27 07:25:13Z", "07:25:13.585", NONE) == (utc, short, none)
    assert "2026-11-27 12:55:13 +05:30 (local)" == local


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        ("0.84", "0.8 ms"),
        ("108", "108 ms"),
        ("2001", "2.00 s"),
        ("12345", "12.3 s"),
        ("59960", "1 min 0 s"),
        ("3725000", "1 h 2 min"),
        ("93600000", "1 d 2 h"),
        ("null", NONE),
    ],
)
def test_durations(modules: Path, milliseconds: str, text: str) -> None:
    assert [text] == evaluate(modules, f"format.duration({milliseconds})")


def test_states_are_in_words(modules: Path) -> None:
    runs = (
        '{"status": "not_run", "activity": null}',
        '{"status": "queued", "activity": {"state": "queued", "waiting_for": "limit"}}',
        '{"status": "running", "activity": {"state": "following", "polls": 7}}',
        '{"status": "queued", "activity": {"state": "queued", "waiting_for": "backoff", "retrying": true}}',
        '{"status": "running", "activity": {"state": "starting", "retrying": true}}',
    )
    expected = ["not run", "queued (limit)", "following (poll 7)", "queued (backoff)", "starting (retrying)"]
    assert expected == evaluate(modules, *(f"format.stateWords({run})" for run in runs))


def test_commands_to_copy_contain_no_key(modules: Path) -> None:
    plain, keyed, quoted = evaluate(
        modules,
        "format.curlCommand('http://127.0.0.1:9090', '/api/runs/run_1')",
        "format.curlCommand('http://127.0.0.1:9090', '/api/runs/run_1', {keyRequired: true})",
        'format.shellQuote("it\'s; rm")',
    )
    assert "curl -sS http://127.0.0.1:9090/api/runs/run_1" == plain
    assert f'{plain} -H "Authorization: Bearer $RUNWARD_OPS_KEY"' == keyed
    assert "'it'\\''s; rm'" == quoted


def test_conditions_of_a_query(modules: Path) -> None:
    values = evaluate(
        modules,
        "filters.withCondition('?status=failed&cursor=abc', 'workflow', 'a&b')",
        "filters.withCondition('?status=failed', 'status', 'unknown')",
        "filters.withCondition('?tag=a', 'tag', 'b')",
        "filters.withCondition('', 'meta', 'order=4=1')",
        "filters.withoutCondition('?status=failed&workflow=x&cursor=abc', 0)",
        "filters.viewOf('?judged=false&status=unknown&limit=10')",
        "filters.viewOf('?status=unknown')",
        "filters.replayFilter('?tag=a&tag=b&status=failed&limit=5&cursor=c')",
        "filters.lookUp('id', ' run_7dfa4142760828efb2c547c747ebabee ')",
        "filters.lookUp('id', 'run_7dfa4142')",
        "filters.lookUp('idempotency_key', 'k 1', 'app')",
    )
    assert [
        "?status=failed&workflow=a%26b",
        "?status=unknown",
        "?tag=a&tag=b",
        "?meta.order=4%3D1",
        "?workflow=x",
        "unknown",
        None,
        {"tag": ["a", "b"], "status": "failed"},
        {"path": "/runs/run_7dfa4142760828efb2c547c747ebabee"},
        {"search": "?id=run_7dfa4142"},
        {"search": "?idempotency_key=k+1&client=app"},
    ] == list(values)


def test_a_timeline_is_to_scale(modules: Path) -> None:
    run = {
        "created_at": "2026-11-27T07:00:00.000Z",
        "finished_at": "2026-11-27T07:00:10.000Z",
        "timeline": [
            {"at": "2026-11-27T07:00:00.000Z", "event": "waited", "for": "limit", "seconds": 2},
            {"at": "2026-11-27T07:00:02.000Z", "event": "called", "operation": "start", "status": 200, "seconds": 0.5},
            {
                "at": "2026-11-27T07:00:03.000Z",
                "event": "called",
                "operation": "poll",
                "status": 200,
                "count": 6,
                "seconds": 1,
            },
            {"at": "2026-11-27T07:00:10.000Z", "event": "ended", "status": "failed", "code": "run_failed"},
            {"at": "2026-11-27T09:00:10.000Z", "event": "callback_attempted", "attempt": 3, "result": "gave_up"},
        ],
    }
    [laid_out] = evaluate(modules, f"run_timeline.layOut({json.dumps(run)})")
    assert (10_000, True) == (laid_out["total"], laid_out["clipped"])
    assert [(0, 0.2), (0.2, 0.05), (0.3, 0.7), (1, 0), (1, 0)] == [
        (round(mark["left"], 3), round(mark["width"], 3)) for mark in laid_out["marks"]
    ]
    assert [0, 1, 2, 3, 4] == [mark["lane"] for mark in laid_out["marks"]]
    assert "poll 6 times: 200, 1 s" == laid_out["marks"][2]["text"]


def test_every_event_has_words(modules: Path) -> None:
    texts = evaluate(modules, *(f"run_timeline.describe({{event: {kind!r}}}).text" for kind in FIELDS))
    assert set() == set(texts) & set(FIELDS)


def test_the_copy_of_the_error_codes_is_current() -> None:
    """`make errors` writes it."""
    assert error_document() == (ASSETS / "problem_codes.json").read_text()


@pytest.mark.parametrize("folder", [ASSETS / "vendor", Path(__file__).parent / "vendor"])
def test_files_of_other_projects_are_unchanged(folder: Path) -> None:
    """Every file has a hash, and every project a licence."""
    lines = (folder / "checksums.sha256").read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split() for line in lines)}
    others = {path.name for path in folder.iterdir() if path.suffix in {".js", ".css", ".gz"}}
    assert others == set(hashes)
    for name, digest in hashes.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest(), name
    assert list(folder.glob("*.LICENSE.txt"))


def test_no_file_has_inline_scripts_or_styles_or_loads_from_elsewhere() -> None:
    page = (ASSETS.parent / "index.html").read_text()
    assert "style=" not in page
    assert "<style" not in page
    assert page.count("<script") == page.count("<script src=") + page.count('<script type="module" src=')
    for path in (ASSETS.parent / "index.html", *ASSETS.glob("*.*")):
        text = path.read_text()
        assert "https://" not in text, path.name
        assert "innerHTML" not in text, path.name
        assert "dangerouslySetInnerHTML" not in text, path.name
        assert len(text.splitlines()) <= 1000 if path.suffix == ".json" else len(text.splitlines()) <= 400

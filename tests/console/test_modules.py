"""Pure functions of the console's modules, run by Node; and the files of other projects, which are unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
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
PURE = ("format", "filters", "palette_search", "run_timeline", "spend", "start_request")
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


def test_saved_views_are_checked_bounded_and_replaced_by_name(modules: Path) -> None:
    views, replaced, full = evaluate(
        modules,
        "filters.validViews([{name: 'a', search: '?tag=y'}, {name: 1}, null, {name: 'b', search: '', columns: 1}])",
        "filters.addView([{name: 'a', search: ''}, {name: 'b', search: ''}], {name: 'a', search: '?tag=x'})",
        "filters.addView(Array.from({length: 30}, (_, n) => ({name: `${n}`, search: ''})), {name: 'one more'}).length",
    )
    assert [{"name": "a", "search": "?tag=y"}] == views
    assert ["?tag=x", ""] == [view["search"] for view in replaced]
    assert 30 == full
    assert [[]] == evaluate(modules, "filters.validViews('nonsense')")


def test_the_palette_finds_commands_by_words_and_offers_look_ups(modules: Path) -> None:
    commands = (
        "[{group: 'Go to', title: 'Runs'}, {group: 'View', title: 'Runs: Failed'}, {group: 'Go to', title: 'Live'}]"
    )
    run_id = "run_" + "0" * 32
    by_words, first, by_id, others = evaluate(
        modules,
        f"palette_search.matching({commands}, 'failed runs').map((each) => each.title)",
        f"palette_search.matching({commands}, 'li').map((each) => each.title)",
        f"palette_search.lookUps(' {run_id} ', ['app']).map((each) => each.kind)",
        "palette_search.lookUps('98766', ['app', 'web']).map((each) => [each.kind, each.client])",
    )
    assert (["Runs: Failed"], ["Live"], ["id"]) == (by_words, first, by_id)
    assert [["provider_run_id", ""], ["idempotency_key", "app"], ["idempotency_key", "web"]] == others
    assert [[], -1, 0, 2] == evaluate(
        modules,
        "palette_search.lookUps('ab')",
        "palette_search.stepped(0, 1, 0)",
        "palette_search.stepped(2, 1, 3)",
        "palette_search.stepped(0, -1, 3)",
    )


def test_a_run_on_behalf_of_a_client_is_made_of_its_form(modules: Path) -> None:
    form = {
        "client": "app",
        "workflow": " triage ",
        "key": "k-1",
        "input": '{"a": "it\'s"}',
        "tags": "x, y,",
        "timeout": "5",
    }
    [made, permitted] = evaluate(
        modules,
        f"start_request.startBody({json.dumps(form)})",
        "start_request.permitted(['support-a', 'report', 'x.y'], ['support-*', 'x.?', 'prompt_studio/*'])",
    )
    run = {"workflow": "triage", "input": {"a": "it's"}, "tags": ["x", "y"], "timeout": 5}
    assert {"body": {"client": "app", "idempotency_key": "k-1", "run": run}} == made
    assert ["support-a", "x.y"] == permitted
    operator, client = evaluate(
        modules,
        f"start_request.operatorCommand('http://127.0.0.1:9090', {json.dumps(made['body'])}, {{keyRequired: true}})",
        f"start_request.clientCommand({json.dumps(made['body'])})",
    )
    words = shlex.split(operator.replace("$RUNWARD_OPS_KEY", "secret"))
    assert ["http://127.0.0.1:9090/api/run", made["body"]] == [words[2], json.loads(words[-1])]
    assert run == json.loads(shlex.split(client)[-1])
    assert "Idempotency-Key: k-1" in shlex.split(client)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"input": "[1]"}, "The input has to be an object"),
        ({"input": "{"}, "The input is not valid JSON"),
        ({"metadata": "1"}, "The metadata has to be an object"),
        ({"workflow": " "}, "Name a workflow"),
        ({"key": ""}, "An idempotency key is needed"),
        ({"timeout": "soon"}, "The timeout has to be a number"),
    ],
)
def test_a_form_that_makes_no_request_says_why(modules: Path, changed: dict[str, str], sentence: str) -> None:
    form = {"client": "app", "workflow": "triage", "key": "k", "input": "", **changed}
    [made] = evaluate(modules, f"start_request.startBody({json.dumps(form)})")
    assert made["error"].startswith(sentence)


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


def test_the_page_names_every_module_so_that_they_are_loaded_at_once() -> None:
    """Else a browser would find them one after the other, level by level."""
    page = (ASSETS.parent / "index.html").read_text()
    named = re.findall(r'<link rel="modulepreload" href="/console/assets/([^"]+)">', page)
    modules = {path.name for path in ASSETS.glob("*.js")} - {"main.js", "theme.js"}
    assert sorted([*modules, "vendor/htm-preact.js", "vendor/uPlot.js"]) == sorted(named)


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


def test_the_query_of_the_page_spend(modules: Path) -> None:
    default, chosen, written, plain = evaluate(
        modules,
        "spend.readQuery('?days=5&by=colour&limit=3')",
        "spend.readQuery('?days=7&by=tag&client=a&client=b&team=')",
        "spend.writeQuery({days: '7', by: 'tag', conditions: [['client', 'a&b']]})",
        "spend.writeQuery(spend.readQuery(''))",
    )
    assert default == {"days": "30", "by": "client", "conditions": []}
    assert chosen == {"days": "7", "by": "tag", "conditions": [["client", "a"], ["client", "b"], ["team", ""]]}
    assert (written, plain) == ("?days=7&by=tag&client=a%26b", "")


def test_days_end_today_in_utc(modules: Path) -> None:
    assert [["2026-02-27", "2026-02-28", "2026-03-01"]] == evaluate(
        modules, "spend.daysUntil(Date.parse('2026-03-01T23:59:00Z'), 3)"
    )


def test_the_dearest_groups_have_a_series_of_their_own(modules: Path) -> None:
    """Then all others, then what may have been paid; groups that cost nothing have none."""
    rows = [
        *({"day": "d2", "client": f"c{number}", "spent": f"{number}.5", "unknown": "0"} for number in range(8)),
        {"day": "d1", "client": "", "spent": "100", "unknown": "0.25"},
        {"day": "d1", "client": "free", "spent": "0", "unknown": "0"},
        {"day": "d9", "client": "other days", "spent": "1000", "unknown": "0"},
    ]
    [series] = evaluate(modules, f"spend.seriesOf({json.dumps(rows)}, 'client', ['d1', 'd2'])")
    assert [(each["title"], each["values"]) for each in series] == [
        ("none", [100, 0]),
        *((f"c{number}", [0, number + 0.5]) for number in (7, 6, 5, 4)),
        ("all others", [0, 3.5 + 2.5 + 1.5 + 0.5]),
        ("may have been paid", [0.25, 0]),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("'0'", "0"),
        ("'1234567.5'", "1,234,567.50"),
        ("'0.000001'", "0.000001"),
        ("'12345678901234567890.123456'", "12,345,678,901,234,567,890.123456"),
        ("0.1 + 0.2", "0.30"),
        ("1e-7", "0"),
    ],
)
def test_amounts(modules: Path, value: str, text: str) -> None:
    assert [text] == evaluate(modules, f"spend.amount({value})")


@pytest.mark.parametrize(("sum_", "top"), [(0, 1), (0.03, 0.05), (1, 1), (7.2, 10), (120, 200), (499.9, 500)])
def test_the_axis_ends_at_a_round_number(modules: Path, sum_: float, top: float) -> None:
    assert [pytest.approx(top)] == evaluate(modules, f"spend.axisTop([{{values: [0, {sum_}]}}])")


def test_tags_are_combined_with_few_conditions(modules: Path) -> None:
    assert [True, False, True, False] == evaluate(
        modules,
        "spend.conflict('tag', [['workflow', 'x']]) !== ''",
        "spend.conflict('tag', [['client', 'x']]) !== ''",
        "spend.conflict('workflow', [['tag', 'x']]) !== ''",
        "spend.conflict('workflow', [['key', 'x']]) !== ''",
    )

"""YAML reader: bounded, exact, with the line of every setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.settings import SettingsError, load
from gateway.settings.sources import yaml_file
from tests.settings.sample_config import VALID, load_error

if TYPE_CHECKING:
    from pathlib import Path


BASE_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # with libyaml, as what it is compared with


def read_document(folder: Path, text: str | bytes) -> yaml_file.YamlDocument:
    """Read `text` as folder/a.yaml."""
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return yaml_file.read_yaml(path)


def read_error(folder: Path, text: str | bytes) -> str:
    """Read an invalid document; returns the error."""
    with pytest.raises(SettingsError) as refused:
        read_document(folder, text)
    return str(refused.value)


def test_values_and_lines(tmp_path: Path) -> None:
    """The tree of the file, and the line of each place in it."""
    read = read_document(tmp_path, "a: 1\n\nb:\n  - x\n  - {c: true,\n     d: }\n")
    assert {"a": 1, "b": ["x", {"c": True, "d": None}]} == read.tree
    lines = {("a",): 1, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "c"): 5, ("b", 1, "d"): 6}
    assert {(): 1} | lines == read.lines
    assert "a.yaml:6" == read.label(("b", 1, "d"))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("010", 10),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2027-01-31", "2027-01-31"),
        ("~", None),
        ("null", None),
        ("TRUE", True),
        ("'true'", "true"),
        ("'1'", "1"),
        ("-1.5e3", -1500.0),
        ("0x10", "0x10"),
        ("9" * 30, 1e30),
        (".nan", ".nan"),
        ("=", "="),
        ("<<", "<<"),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_scalars(tmp_path: Path, written: str, value: object) -> None:
    """Plain scalars by YAML 1.2's core schema, without octal, sexagesimal and date forms."""
    assert {"a": value} == read_document(tmp_path, f"a: {written}\n").tree


def test_keys_are_texts(tmp_path: Path) -> None:
    """Names such as no and 7 need no quotes."""
    assert {"no": 1, "7": 2, "null": 3} == read_document(tmp_path, "no: 1\n7: 2\nnull: 3\n").tree


def test_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark is not part of the first key."""
    assert {"a": 1} == read_document(tmp_path, b"\xef\xbb\xbfa: 1\n").tree


def test_many_duplicates(tmp_path: Path) -> None:
    """All duplicate keys are reported at once, up to a bound."""
    assert 2 == len(read_error(tmp_path, "a: 1\nb: 1\na: 2\nb: 2\n").splitlines())
    assert 50 == len(read_error(tmp_path, "a: 1\n" * 1000).splitlines())


def test_billion_laughs(tmp_path: Path) -> None:
    """Aliases are refused and never expanded."""
    lines = [f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]" for i in range(1, 30)]
    text = "k0: &k0 [lol]\n" + "\n".join(lines)
    assert (
        "a.yaml:1 k0: anchors and aliases are not accepted: write it out" == read_error(tmp_path, text).splitlines()[0]
    )


def test_merge_key_is_no_magic(tmp_path: Path) -> None:
    """`<<` is an ordinary, unknown key."""
    assert {"<<": {"a": 1}} == read_document(tmp_path, "<<: {a: 1}\n").tree


@pytest.mark.parametrize("open_", ["[", "{a: ", "- ", "? "])
def test_deep_nesting(tmp_path: Path, open_: str) -> None:
    """Nesting is limited to a dozen levels."""
    assert "nested deeper than 12 levels" in read_error(tmp_path, open_ * 100_000)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a" * 1_000_001, "a.yaml: is larger than 1000000 bytes"),
        (b"a: [" + b"1," * 30_000 + b"]", "a.yaml: has more than 20000 entries"),
        (b"a: \xff", "a.yaml: is not UTF-8"),
        (b"a: \x00", "a.yaml: not valid YAML: characters that YAML does not allow"),
        (b"a: 'canary", "a.yaml:1: not valid YAML (column 11)"),
        (b"", "a.yaml: is empty"),
        (b"canary", "a.yaml: must be a mapping (key: value)"),
        (b"{}", "a.yaml: is empty"),
    ],
)
def test_unreadable(tmp_path: Path, content: bytes, complaint: str) -> None:
    """A file that is not a configuration is refused without quoting it."""
    assert complaint == read_error(tmp_path, content)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """A missing path or a folder cannot be read."""
    with pytest.raises(SettingsError, match=r"^missing.yaml: cannot be read \(No such file or directory\)$"):
        yaml_file.read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory\)$"):
        yaml_file.read_yaml(tmp_path)


def test_a_hostile_key_is_sanitized(tmp_path: Path) -> None:
    """Displayed keys cannot write control sequences or line breaks."""
    text = '"a\\nb\\e[31m": 1\n"a\\nb\\e[31m": 1\n'
    assert "a.yaml:2 a?b?[31m: duplicate key (first on line 1)" == read_error(tmp_path, text)


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml_file._LOADER])
def test_with_and_without_libyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: type) -> None:
    """PyYAML with or without its C parser: equal trees, lines and errors."""
    monkeypatch.setattr(yaml_file, "_LOADER", loader)
    test_values_and_lines(tmp_path)
    test_billion_laughs(tmp_path)
    assert {"a": "1", "b": 1} == read_document(tmp_path, "a: '1'\nb: 1\n").tree


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.sampled_from("ab:-[]{}?,#&*!|>'\"%@` \n\t0."), max_size=60))
def test_any_text(tmp_path: Path, text: str) -> None:
    """Any bytes give the tree of PyYAML or a SettingsError, never another exception."""
    try:
        read = read_document(tmp_path, text)
    except SettingsError:
        return
    assert yaml.load(text, Loader=BASE_LOADER).keys() == read.tree.keys()


@pytest.mark.parametrize("number", ["0042", "+42", "-0"])
def test_a_number_that_is_spelled_otherwise_is_no_name(tmp_path: Path, number: str) -> None:
    """YAML reads 0042 as 42, another name; 42 is unambiguous."""
    text = VALID + f"    aliases: {{promptlayer: [42, {number}]}}\n"
    place = "gateway.yaml:8 workflows.support-triage.aliases.promptlayer[1]"
    assert f"{place}: must be a text (a number or date needs quotes)" == load_error(tmp_path, text)


def test_a_number_with_leading_zeros_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("retries: {attempts: 007}\n")
    assert 7 == load(tmp_path / "gateway.yaml", {}).retries.attempts

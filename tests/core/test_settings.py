"""Settings: where values come from, and that the documentation lists them all."""

import os
import re
from pathlib import Path

import pytest

from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError

ROOT = Path(__file__).parents[2]


def test_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """A variable wins over settings.toml, which wins over the default."""
    (tmp_path / "settings.toml").write_text('origin = "file.example"\nthreads = 3\n')
    loaded = settings.load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_THREADS": "5"})
    assert (loaded.origin, loaded.threads) == ("file.example", 5)
    assert loaded.debian_mirror == "http://deb.debian.org"


def test_unset_password_differs_from_empty(tmp_path: Path) -> None:
    """An unset COSIGN_PASSWORD is None, an empty one is empty: only the second allows a key without password."""
    home = {"TIDEWAITER_HOME": str(tmp_path)}
    assert settings.load(home).key_password is None
    assert settings.load({**home, "COSIGN_PASSWORD": ""}).key_password == b""
    # Bytes that are no UTF-8, as Python shows them: cosign takes them as they are.
    assert settings.load({**home, "COSIGN_PASSWORD": "p\udce4ss"}).key_password == b"p\xe4ss"


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_thread_count_must_be_a_whole_number(tmp_path: Path, value: str) -> None:
    """A thread count that is no positive whole number is refused with the variable's name."""
    with pytest.raises(InputError, match="TIDEWAITER_THREADS"):
        settings.load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_THREADS": value})


def test_unknown_key_in_file(tmp_path: Path) -> None:
    """A misspelt key in settings.toml is an error, not silence."""
    (tmp_path / "settings.toml").write_text('orign = "x"\n')
    with pytest.raises(InputError, match="unknown setting 'orign'"):
        settings.load({"TIDEWAITER_HOME": str(tmp_path)})


def test_documented_table_matches_the_code() -> None:
    """docs/reference/settings.md lists exactly the settings of the code, in order, with their defaults."""
    text = (ROOT / "docs/reference/settings.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    expected = [(s.name, s.variable, f"`{s.default}`" if s.default else "empty", s.meaning) for s in settings.SETTINGS]
    assert [row for row in rows if row[0] != "name"] == expected


def test_only_settings_reads_the_environment() -> None:
    """No module but core.settings touches os.environ or os.getenv."""
    offenders = [
        str(path)
        for path in (ROOT / "src/tidewaiter").rglob("*.py")
        if path.parent.name != "settings" and re.search(r"os\.(environ|getenv)", path.read_text())
    ]
    assert offenders == []


def test_only_clock_reads_the_time() -> None:
    """No module but core.clock asks for the time of day."""
    pattern = re.compile(r"datetime\.now|\.utcnow\(|time\.time\(\)|date\.today")
    offenders = [
        str(path)
        for path in (ROOT / "src/tidewaiter").rglob("*.py")
        if path.name != "clock.py" and pattern.search(path.read_text())
    ]
    assert offenders == []


@pytest.mark.parametrize("value", ["", "/", "a b", "a+b", "a\nb", "a\u2028b", "a?b", "x" * 151])
def test_an_origin_names_a_log_and_begins_a_uri(value: str) -> None:
    """What cannot is refused at once: else the audit log would never get a key, and entries would wait for ever."""
    assert settings.load({"TIDEWAITER_ORIGIN": "https://a.example/b/"}).origin == "https://a.example/b"
    with pytest.raises(InputError, match="TIDEWAITER_ORIGIN"):
        settings.load({"TIDEWAITER_ORIGIN": value})


def test_formats_of_signatures_are_known_ones() -> None:
    """Both formats without a value; an unknown one, or none at all, is an error."""
    assert settings.load({}).signature_formats == ("tag", "bundle")
    assert settings.load({"TIDEWAITER_SIGNATURE_FORMATS": "bundle, bundle"}).signature_formats == ("bundle",)
    for text in ("", "tags", "tag,,bundle"):
        with pytest.raises(InputError, match="TIDEWAITER_SIGNATURE_FORMATS"):
            settings.load({"TIDEWAITER_SIGNATURE_FORMATS": text})


def test_own_passwords_are_no_build_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project can name a variable for its Dockerfile, but not the password of a key or of an index."""
    monkeypatch.setenv("PIP_TOKEN", "value")
    assert settings.build_secret("PIP_TOKEN") == "value"
    for variable in ("COSIGN_PASSWORD", "TIDEWAITER_INDEX_X_PASSWORD"):
        monkeypatch.setenv(variable, "value")
        with pytest.raises(InputError, match="handed to no build"):
            settings.build_secret(variable)


def test_the_format_of_the_log_is_a_known_one() -> None:
    """Text without a value; an unknown one is an error that names the variable."""
    assert settings.load({}).log_format == "text"
    assert settings.load({"TIDEWAITER_LOG_FORMAT": "json"}).log_format == "json"
    with pytest.raises(InputError, match="TIDEWAITER_LOG_FORMAT"):
        settings.load({"TIDEWAITER_LOG_FORMAT": "xml"})


def test_variables_that_mean_nothing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that look like settings and are none; those of settings, of indexes and of others are left alone."""
    for name in [name for name in os.environ if name.startswith("TIDEWAITER_")]:
        monkeypatch.delenv(name)
    known = ("TIDEWAITER_HOME", "TIDEWAITER_TRACE", "TIDEWAITER_INDEX_OUR_OWN_PASSWORD", "OTHER_HOEM")
    for name in (*known, "TIDEWAITER_HOEM", "TIDEWAITER_INDEX_X_PASSWD"):
        monkeypatch.setenv(name, "x")
    assert settings.unknown_variables() == ("TIDEWAITER_HOEM", "TIDEWAITER_INDEX_X_PASSWD")


def test_a_home_without_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What must work in a damaged home can leave settings.toml out, or every value that could be wrong."""
    (tmp_path / "settings.toml").write_text("nonsense")
    variables = {"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_THREADS": "3"}
    assert settings.load(variables, with_file=False).threads == 3
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path))
    monkeypatch.setenv("TIDEWAITER_THREADS", "nonsense")
    assert settings.load_home().home.path == tmp_path


def test_environment_tables(tmp_path: Path) -> None:
    """Tables are read as they stand; once there is one, what none fits is production unless a setting says."""
    home = {"TIDEWAITER_HOME": str(tmp_path)}
    assert (settings.load(home).environments, settings.load(home).default_environment) == ((), None)
    (tmp_path / "settings.toml").write_text(
        '[[environment]]\nname = "staging"\nrepositories = ["team/*"]\nnamespaces = ["west/test"]\n'
    )
    loaded = settings.load(home)
    assert loaded.environments == (settings.EnvironmentTable("staging", ("team/*",), ("west/test",)),)
    assert loaded.default_environment == "production"
    assert settings.load({**home, "TIDEWAITER_DEFAULT_ENVIRONMENT": "research"}).default_environment == "research"
    with pytest.raises(InputError, match="TIDEWAITER_DEFAULT_ENVIRONMENT"):
        settings.load({**home, "TIDEWAITER_DEFAULT_ENVIRONMENT": "prod"})


@pytest.mark.parametrize(
    "table",
    [
        'name = "prod"\nrepositories = ["a"]',
        'name = "staging"',
        'name = "staging"\nrepositories = [""]',
        'name = "staging"\nrepositories = ["a b"]',
        'name = "staging"\nnamespaces = "a"',
        'name = "staging"\nnamespaces = ["a"]\nclusters = ["b"]',
    ],
)
def test_a_wrong_environment_table_is_refused(tmp_path: Path, table: str) -> None:
    """An unknown environment, no pattern, no pattern's characters, a string for a list, and an unknown key."""
    (tmp_path / "settings.toml").write_text(f"[[environment]]\n{table}\n")
    with pytest.raises(InputError, match=r"settings.toml: \[\[environment\]\]"):
        settings.load({"TIDEWAITER_HOME": str(tmp_path)})


def test_too_many_environment_tables_are_refused(tmp_path: Path) -> None:
    """Each image and workload is compared with all of them: as many as the bound are read, one more is not."""
    table = '[[environment]]\nname = "staging"\nrepositories = ["a"]\n'
    (tmp_path / "settings.toml").write_text(table * limits.SETTINGS_TABLES)
    assert len(settings.load({"TIDEWAITER_HOME": str(tmp_path)}).environments) == limits.SETTINGS_TABLES
    (tmp_path / "settings.toml").write_text(table * (limits.SETTINGS_TABLES + 1))
    with pytest.raises(InputError, match=f"over {limits.SETTINGS_TABLES} tables"):
        settings.load({"TIDEWAITER_HOME": str(tmp_path)})


def test_documented_tables_match_the_code() -> None:
    """docs/reference/settings.md has a section for each table, with exactly its keys."""
    text = (ROOT / "docs/reference/settings.md").read_text()
    sections = dict(re.findall(r"^### `\[\[(\w+)\]\]`\n(.*?)(?=^##|\nBeside these|\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(settings.TABLES)
    for name, kind in settings.TABLES.items():
        keys = re.findall(r"^\| `(\w+)` \|", sections[name], re.MULTILINE)
        assert keys == list(kind.__struct_fields__), name


def test_the_address_of_a_server() -> None:
    """A slash at its end does not count; what holds a password or a query is refused without being repeated."""
    assert settings.load({}).server == ""
    assert settings.load({"TIDEWAITER_SERVER": "https://a.example:8443/tide/"}).server == "https://a.example:8443/tide"
    for text in ("a.example", "ftp://a.example", "https://me:secret@a.example", "https://a.example?secret", "https://"):
        with pytest.raises(InputError, match="TIDEWAITER_SERVER") as caught:
            settings.load({"TIDEWAITER_SERVER": text})
        assert "secret" not in str(caught.value)

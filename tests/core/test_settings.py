"""Settings: where values come from, and that the documentation lists them all."""

import re
from pathlib import Path

import pytest

from tidewaiter.core import settings
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
        if path.name != "settings.py" and re.search(r"os\.(environ|getenv)", path.read_text())
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


def test_own_passwords_are_no_build_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project can name a variable for its Dockerfile, but not the password of a key or of an index."""
    monkeypatch.setenv("PIP_TOKEN", "value")
    assert settings.build_secret("PIP_TOKEN") == "value"
    for variable in ("COSIGN_PASSWORD", "TIDEWAITER_INDEX_X_PASSWORD"):
        monkeypatch.setenv(variable, "value")
        with pytest.raises(InputError, match="handed to no build"):
            settings.build_secret(variable)

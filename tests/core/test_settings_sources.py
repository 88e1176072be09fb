"""`[[source]]` and `[[schedule]]` in the settings."""

from pathlib import Path

import pytest

from tidewaiter.core import settings
from tidewaiter.core.errors import InputError

SOURCE = '[[source]]\nname = "a"\nurl = "https://git.example/a.git"\n'


def loaded(folder: Path, text: str) -> settings.Settings:
    (folder / "settings.toml").write_text(text)
    return settings.load({"TIDEWAITER_HOME": str(folder)})


def test_sources_and_schedules_are_read(tmp_path: Path) -> None:
    """What is not said has its default; a schedule names its source."""
    found = loaded(tmp_path, SOURCE + '[[schedule]]\nname = "n"\nkind = "clear"\nsource = "a"\nevery = "1d"\n')
    (source,), (schedule,) = found.sources, found.schedules
    assert (source.branches, source.tags, source.folders, source.merge_requests) == (("main",), (), (".",), False)
    assert (schedule.source, schedule.ref, schedule.timezone) == ("a", "refs/heads/main", "UTC")


@pytest.mark.parametrize(
    "text",
    [
        SOURCE + SOURCE,
        SOURCE + 'secret = "a-plain-secret"\n',
        SOURCE + 'secret = "hook:give me"\n',
        SOURCE + 'credential = "ghp_plain"\n',
        SOURCE + 'folders = ["../x"]\n',
        SOURCE + 'folders = ["/x"]\n',
        SOURCE + "folders = []\n",
        SOURCE + 'branches = ["a b"]\n',
        SOURCE + "unknown = 1\n",
        SOURCE.replace('"a"', '"A/b"'),
        '[[schedule]]\nname = "n"\nkind = "clear"\nsource = "none"\nevery = "1d"\n',
        SOURCE + '[[schedule]]\nname = "n"\nsource = "a"\nevery = "1d"\n',
        '[[schedule]]\nname = "n"\n',
        '[[schedule]]\nname = "n"\nevery = "1d"\n[[schedule]]\nname = "n"\nevery = "2d"\n',
        '[[schedule]]\nname = "n"\nevery = "1d"\nref = "main"\n',
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, text: str) -> None:
    """Each is an error that names the table, and shows no secret that was written in its place."""
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, text)
    assert "settings.toml" in caught.value.message
    assert "plain" not in caught.value.message

"""Which files are looked at."""

from pathlib import Path

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.lint import files


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("Dockerfile", "", "dockerfile"),
        ("Dockerfile.gpu", "", "dockerfile"),
        ("serving.dockerfile", "", "dockerfile"),
        ("Containerfile", "", "dockerfile"),
        ("Dockerfile-dev", "", "dockerfile"),
        ("Dockerfile.dockerignore", "", None),
        ("Dockerfile.j2", "", None),
        ("requirements.txt", "", "requirements"),
        ("requirements-dev.txt", "", "requirements"),
        ("notes.txt", "", None),
        ("docker-compose.override.yml", "", "compose"),
        ("compose.yaml", "", "compose"),
        ("pod.yaml", "apiVersion: v1\nkind: Pod\n", "kubernetes"),
        ("config.yaml", "a: 1\n", None),
        ("deploy.yaml", "apiVersion: v1\n{{- if x }}\nkind: Pod\n", None),
        ("train.py", "", "python"),
        ("entry.sh", "", "shell"),
        ("entrypoint", "#!/bin/bash -e\n", "shell"),
        ("run", "#!/usr/bin/env -S python3 -u\n", "python"),
        ("run", "#!/usr/bin/perl\n", None),
        ("README.md", "", None),
    ],
)
def test_kinds_are_told_by_name_and_content(name: str, content: str, kind: str | None) -> None:
    """A file is what its name says, and where that is open, what its beginning says."""
    assert files.kind_of(name, content) == kind


def test_folders_are_looked_through(tmp_path: Path) -> None:
    """What is below .git or a link is not read, patterns leave out more, and order does not change."""
    for name in ("b/Dockerfile", "a/train.py", ".git/Dockerfile", "node_modules/x/Dockerfile", "old/Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("FROM a\n")
    (tmp_path / "c").symlink_to(tmp_path / "b")
    (tmp_path / "a/link.py").symlink_to(tmp_path / "a/train.py")
    found = [Path(one.path).relative_to(tmp_path).as_posix() for one in files.find([tmp_path], exclude=["old/*"])]
    assert found == ["a/train.py", "b/Dockerfile"]


def test_a_named_file_must_be_known(tmp_path: Path) -> None:
    """A file that is named, and that no rule knows, is an error; one that is not there, too."""
    (tmp_path / "a.md").write_text("x")
    with pytest.raises(InputError, match=r"a\.md is nothing that rules know"):
        list(files.find([tmp_path / "a.md"]))
    with pytest.raises(InputError, match="No such file"):
        list(files.find([tmp_path / "Dockerfile"]))


def test_what_is_no_text_is_left(tmp_path: Path) -> None:
    """Binary files and other encodings below a folder are not looked at."""
    (tmp_path / "a.py").write_bytes(b"\x00\x01")
    (tmp_path / "b.py").write_bytes(b"\xff\xfe")
    assert list(files.find([tmp_path])) == []


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too long a file and too many files are errors that say what to do."""
    monkeypatch.setattr(limits, "LINTED_BYTES", 10)
    (tmp_path / "a.py").write_text("x" * 11)
    with pytest.raises(LimitError, match="over 10 bytes"):
        list(files.find([tmp_path]))
    monkeypatch.setattr(limits, "LINTED_FILES", 1)
    (tmp_path / "a.py").write_text("")
    (tmp_path / "b.py").write_text("")
    with pytest.raises(LimitError, match="over 1 files"):
        list(files.find([tmp_path]))

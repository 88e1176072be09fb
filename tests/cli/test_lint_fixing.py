"""`lint --fix` and its options, through the command line."""

import json
from pathlib import Path

import pytest

from tidewaiter.cli import lint, lint_proving
from tidewaiter.cli.lint_proving import Built, Proven
from tidewaiter.lint.fixing import Mended
from workplace import run

DOCKERFILE = "FROM python:3.11-slim\nADD app.py /app/\nRUN pip install numpy==1.26.4\nCMD python /app/app.py\n"
ANY = ("--fail-on", "error")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A build context with one Dockerfile."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "app.py").write_text("print(1)\n")
    return folder


def test_a_dry_run_shows_and_writes_nothing(tmp_path: Path, folder: Path) -> None:
    """The difference is data on stdout, the files stay as they are."""
    done = run(tmp_path / "home", "lint", folder / "Dockerfile", "--fix", "--rewrite", "--dry-run", *ANY)
    assert done.code == 0, done.err
    assert "+COPY --chown=65532:65532 app.py /app/" in done.out
    assert "--- /dev/null" in done.out
    assert (folder / "Dockerfile").read_text() == DOCKERFILE
    assert not (folder / ".dockerignore").exists()


def test_a_fix_is_written_once(tmp_path: Path, folder: Path) -> None:
    """What is safe is mended; a second run shows no difference; a document on stdout stays one."""
    done = run(tmp_path / "home", "lint", folder / "Dockerfile", "--fix", "--format", "json", *ANY)
    assert done.code == 0, done.err
    assert not any(one["rule"] == "dockerfile/add-for-copy" for one in done.json["findings"])
    assert "+COPY app.py /app/" in done.err
    assert "COPY app.py /app/" in (folder / "Dockerfile").read_text()
    assert "+++" not in run(tmp_path / "home", "lint", folder / "Dockerfile", "--fix", *ANY).out


def test_what_is_left_to_a_person_says_why_and_counts(tmp_path: Path, folder: Path) -> None:
    """After --fix no finding says that --fix would do it; those of rules that it mends elsewhere say why it did not."""
    (folder / "Dockerfile").write_text("FROM tensorflow/tensorflow:2.13.0-gpu-cuda11.8\nADD a /\nUSER 1\n")
    before = run(tmp_path / "home", "lint", folder / "Dockerfile", *ANY)
    assert "(--fix does it)" in before.out
    assert "left by --fix" not in before.out
    done = run(tmp_path / "home", "lint", folder / "Dockerfile", "--fix", *ANY)
    assert done.code == 1
    assert "(--fix does it)" not in done.out
    assert "  left by --fix: which published image is meant is for a person to say" in done.out
    assert "1 of them of rules that --fix mends elsewhere" in done.err
    (one,) = (
        each
        for each in run(tmp_path / "home", "lint", folder, "--fix", "--format", "json", *ANY).json["findings"]
        if each["rule"] == "dockerfile/unpublished-tag"
    )
    assert (one["fixable"], one["left"]) == (False, "which published image is meant is for a person to say")


@pytest.mark.parametrize("option", ["--rewrite", "--dry-run", "--pin", "--prove"])
def test_options_that_say_nothing_alone_are_refused(tmp_path: Path, folder: Path, option: str) -> None:
    """An option that needs another one names it."""
    done = run(tmp_path / "home", "lint", folder / "Dockerfile", option)
    assert done.code == 2
    assert "says nothing without" in done.err


def test_a_proposal_is_a_project_file(tmp_path: Path, folder: Path) -> None:
    """It goes to stdout alone, and what is not carried over to stderr."""
    done = run(tmp_path / "home", "lint", folder / "Dockerfile", "--propose")
    assert done.code == 0, done.err
    assert 'use = "debian12-python3.11"' in done.out
    assert "not carried over: add to a requirements file: numpy==1.26.4" in done.err


def test_a_proof_is_part_of_the_document(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --prove and --format json, what was compared stands under `proofs`; the command is the project's."""
    asked: list[str] = []

    def proven(mended: Mended, folder: Path, ignore: str, *, smoke: str) -> Proven:
        asked.append(smoke)
        sizes = Built(size=1, unpacked_size=2, packages=3, rebuild_seconds=None)
        return Proven(mended.source.path, False, ("cmd was a and is b",), (), smoke, sizes, sizes)

    monkeypatch.setattr(lint_proving, "prove", proven)
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    (folder / "tidewaiter.toml").write_text('[lint]\nsmoke = "python -c pass"\n')
    code = lint.lint(folder / "Dockerfile", fix=True, rewrite=True, prove=True, dry_run=True, output="json")
    document = json.loads(capsys.readouterr().out)
    assert code == 1
    assert asked == ["python -c pass"]
    (proof,) = document["proofs"]
    assert (proof["same"], proof["differences"]) == (False, ["cmd was a and is b"])
    assert proof["before"] == {"size": 1, "unpacked_size": 2, "packages": 3, "rebuild_seconds": None}

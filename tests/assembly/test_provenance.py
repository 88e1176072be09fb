"""What a build says it was made of, against the specification's own types and the catalog."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from packageurl import PackageURL

import tidewaiter
from tidewaiter.assembly import provenance
from tidewaiter.oci.digest import Digest
from workplace import run, small_project

DEPENDENCY = provenance.Dependency(name="a", algorithm="sha256", value="0" * 64)


Built = tuple[dict[str, Any], Any, Path]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, warm_home: Path) -> Path:
    """A folder with a warm home and a committed small project."""
    folder = tmp_path_factory.mktemp("provenance")
    for name in ("cache", "store"):
        shutil.copytree(warm_home / name, folder / "home" / name, symlinks=True)
    (folder / "home/store/index.json").unlink()
    small_project(folder / "project", folder / "home")
    return folder


@pytest.fixture(scope="module")
def built(place: Path) -> Built:
    """The statement that a build wrote, what it printed, and the project's folder."""
    done = run(place / "home", "build", place / "project", "--provenance", place / "out.json", "--format", "json")
    assert done.code == 0, done.out
    return json.loads((place / "out.json").read_text()), done.json, place / "project"


def test_statement_is_what_the_specification_says(built: Built) -> None:
    """in-toto's own types read the statement and SLSA's the predicate, and know every field."""
    statement, printed, _ = built
    read = json_format.ParseDict(statement, statement_pb2.Statement(), ignore_unknown_fields=False)
    assert read.type == "https://in-toto.io/Statement/v1"
    assert read.predicate_type == "https://slsa.dev/provenance/v1"
    assert [(one.name, f"sha256:{one.digest['sha256']}") for one in read.subject] == [("team/small", printed["digest"])]
    predicate = json_format.ParseDict(statement["predicate"], provenance_pb2.Provenance(), ignore_unknown_fields=False)
    assert predicate.build_definition.build_type == provenance.ASSEMBLED
    assert predicate.run_details.builder.id == "urn:tidewaiter:builder:local"
    assert dict(predicate.run_details.builder.version) == {"tidewaiter": tidewaiter.__version__}
    assert predicate.run_details.metadata.invocation_id
    started, finished = predicate.run_details.metadata.started_on, predicate.run_details.metadata.finished_on
    assert 0 < started.seconds <= finished.seconds


def test_every_input_is_named_by_digest(built: Built) -> None:
    """Commit, recipe, both locks, every deb and every wheel are there, each once, and nothing without digest."""
    statement, _, project = built
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    names = [one["name"] for one in found]
    assert len(names) == len(set(names))
    assert all(one["digest"] for one in found)
    assert names[:3] == ["git", "recipe debian12-python3.11", "base.lock"]
    lock = (project / "base.lock").read_text()
    debs = [one for one in found if one["name"].startswith("pkg:deb/debian/")]
    assert len(debs) == lock.count("[[packages]]")
    assert all(one["uri"] == one["name"] and one["digest"]["sha256"] in lock for one in debs)
    wheels = [one for one in found if one["name"].endswith(".whl")]
    assert [one["uri"].partition("?")[0] for one in wheels] == ["pkg:pypi/six@1.17.0"]
    assert wheels[0]["digest"]["sha256"] in (project / "pylock.toml").read_text()
    external = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert external["source"]["digest"] == found[0]["digest"]
    assert external["project"]["image"]["name"] == "team/small"
    assert str(project) not in json.dumps(statement)


def test_catalog_and_provenance_say_the_same(place: Path, built: Built) -> None:
    """The materials of the recorded build are the resolved dependencies, in their order."""
    from tidewaiter.catalog.catalog import Catalog
    from tidewaiter.core import settings

    statement, printed, _ = built
    with Catalog.open(settings.load({"TIDEWAITER_HOME": str(place / "home")})) as catalog:
        recorded = catalog.image(f"team/small@{printed['digest']}").builds[0].materials
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    said = [(one["name"], *(f"{key}:{value}" for key, value in one["digest"].items())) for one in found]
    assert sorted((one.name, one.digest) for one in recorded) == sorted(said)


def test_uncommitted_inputs_are_confessed(place: Path, built: Built) -> None:
    """A build whose inputs differ from the commit says so beside it."""
    (built[2] / "main.py").write_text("print('changed')\n")
    assert run(place / "home", "build", built[2], "--provenance", place / "dirty.json").code == 0
    statement = json.loads((place / "dirty.json").read_text())
    first = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert first["annotations"] == {"dirty": True}


@pytest.mark.parametrize(
    ("variables", "run_of"),
    [
        ({"CI_JOB_URL": "https://gitlab.example/team/-/jobs/7"}, "https://gitlab.example/team/-/jobs/7"),
        (
            {"GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "team/app", "GITHUB_RUN_ID": "9"},
            "https://github.example/team/app/actions/runs/9",
        ),
        ({"TIDEWAITER_PIPELINE_RUN": "run 3", "CI_JOB_URL": "https://gitlab.example/jobs/7"}, "run 3"),
    ],
)
def test_the_run_of_ci_is_named(place: Path, built: Built, variables: dict[str, str], run_of: str) -> None:
    """Provenance names the run of CI as the invocation, as the CI or a setting says it."""
    done = run(place / "home", "build", built[2], "--provenance", place / "run.json", extra=variables)
    assert done.code == 0, done.err
    metadata = json.loads((place / "run.json").read_text())["predicate"]["runDetails"]["metadata"]
    assert metadata["invocationId"] == run_of


def test_parameters_are_all_that_a_build_was_told(place: Path, built: Built) -> None:
    """Folder, platform, compression, bytecode and moment are there: nothing else that was said changes bytes."""
    external = built[0]["predicate"]["buildDefinition"]["externalParameters"]
    assert set(external) == {"source", "project", "platform", "compression", "bytecode", "created"}
    assert external["source"]["folder"] == "."
    assert external["bytecode"] is True


def test_the_job_stands_in_a_field_of_our_own(place: Path, built: Built) -> None:
    """What a CI says is beside what the specification knows, and no password is in it."""
    variables = {
        "GITLAB_CI": "true",
        "CI_COMMIT_SHA": built[0]["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"],
        "CI_JOB_URL": "https://gitlab.example/team/-/jobs/7",
        "CI_COMMIT_AUTHOR": "Ann <ann@example.com>",
        "CI_JOB_TOKEN": "glcbt-hunter2",
        "CI_REPOSITORY_URL": "https://gitlab-ci-token:glcbt-hunter2@gitlab.example/team/app.git",
    }
    assert run(place / "home", "build", built[2], "--provenance", place / "job.json", extra=variables).code == 0
    text = (place / "job.json").read_text()
    assert "hunter2" not in text
    statement = json.loads(text)
    said = statement["predicate"]["runDetails"]["metadata"].pop("tidewaiter_ci")
    assert said["job_url"] == "https://gitlab.example/team/-/jobs/7"
    json_format.ParseDict(statement["predicate"], provenance_pb2.Provenance(), ignore_unknown_fields=False)


def test_unknown_fields_would_be_noticed() -> None:
    """The types that check the statement refuse a field that the specification has not."""
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict({"buildDefinition": {"materials": []}}, provenance_pb2.Provenance())


def test_images_are_named_by_purl() -> None:
    """A base of a registry is found again by host, repository and digest; a local layout by its name."""
    digest = Digest("sha256:" + "a" * 64)
    found = provenance._image("registry.example.com:5000/team/base:1", digest)
    assert found.uri == (f"pkg:oci/base@sha256:{'a' * 64}?repository_url=registry.example.com:5000/team/base&tag=1")
    assert provenance._image("/layouts/Base", digest).uri == ""
    assert DEPENDENCY.descriptor == {"name": "a", "digest": {"sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("kind", "name", "version", "qualifiers"),
    [
        ("pypi", "torch", "2.1.0+cpu", {"file_name": "torch-2.1.0+cpu-cp311-cp311-linux_x86_64.whl"}),
        ("oci", "base", "sha256:" + "a" * 64, {"repository_url": "h:5000/a/base", "tag": "1"}),
        ("pypi", "x", "1!2.0~a", {}),
    ],
)
def test_package_urls_are_those_of_the_library(kind: str, name: str, version: str, qualifiers: dict[str, str]) -> None:
    """What is written by hand is what the reference library writes, and reads back."""
    written = provenance._purl(kind, name, version, **qualifiers)
    assert written == PackageURL(kind, None, name, version, qualifiers).to_string()
    assert PackageURL.from_string(written).version == version

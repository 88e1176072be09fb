"""Images built again from their provenance alone: the same, another one, or nobody can."""

import base64
import hashlib
import json
import shutil
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest

import git_server
import tidewaiter
from image_builder import Tar, put_image
from little_shell import make_shell
from servers import StartRegistry, Tool, reply
from tidewaiter.catalog.runs.records import Source
from tidewaiter.core import settings as all_settings
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines.sources.checking_out import checkout
from workplace import Done, commit, git, run, small_project

TOML = """\
[image]
name = "team/small"
purpose = "serving"
environment = "research"

[base]
use = "{use}"

[app]
include = ["main.txt"]
"""


class Place(msgspec.Struct, frozen=True):
    """A home with an image that was built of a repository, and its provenance."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def project(self) -> Path:
        return self.folder / "repository" / "serving"

    @property
    def statement(self) -> Any:
        return json.loads((self.folder / "provenance.json").read_text())

    @property
    def digest(self) -> str:
        return f"sha256:{self.statement['subject'][0]['digest']['sha256']}"

    @property
    def image(self) -> str:
        return f"team/small@{self.digest}"

    def build(self) -> None:
        """Build what is committed, and keep its provenance."""
        done = run(self.home, "build", self.project, "--provenance", self.folder / "provenance.json")
        assert done.code == 0, done.err

    def attest(self) -> None:
        """Sign the provenance with the home's key and attach it."""
        predicate = self.folder / "predicate.json"
        predicate.write_text(json.dumps(self.statement["predicate"]))
        done = run(self.home, "attest", self.image, "--type", "slsaprovenance1", "--predicate", predicate)
        assert done.code == 0, done.err

    def rebuild(self, *words: object, image: str = "") -> Done:
        """What `rebuild` answers, as JSON, with the repository as it lies here."""
        given = ["--source", self.folder / "repository", "--format", "json"]
        return run(self.home, "rebuild", image or self.image, *words, *given)

    def claimed(self, statement: Any) -> Done:
        """What `rebuild` answers to a statement that nobody signed."""
        file = self.folder / "claimed.json"
        file.write_text(json.dumps(statement))
        subject = f"team/small@sha256:{statement['subject'][0]['digest']['sha256']}"
        return self.rebuild("--provenance", file, "--insecure", image=subject)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built image whose base is a layout beside it; tests copy nothing of it and change only the repository."""
    folder = tmp_path_factory.mktemp("rebuilding")
    layout = Layout(folder / "base")
    layout.create()
    base = put_image(layout, [Tar().directory("etc").file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n').bytes()])
    place = Place(folder)
    place.project.mkdir(parents=True)
    (place.project / "tidewaiter.toml").write_text(TOML.format(use=f"oci:{folder}/base@{base.digest}"))
    (place.project / "main.txt").write_text("one\n")
    (folder / "repository" / "other.txt").write_text("of another project\n")
    commit(folder / "repository")
    assert run(place.home, "key", "generate").code == 0
    place.build()
    place.attest()
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    """A copy of it that a test may change."""
    for name in ("home", "repository", "provenance.json"):
        (shutil.copytree if (made / name).is_dir() else shutil.copy)(made / name, tmp_path / name)
    return Place(tmp_path)


@pytest.mark.thorough
def test_the_same_image_comes_out(place: Place) -> None:
    """Without any cache the attested commit, in its folder of the repository, gives the same digest."""
    shutil.rmtree(place.home / "cache")
    (place.project / "main.txt").write_text("later\n")
    commit(place.folder / "repository")
    done = place.rebuild()
    assert done.code == 0, done.err
    assert done.json["same"]
    assert done.json["rebuilt"] == done.json["image"] == place.digest
    assert done.json["vouched"] == "tidewaiter"
    assert done.json["version_here"] == tidewaiter.__version__
    assert not list((place.home / "cache" / "work").glob("rebuild-*"))


def test_a_digest_is_enough(place: Place) -> None:
    """The digest alone names an image that the catalog knows; the new build leaves nothing in this home."""
    before = run(place.home, "catalog", "list", "--format", "json").json
    done = place.rebuild(image=place.digest)
    assert done.code == 0, done.err
    assert run(place.home, "catalog", "list", "--format", "json").json == before


@pytest.mark.thorough
def test_from_a_registry_by_somebody_else(place: Place, start_docker_registry: StartRegistry) -> None:
    """Whoever has the public key and a clone rebuilds what lies in a registry, in a home that knows nothing of it."""
    cleared = run(place.home, "ci", place.project, "--format", "json")
    assert cleared.code == 0, cleared.out + cleared.err
    with start_docker_registry("") as host:
        extra = {"TIDEWAITER_PLAIN_HTTP": host}
        pushed = run(place.home, "push", cleared.json["reference"], f"{host}/team/small:1", extra=extra)
        assert pushed.code == 0, pushed.err
        key, empty = place.home / "keys" / "tidewaiter.pub", place.folder / "empty"
        words = ["--key", key, "--source", place.folder / "repository", "--format", "json"]
        done = run(empty, "rebuild", f"{host}/team/small:1", *words, extra=extra)
    assert done.code == 0, done.out + done.err
    assert done.json["rebuilt"] == cleared.json["digest"]


def test_without_repository_nobody_can_tell(place: Place) -> None:
    """A provenance that names no repository is no reason for a no: what is missing is said."""
    done = run(place.home, "rebuild", place.image, "--format", "json")
    assert done.code == 3
    assert done.json["error"]["code"] == "not_rebuildable"
    assert "--source" in done.json["error"]["next"]


def test_a_commit_that_is_gone(place: Place) -> None:
    """A repository without the commit is "cannot", not "another image"."""
    shutil.rmtree(place.folder / "repository")
    place.project.mkdir(parents=True)
    (place.project / "main.txt").write_text("anew\n")
    commit(place.folder / "repository")
    done = place.rebuild()
    assert done.code == 3, done.out
    assert done.json["error"]["code"] == "not_rebuildable"


def test_a_base_that_is_gone(place: Place, made: Path) -> None:
    """A base that nobody has any more is named."""
    hidden = made / "hidden"
    (made / "base").rename(hidden)
    try:
        done = place.rebuild()
    finally:
        hidden.rename(made / "base")
    assert done.code == 3, done.out
    assert "base" in done.json["error"]["message"]


def test_a_dirty_build_cannot_be_repeated(place: Place) -> None:
    """What differed from the commit is nowhere, so nobody can build it again."""
    (place.project / "main.txt").write_text("not committed\n")
    place.build()
    place.attest()
    done = place.rebuild()
    assert done.code == 3, done.out
    assert "differed from the commit" in done.json["error"]["message"]


def test_nobody_vouches(place: Place) -> None:
    """Of an image without provenance, and of one by a key that is not trusted, nothing is built."""
    shutil.rmtree(place.home / "keys")
    assert run(place.home, "key", "generate", "other").code == 0
    done = place.rebuild()
    assert done.code == 1, done.out
    assert done.json["error"]["code"] == "attestation_invalid"


def test_a_bare_statement_needs_insecure(place: Place) -> None:
    """A statement that nobody signed is refused, unless that is asked for; then it is said."""
    refused = place.rebuild("--provenance", place.folder / "provenance.json")
    assert refused.code == 1, refused.out
    done = place.claimed(place.statement)
    assert done.code == 0, done.err
    assert done.json["vouched"] == ""


def test_a_tampered_envelope_is_refused(place: Place) -> None:
    """One letter of a signed provenance changed, and no build is made of it."""
    blobs = [path for path in (place.home / "store" / "blobs").rglob("*") if path.is_file()]
    envelopes = [path for path in blobs if b'"payloadType"' in path.read_bytes()]
    envelope = json.loads(envelopes[0].read_bytes())
    envelope = envelope.get("dsseEnvelope", envelope)
    file = place.folder / "envelope.json"
    file.write_text(json.dumps(envelope))
    good = place.rebuild("--provenance", file)
    assert good.code == 0, good.err + good.out
    payload = base64.b64decode(envelope["payload"]).replace(b'"gzip"', b'"zstd"')
    file.write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))
    done = place.rebuild("--provenance", file)
    assert done.code == 1, done.out
    assert done.json["error"]["code"] == "attestation_invalid"


def test_other_inputs_than_the_image_has(place: Place) -> None:
    """An equal digest does not help a provenance that names other inputs than the build needs."""
    statement = place.statement
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    dependencies.append({"name": "left-pad.whl", "digest": {"sha256": "0" * 64}})
    done = place.claimed(statement)
    assert done.code == 1, done.out + done.err
    assert done.json["rebuilt"] == done.json["image"]
    assert any("left-pad.whl" in line for line in done.json["inputs"])


def test_another_commit_gives_another_image(place: Place) -> None:
    """A provenance that names the wrong commit is found out, with the first layer and file that differ."""
    (place.project / "main.txt").write_text("two, and longer\n")
    commit(place.folder / "repository")
    first = place.statement
    place.build()
    other = place.statement
    other["subject"] = first["subject"]
    done = place.claimed(other)
    assert done.code == 1, done.out + done.err
    assert not done.json["same"]
    assert [line.partition(":")[0] for line in done.json["layers"]] == ["layer 2 (app"]
    assert "/app/main.txt: changed" in done.json["differences"]


def test_another_version_leaves_it_open(place: Place) -> None:
    """Where another tidewaiter built, another digest is no proof of anything."""
    statement = place.statement
    statement["predicate"]["runDetails"]["builder"]["version"] = {"tidewaiter": "0.0.1"}
    same = place.claimed(statement)
    assert same.code == 0, same.err
    assert same.json["version"] == "0.0.1"
    statement["subject"][0]["digest"]["sha256"] = "1" * 64
    done = place.claimed(statement)
    assert done.code == 3, done.out
    assert "0.0.1" in done.json["error"]["message"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"source": {"folder": "../.."}}, 2),
        ({"source": {"folder": "/etc"}}, 2),
        ({"platform": "plan9/mips"}, 3),
        ({"compression": "rar"}, 3),
        ({"created": "yesterday"}, 2),
    ],
)
def test_hostile_parameters_are_refused(place: Place, change: dict[str, Any], code: int) -> None:
    """What a provenance asks for is read under types and bounds."""
    statement = place.statement
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    source = parameters["source"] | change.pop("source", {})
    parameters |= {**change, "source": source}
    done = place.claimed(statement)
    assert done.code == code, done.out + done.err


@pytest.mark.thorough
def test_an_image_of_wheels_and_debian_packages(tmp_path: Path, home: Path) -> None:
    """The whole way: locks from the commit, packages and wheels fetched anew by their hashes, the attested digest."""
    project = small_project(tmp_path / "project", home)
    assert run(home, "key", "generate").code == 0
    cleared = run(home, "ci", project, "--format", "json")
    assert cleared.code == 0, cleared.err
    git(project, "rm", "-q", "main.py")
    git(project, "commit", "-q", "-m", "gone")
    done = run(home, "rebuild", cleared.json["reference"], "--source", project, "--format", "json")
    assert done.code == 0, done.err
    assert done.json["rebuilt"] == cleared.json["digest"]


def test_a_clone_whose_name_has_a_percent_sign(place: Place) -> None:
    """A folder is a folder, whatever stands in its name."""
    folder = place.folder / "100%25 of it é"
    (place.folder / "repository").rename(folder)
    done = run(place.home, "rebuild", place.image, "--source", folder, "--format", "json")
    assert done.code == 0, done.out + done.err
    assert done.json["same"]


@pytest.mark.thorough
def test_submodules_and_large_files_come_when_the_build_used_them(place: Place) -> None:
    """The provenance says whether files of submodules and of Git LFS went in, and then they are fetched again."""
    content = b"weights " * 1000
    oid = hashlib.sha256(content).hexdigest()
    root = place.folder / "served"
    inner = git_server.commit(root / "inner", {"in.txt": "inside"})
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    toml = (place.project / "tidewaiter.toml").read_text().replace('["main.txt"]', '["main.txt", "libs", "w.bin"]')
    files = {"tidewaiter.toml": toml, "main.txt": "one\n", "w.bin": pointer, ".gitattributes": "*.bin filter=lfs\n"}
    files[".gitmodules"] = '[submodule "in"]\n\tpath = libs/in\n\turl = ../../inner/.git\n'
    git_server.commit(root / "proj", dict(files))
    git_server.git(root / "proj", "update-index", "--add", "--cacheinfo", f"160000,{inner},libs/in")
    git_server.git(root / "proj", "commit", "-q", "-m", "with a submodule")
    commit_id = git_server.git(root / "proj", "rev-parse", "HEAD")

    with git_server.git_server(root) as server:
        extra = {"TIDEWAITER_PLAIN_HTTP": server.host}

        def large(request: BaseHTTPRequestHandler) -> bool:
            if request.path.endswith("/objects/batch"):
                request.rfile.read(int(request.headers["Content-Length"]))
                href = f"{server.url}/large"
                objects = [{"oid": oid, "size": len(content), "actions": {"download": {"href": href}}}]
                reply(request, 200, json.dumps({"transfer": "basic", "objects": objects}).encode())
            elif request.path == "/large":
                reply(request, 200, content)
            else:
                return False
            return True

        server.before = large
        settings = all_settings.load({"TIDEWAITER_HOME": str(place.home), **extra})
        source = Source(repository=f"{server.url}/proj/.git", commit=commit_id, submodules=True, lfs=True)
        checkout(settings, source, place.folder / "clone", lambda _: None)
        built = run(place.home, "build", place.folder / "clone", "--provenance", place.folder / "provenance.json")
        assert built.code == 0, built.err
        said = place.statement["predicate"]["buildDefinition"]["externalParameters"]["source"]
        assert (said["submodules"], said["lfs"]) == (True, True)
        place.attest()
        shutil.rmtree(place.home / "cache")
        shutil.rmtree(place.folder / "clone")
        done = run(place.home, "rebuild", place.image, "--format", "json", extra=extra)
        assert done.code == 0, done.out + done.err
        assert done.json["same"]
        without = place.statement
        del without["predicate"]["buildDefinition"]["externalParameters"]["source"]["lfs"]
        (place.folder / "claimed.json").write_text(json.dumps(without))
        words = ["--provenance", place.folder / "claimed.json", "--insecure", "--format", "json"]
        other = run(place.home, "rebuild", place.image, *words, extra=extra)
    assert other.code == 1, other.out + other.err
    assert "/app/w.bin: changed" in other.json["differences"]


# Dockerfiles


@pytest.fixture
def dockerfile(tmp_path: Path, tool: Tool, docker_registry: str) -> tuple[Place, str, dict[str, str]]:
    """A place without a build, the name of an image with a shell in a registry, and settings that choose buildah."""
    tool("buildah")
    place = Place(tmp_path)
    extra = {"TIDEWAITER_BUILDER": "buildah", "TIDEWAITER_PLAIN_HTTP": docker_registry}
    make_shell(tmp_path / "shell", more={"which": b"first"})
    name = f"{docker_registry}/rebuilding/{tmp_path.name.lower()}:1"
    assert run(place.home, "copy", f"oci:{tmp_path}/shell:shell", name, extra=extra).code == 0
    assert run(place.home, "key", "generate").code == 0
    return place, name, extra


def _of_dockerfile(place: Place, text: str, extra: dict[str, str]) -> None:
    """Commit a project with that Dockerfile, build it, and attest how."""
    place.project.mkdir(parents=True)
    toml = TOML.partition("[base]")[0] + '[build]\ndockerfile = "Dockerfile"\n'
    (place.project / "tidewaiter.toml").write_text(toml)
    (place.project / "Dockerfile").write_text(text)
    (place.project / "note").write_text("noted\n")
    commit(place.folder / "repository")
    file = place.folder / "provenance.json"
    done = run(place.home, "build", place.project, "--provenance", file, extra=extra)
    assert done.code == 0, done.err
    place.attest()


@pytest.mark.interop
def test_a_dockerfile_is_built_again(dockerfile: tuple[Place, str, dict[str, str]]) -> None:
    """Its commands run anew, and a tag that means another image by now means what it meant then."""
    place, name, extra = dockerfile
    _of_dockerfile(place, f"FROM {name}\nCOPY note /note\nRUN cat /which > /copied\n", extra)
    make_shell(place.folder / "later", more={"which": b"second"})
    assert run(place.home, "copy", f"oci:{place.folder}/later:shell", name, extra=extra).code == 0
    words = ["rebuild", place.image, "--source", place.folder / "repository", "--format", "json"]
    done = run(place.home, *words, extra=extra)
    assert done.code == 0, done.out + done.err
    assert (done.json["same"], done.json["dockerfile"]) == (True, True)
    assert not list((place.home / "cache" / "work").glob("rebuild-*"))


@pytest.mark.interop
def test_a_dockerfile_whose_commands_differ_is_not_the_same(dockerfile: tuple[Place, str, dict[str, str]]) -> None:
    """What a command makes by chance is another image, said as a no, with the file that differs."""
    place, name, extra = dockerfile
    _of_dockerfile(place, f"FROM {name}\nRUN cat /proc/sys/kernel/random/uuid > /chance\n", extra)
    words = ["rebuild", place.image, "--source", place.folder / "repository"]
    done = run(place.home, *words, "--format", "json", extra=extra)
    assert done.code == 1, done.out + done.err
    assert not done.json["same"]
    assert done.json["inputs"] == []
    assert any("/chance" in line or "some bytes may differ" in line for line in done.json["differences"])
    text = run(place.home, *words, extra=extra)
    assert "not the same: commands of a Dockerfile may do something else each time" in text.out


@pytest.mark.interop
def test_a_dockerfile_that_cannot_be_built_here_leaves_it_open(dockerfile: tuple[Place, str, dict[str, str]]) -> None:
    """A command that fails, or a base that is gone, is "could not find out", never "not the same"."""
    place, name, extra = dockerfile
    _of_dockerfile(place, f"FROM {name}\nRUN cat /which > /copied\n", extra)
    gone = place.statement
    for one in gone["predicate"]["buildDefinition"]["resolvedDependencies"]:
        if one["name"] == name:
            one["digest"] = {"sha256": "0" * 64}
    (place.folder / "claimed.json").write_text(json.dumps(gone))
    words = ["--provenance", place.folder / "claimed.json", "--insecure", "--format", "json"]
    done = run(place.home, "rebuild", place.image, "--source", place.folder / "repository", *words, extra=extra)
    assert done.code == 3, done.out + done.err
    assert done.json["error"]["code"] == "not_rebuildable"

"""Projects that stand on an image that exists: fetched, added to, cleared, and read by other tools."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foreign_images import RUN, as_docker, serving_base
from image_builder import Tar, put_image
from servers import StartRegistry, Tool
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Platform
from workplace import Done, commit, git, run

TOML = """\
[image]
name = "team/serving"
purpose = "serving"
environment = "research"

[base]
use = "{use}"

[[models]]
name = "mnist"
path = "model"
version = 3
"""


@pytest.fixture
def plain_home(tmp_path: Path) -> Path:
    """A home that has nothing yet."""
    return tmp_path / "home"


def _project(folder: Path, use: str, more: str = "") -> Path:
    for name, content in (("saved_model.pb", b"pb" * 5000), ("variables/variables.index", b"index")):
        (folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / name).write_bytes(content)
    (folder / "tidewaiter.toml").write_text(TOML.format(use=use) + more)
    commit(folder)
    return folder


def _built(home: Path, project: Path, extra: dict[str, str] | None = None) -> Any:
    done = run(home, "build", project, "--format", "json", extra=extra)
    assert done.code == 0, done.err + done.out
    return done.json


def _image(home: Path, digest: str) -> Image:
    layout = Layout(home / "store")
    data = layout.read(digest)  # type: ignore[arg-type]  # the command's own digest
    stated = documents.decode_manifest(data).media_type
    return images.load(
        layout,
        Descriptor(media_type=stated or "", digest=digest, size=len(data)),  # type: ignore[arg-type]  # as above
    )


def _denied(done: Done, what: str) -> None:
    assert done.code == 2, done.err
    assert what in done.err + done.out


@pytest.fixture
def registry(start_docker_registry: StartRegistry) -> Iterator[str]:
    """A registry of its own, which a test may look at when it is over."""
    with start_docker_registry("") as host:
        yield host


@pytest.mark.thorough
def test_a_model_on_a_serving_base_of_a_registry(
    tmp_path: Path, plain_home: Path, start_docker_registry: StartRegistry, tool: Tool
) -> None:
    """The base's layers, config and history stay; the model is one layer more; nothing is asked for a second time."""
    base = serving_base(tmp_path / "base")
    with start_docker_registry("") as host:
        target = f"docker://{host}/tf/serving:1"
        copy = [tool("skopeo"), "copy", "-q", "--dest-tls-verify=false", f"oci:{tmp_path}/base:base", target]
        subprocess.run(copy, check=True, timeout=60)
        project = _project(tmp_path / "project", f"docker://{host}/tf/serving@{base.digest}")
        extra = {"TIDEWAITER_PLAIN_HTTP": host}
        first = _built(plain_home, project, extra)
        tagged = _project(tmp_path / "tagged", f"docker://{host}/tf/serving:1")
        _denied(run(plain_home, "build", tagged, extra=extra), f'Write "docker://{host}/tf/serving@{base.digest}"')
    # The registry is gone: what is here is neither asked for nor fetched.
    again = _built(plain_home, project)
    assert again["digest"] == first["digest"]
    assert again["built_layers"] == 0
    made = _image(plain_home, first["digest"])
    assert made.manifest.layers[:2] == base.manifest.layers
    assert made.media_type == documents.MANIFEST
    assert made.config.config == RUN
    assert made.annotations["org.opencontainers.image.base.name"] == f"{host}/tf/serving@{base.digest}"
    assert made.annotations["org.opencontainers.image.base.digest"] == base.digest
    assert [layer["kind"] for layer in first["layers"]] == ["base", "base", "model"]
    created = [entry.created_by or "" for entry in made.config.history if not entry.empty_layer]
    assert len(created) == 3
    assert created[2] == "tidewaiter: model mnist/3"
    assert run(plain_home, "key", "generate").code == 0
    cleared = run(plain_home, "ci", project)
    assert cleared.code == 0, cleared.err


@pytest.mark.interop
def test_another_tool_unpacks_what_the_base_and_we_meant(tmp_path: Path, plain_home: Path, tool: Tool) -> None:
    """umoci finds linked folders still linked, folders with the base's modes, and the model where they lead."""
    base = serving_base(tmp_path / "base")
    made = _built(plain_home, _project(tmp_path / "project", f"oci:../base@{base.digest}"))
    source = f"oci-archive:{tmp_path}/out.tar"
    assert run(plain_home, "copy", f"team/serving@{made['digest']}", source).code == 0
    layout = f"oci:{tmp_path}/layout:x"
    subprocess.run([tool("skopeo"), "copy", "-q", source, layout], check=True, timeout=60)
    bundle = tmp_path / "bundle"
    unpack = [tool("umoci"), "raw", "unpack", "--rootless", "--image", f"{tmp_path}/layout:x", str(bundle)]
    subprocess.run(unpack, check=True, timeout=60, capture_output=True)
    assert (bundle / "lib").readlink() == Path("usr/lib")
    assert (bundle / "models").readlink() == Path("data/models")
    assert (bundle / "data/models/mnist/3/saved_model.pb").read_bytes() == b"pb" * 5000
    modes = {name: (bundle / name).stat().st_mode & 0o7777 for name in ("usr/lib", "data", "data/models")}
    assert modes == {"usr/lib": 0o775, "data": 0o2750, "data/models": 0o700}
    assert not (bundle / "old").exists()


@pytest.mark.thorough
def test_a_docker_base_gives_a_docker_image(tmp_path: Path, plain_home: Path, registry: str, tool: Tool) -> None:
    """All media types are Docker's own, labels say what annotations say, a registry and skopeo take the image."""
    serving_base(tmp_path / "oci")
    base = as_docker(tmp_path / "oci", tmp_path / "base", tool("skopeo"))
    project = _project(tmp_path / "project", f"oci:../base@{base.digest}")
    made = _image(plain_home, _built(plain_home, project)["digest"])
    assert made.media_type == documents.DOCKER_MANIFEST
    assert made.manifest.config.media_type == documents.DOCKER_CONFIG
    assert {one.media_type for one in made.manifest.layers} == {documents.DOCKER_LAYER}
    assert made.config.config.labels is not None
    assert made.config.config.labels["org.opencontainers.image.base.digest"] == base.digest
    assert made.config.config.labels["maintainer"] == "someone"
    assert run(plain_home, "key", "generate").code == 0
    assert run(plain_home, "ci", project).code == 0
    extra = {"TIDEWAITER_PLAIN_HTTP": registry}
    pushed = run(plain_home, "push", f"team/serving@{made.digest}", f"{registry}/team/serving:1", extra=extra)
    assert pushed.code == 0, pushed.err
    look = [tool("skopeo"), "inspect", "--tls-verify=false", "--raw", f"docker://{registry}/team/serving:1"]
    told = json.loads(subprocess.run(look, check=True, timeout=60, capture_output=True).stdout)
    assert told["mediaType"] == documents.DOCKER_MANIFEST
    refused = run(plain_home, "build", project, "--compression", "zstd")
    _denied(refused, "Docker schema 2 image")


def test_an_index_is_followed_to_the_platform(tmp_path: Path, plain_home: Path) -> None:
    """Of an index the image of the platform is taken; a single image of another platform is refused with what to do."""
    base = serving_base(tmp_path / "base")
    layout = Layout(tmp_path / "base")
    other = serving_base(tmp_path / "base", architecture="arm64")
    children = [
        _in_index(image.descriptor, Platform(architecture=name, os="linux"))
        for image, name in ((other, "arm64"), (base, "amd64"))
    ]
    data = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=children))
    digest = layout.put(data)
    made = _image(plain_home, _built(plain_home, _project(tmp_path / "one", f"oci:../base@{digest}"))["digest"])
    assert made.annotations["org.opencontainers.image.base.digest"] == base.digest
    alone = _project(tmp_path / "two", f"oci:../base@{other.digest}")
    _denied(run(plain_home, "build", alone), "--platform linux/arm64")
    done = run(plain_home, "build", alone, "--platform", "linux/arm64", "--format", "json")
    assert done.code == 0, done.err
    assert _image(plain_home, done.json["digest"]).config.architecture == "arm64"


def _in_index(descriptor: Descriptor, platform: Platform) -> Descriptor:
    """The descriptor as an index names it."""
    return Descriptor(
        media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size, platform=platform
    )


def test_an_app_without_python_runs_as_the_user_that_is_named(tmp_path: Path, plain_home: Path) -> None:
    """Files of the app lie in /app of any base, uncompiled where there is no Python; `user` replaces the base's."""
    base = serving_base(tmp_path / "base")
    more = '\n[app]\ninclude = ["serve.py"]\nentrypoint = ["/usr/bin/server", "/app/serve.py"]\nuser = "65532:65532"\n'
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "serve.py").write_text("print(1)\n")
    made = _built(plain_home, _project(folder, f"oci:../base@{base.digest}", more))
    image = _image(plain_home, made["digest"])
    assert made["layers"][-1]["contents"] == ["app/serve.py"]
    run_config = image.config.config
    assert (run_config.user, run_config.working_dir) == ("65532:65532", "/app")
    assert (run_config.entrypoint, run_config.cmd) == (["/usr/bin/server", "/app/serve.py"], None)
    assert run_config.env == RUN.env
    (folder / "tidewaiter.toml").write_text((folder / "tidewaiter.toml").read_text().replace("65532:65532", "No One"))
    _denied(run(plain_home, "build", folder), "is no user")


def test_a_model_outside_of_git_is_pinned_by_its_digest(tmp_path: Path, plain_home: Path) -> None:
    """An untracked model makes the build differ from its commit until the project file says which one it is."""
    base = serving_base(tmp_path / "base")
    project = _project(tmp_path / "project", f"oci:../base@{base.digest}")
    assert not _built(plain_home, project)["reference"].endswith("-dirty")
    (project / ".gitignore").write_text("model/\n")
    git(project, "rm", "-r", "-q", "--cached", "model")
    commit(project)
    done = run(plain_home, "build", project, "--format", "json")
    assert done.json["reference"].endswith("-dirty")
    (said,) = (line for line in done.err.splitlines() if 'digest = "sha256:' in line)
    digest = said.partition('digest = "')[2].partition('"')[0]
    with (project / "tidewaiter.toml").open("a") as file:
        file.write(f'digest = "{digest}"\n')
    commit(project)
    assert not _built(plain_home, project)["reference"].endswith("-dirty")
    (project / "model/saved_model.pb").write_bytes(b"another")
    _denied(run(plain_home, "build", project), "its digest says")


@pytest.mark.parametrize("name", ["docker-archive:base.tar", "oci-archive:base.tar"])
def test_archives_are_to_be_pulled_first(tmp_path: Path, plain_home: Path, name: str) -> None:
    """An archive has no digest of its own, so that a base cannot be named by it; the error says what can."""
    _denied(run(plain_home, "build", _project(tmp_path / "project", name)), "store:NAME@sha256:")


def test_a_pulled_image_is_a_base(tmp_path: Path, plain_home: Path) -> None:
    """`store:NAME@sha256:…` stands on what was pulled; a digest that is not there is not found."""
    base = serving_base(tmp_path / "base")
    pulled = run(plain_home, "pull", f"oci:{tmp_path}/base:base", "tf/serving:1")
    assert pulled.code == 0, pulled.err
    made = _built(plain_home, _project(tmp_path / "project", f"store:tf/serving@{base.digest}"))
    assert len(made["layers"]) == 3
    wrong = _project(tmp_path / "wrong", f"store:tf/serving@sha256:{'0' * 64}")
    _denied(run(plain_home, "build", wrong), "no blob")
    named = _project(tmp_path / "named", "store:tf/serving:1")
    _denied(run(plain_home, "build", named), f'"store:tf/serving@{base.digest}"')


@pytest.mark.thorough
def test_wheels_go_to_the_python_of_the_base(tmp_path: Path, home: Path, warm_home: Path) -> None:
    """The lock's wheels replace the base's own release of a package, compiled by the base's interpreter."""
    warm = Layout(warm_home / "store")
    descriptor = warm.resolve(warm.tags()[0])
    shutil.copytree(warm_home / "store", tmp_path / "base")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "requirements.in").write_text("six==1.16.0\n")
    (folder / "main.py").write_text(
        "import six, importlib.metadata as m\nprint(six.__version__, m.version('six'), six.__cached__)\n"
    )
    more = '\n[python]\nversion = "{}"\nrequirements = "requirements.in"\n[app]\ninclude = ["main.py"]\n'
    more += 'entrypoint = ["python", "/app/main.py"]\n'
    project = _project(folder, f"oci:../base@{descriptor.digest}", more.format("3.11"))
    locked = run(home, "lock", project)
    assert locked.code == 0, locked.err
    commit(project)
    made = _built(home, project)
    assert [layer["kind"] for layer in made["layers"]][-4:] == ["python", "python", "model", "app"]
    done = run(home, "exec", f"team/serving@{made['digest']}")
    place = "/usr/local/lib/python3.11/dist-packages/__pycache__/six.cpython-311.pyc"
    assert (done.code, done.out) == (0, f"1.16.0 1.16.0 {place}\n"), done.err
    facts = run(home, "inspect", f"team/serving@{made['digest']}", "--format", "json").json
    assert [one["version"] for one in facts["components"] if one["name"] == "six"] == ["1.16.0"]
    other = _project(folder, f"oci:../base@{descriptor.digest}", more.format("3.12"))
    (folder / "pylock.toml").unlink()
    commit(folder)
    _denied(run(home, "build", other), "It has python3.11")


@pytest.mark.thorough
def test_files_of_an_image_are_taken_onto_a_recipes_base(tmp_path: Path, home: Path, project: Path) -> None:
    """`[[base.take]]` puts a program onto a base made here; it runs, is a material of the build, and needs a digest."""
    tar = Tar().file("opt/tools/hello", "#!/usr/bin/python3.11\nprint('hello')\n", mode=0o755).file("opt/secret", b"s")
    tools = put_image(Layout(tmp_path / "tools"), [tar.bytes()], name="tools")
    text = (project / "tidewaiter.toml").read_text()
    section = '[[base.take]]\nimage = "{}"\npaths = ["/opt/tools/hello"]\n\n[python]'
    (project / "tidewaiter.toml").write_text(text.replace("[python]", section.format("oci:../tools")))
    commit(project)
    _denied(run(home, "build", project), f'Write "oci:../tools@{tools.digest}"')
    named = section.format(f"oci:../tools@{tools.digest}")
    (project / "tidewaiter.toml").write_text(text.replace("[python]", named))
    commit(project)
    made = _built(home, project)
    assert ["/opt/tools/hello"] in [layer["contents"] for layer in made["layers"]]
    done = run(home, "exec", f"team/small@{made['digest']}", "--", "/opt/tools/hello")
    assert (done.code, done.out) == (0, "hello\n"), done.err
    assert _built(home, project)["built_layers"] == 0

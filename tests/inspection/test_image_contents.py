import base64
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.inspection.catalogers import secrets
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image import inspect
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layer import Entry
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

SITE = "usr/local/lib/python3.11/site-packages"
KEY = (
    "-----BEGIN {}PRIVATE KEY-----\n" + base64.encodebytes(bytes(range(200))).decode() + "-----END {}PRIVATE KEY-----\n"
)
# Put together here, so that no scanner takes this file for a leak.
TOKENS = {
    "aws-access-key": "AKI" + "A2OGYBAH6QWERTY2X",
    "github-token": "gh" + "p_" + "aB3" * 12,
    "gitlab-token": "glp" + "at-" + "x1y2" * 5,
    "slack-token": "xo" + "xb-" + "123456789012-abcdefghijKLMN",
    "hugging-face-token": "h" + "f_" + "aBcDeFgHiJ" * 3 + "kLmN",
    "google-api-key": "AI" + "za" + "Sy0-_" * 7,
    "pypi-token": "py" + "pi-AgEIcHlwaS5vcmc" + "aB3_-" * 12,
    "npm-token": "np" + "m_" + "aB3" * 12,
}
Facts = Callable[..., ImageFacts]


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """Inspects an image of the layers given."""

    def of(*tars: Tar, run: RunConfig | None = None) -> ImageFacts:
        return inspect(put_image(Layout(tmp_path / "layout"), [tar.bytes() for tar in tars], run=run), reference="it:1")

    return of


def dist(name: str, version: str) -> tuple[str, str]:
    return f"{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"


def exposed(found: ImageFacts) -> list[tuple[str, str]]:
    return [(one.kind, one.path) for one in found.exposed]


def test_permissions_that_help_an_attacker_are_told(facts: Facts) -> None:
    """Set-uid and set-gid programs, and what anybody may write; not `/tmp`, symlinks or set-gid folders."""
    tar = Tar().directory("tmp", mode=0o1777).directory("data", mode=0o777).directory("mail", mode=0o2775)
    tar.file("bin/su", b"x", mode=0o4755).file("bin/wall", b"x", mode=0o2755).file("notes", b"x", mode=0o666)
    tar.file("plain", b"x", mode=0o755).symlink("link", "plain").hardlink("bin/su2", "bin/su", mode=0o4755)
    assert exposed(facts(tar)) == [
        ("set_uid", "bin/su"), ("set_uid", "bin/su2"), ("set_gid", "bin/wall"), ("world_writable", "data"),
        ("world_writable", "notes"),
    ]  # fmt: skip


def test_permissions_count_as_a_container_sees_them(facts: Facts) -> None:
    """A later layer that takes the right away, or the file, takes the alarm away; one that gives it raises it."""
    base = Tar().file("a", b"x", mode=0o4755).file("b", b"x", mode=0o4755).directory("c", mode=0o777).file("d", b"x")
    upper = Tar().file("a", b"x", mode=0o755).file(".wh.b").directory("c", mode=0o755).file("d", b"x", mode=0o666)
    assert exposed(facts(base, upper)) == [("world_writable", "d")]
    again = Tar().file("a", b"x", mode=0o4755).file("a", b"x", mode=0o755)
    assert exposed(facts(again)) == []


def scan(text: bytes, path: str = "app/config.env") -> list[tuple[str, int]]:
    collector = Collector()
    entry = Entry(path=path, kind="file", size=len(text))
    if secrets.wants(path, entry):
        file = io.BytesIO(text)
        secrets.read(path, entry, file.read(4), file, collector)
    return [(one.rule, one.line) for one in collector.exposures.get(path, ())]


@pytest.mark.parametrize("rule", TOKENS)
def test_a_token_is_found_and_never_told(rule: str) -> None:
    """Each rule finds its token with the line; a shorter or a longer word is none."""
    token = TOKENS[rule].encode()
    assert scan(b"\n# settings\nTOKEN=" + token + b"\n") == [(rule, 3)]
    assert scan(b"'" + token + b"'") == [(rule, 1)]
    assert scan(token[:-15]) == []
    assert scan(b"Z" + token + b"\n") == []


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_a_private_key_is_found(kind: str) -> None:
    """Keys of every common kind; a certificate, a public key and a mention of a key are none."""
    assert scan(b"text\n" + KEY.format(kind, kind).encode()) == [("private-key", 2)]
    assert scan(KEY.format(kind, kind).replace("PRIVATE", "PUBLIC").encode()) == []
    assert scan(f'if text.startswith("-----BEGIN {kind}PRIVATE KEY-----"):\n    load(text)\n'.encode()) == []


@pytest.mark.parametrize(
    "path",
    ["usr/share/doc/x/example.pem", f"{SITE}/tests/key.pem", "usr/lib/python3/dist-packages/a/key.pem",
     "app/node_modules/a/test.key", "go/testdata/key.pem"],
)  # fmt: skip
def test_keys_that_packages_bring_raise_no_alarm(path: str) -> None:
    """Test keys of packages and documentation are no secrets of this image."""
    assert scan(KEY.format("", "").encode(), path) == []


def test_only_texts_of_a_bounded_size_are_searched() -> None:
    """A file at the bound is read, one byte more is not; binary files are left alone."""
    key = KEY.format("", "").encode()
    assert scan(key.rjust(limits.SECRET_FILE_BYTES, b"\n")) != []
    assert scan(key.rjust(limits.SECRET_FILE_BYTES + 1, b"\n")) == []
    assert scan(b"\0" + key) == []


def test_a_deleted_secret_is_still_told(facts: Facts) -> None:
    """Who has the image has its lower layers; nothing that is printed holds the secret itself."""
    base = Tar().file("root/.ssh/id_rsa", KEY.format("RSA ", "RSA "), mode=0o600)
    base.file("start.sh", "#!/bin/sh\n" + "#" * 5000 + "\nexport T=" + TOKENS["github-token"], mode=0o755)
    found = facts(base, Tar().file("root/.ssh/.wh.id_rsa"))
    assert [(one.path, one.rule, one.line, one.layer) for one in found.exposed] == [
        ("root/.ssh/id_rsa", "private-key", 1, found.layers[0].diff_id),
        ("start.sh", "github-token", 3, found.layers[0].diff_id),
    ]
    document = msgspec.json.encode(found)
    assert TOKENS["github-token"].encode() not in document
    assert KEY.splitlines()[1].encode() not in document


def test_frameworks_models_and_kinds_of_installs(facts: Facts) -> None:
    """Versions of TensorFlow, Python, CUDA and cuDNN are put together; models are components that nobody checks."""
    tar = Tar().file("etc/os-release", "ID=debian\nVERSION_ID=12\n")
    for folder, (path, text) in (
        (SITE, dist("tensorflow", "2.18.0")),
        (SITE, dist("nvidia_cuda_runtime_cu12", "12.5.82")),
        (SITE, dist("nvidia-cudnn-cu12", "9.3.0.75")),
        (SITE, dist("demo", "0.1")),
        (f"{SITE}/pip/_vendor", dist("urllib3", "1.26.20")),
    ):
        tar.file(f"{folder}/{path}", text)
    tar.file(f"{SITE}/demo-0.1.dist-info/direct_url.json", '{"url": "file:///src", "dir_info": {"editable": true}}')
    tar.file(f"{SITE}/nvidia/cudnn/lib/libcudnn.so.9", b"so")
    tar.file(
        f"{SITE}/tensorflow/python/platform/build_info.py",
        "build_info = collections.OrderedDict([('cuda_version', '12.5.1'), ('cudnn_version', '9'), "
        "('cuda_compute_capabilities', ['sm_60', 'compute_90'])])",
    )
    tar.file("usr/local/include/python3.11/patchlevel.h", '#define PY_VERSION "3.11.9"\n')
    tar.file("models/mnist/1/saved_model.pb", b"\x08\x01\x12\x02\x12\x00")
    found = facts(tar, run=RunConfig(env=["PYTHON_VERSION=3.11.1"]))
    record = found.framework
    assert record is not None
    assert (record.tensorflow, record.python, record.cuda, record.cudnn) == ("2.18.0", "3.11.9", "12.5.82", "9.3.0.75")
    assert (record.built_for_cuda, record.built_for_cudnn) == ("12.5.1", "9")
    assert record.compute_capabilities == ("sm_60", "compute_90")
    assert [one.name for one in found.frameworks] == ["cudnn", "python", "tensorflow"]
    installs = {one.name: one.install for one in found.components if one.install}
    assert installs == {"demo": "editable", "urllib3": "vendored"}
    (model,) = found.models
    component = next(one for one in found.components if one.kind == "model")
    assert (model.name, model.version, component.purl) == ("mnist", "1", "pkg:generic/mnist@1")
    assert (component.location, component.layer, component.ecosystem) == (model.path, model.layer, "")
    assert msgspec.json.decode(msgspec.json.encode(found), type=ImageFacts) == found


def test_an_image_without_frameworks_has_no_record(facts: Facts) -> None:
    """The record is null rather than four empty fields; the official images' variable is used where nothing else is."""
    assert facts(Tar().file("a", b"x")).framework is None
    record = facts(Tar().file("a", b"x"), run=RunConfig(env=["PYTHON_VERSION=3.12.4"])).framework
    assert record is not None
    assert record.python == "3.12.4"


def test_relations_stay_inside_an_ecosystem(facts: Facts) -> None:
    """A package of npm that needs `six` does not need Python's; Alpine's ask for what others provide."""
    tar = Tar().file("etc/os-release", "ID=alpine\nVERSION_ID=3.20.3\n")
    tar.file("lib/apk/db/installed", "P:a\nV:1-r0\nD:so:libb.so.1\n\nP:b\nV:2-r0\np:so:libb.so.1=1\n")
    tar.file("n/node_modules/x/package.json", '{"name": "x", "version": "1.0.0", "dependencies": {"six": "1"}}')
    tar.file(f"{SITE}/" + dist("six", "1.16")[0], dist("six", "1.16")[1])
    requires = {one.name: one.requires for one in facts(tar).components}
    assert requires == {"a": ("pkg:apk/alpine/b@2-r0?distro=alpine-3.20.3",), "b": (), "x": (), "six": ()}


def test_a_hard_link_to_an_archive_keeps_its_packages(facts: Facts) -> None:
    """When a later layer deletes one of two names, the packages are still there under the other."""
    tar = Tar().file("lib/a-1.0.jar", b"no archive").hardlink("opt/a.jar", "lib/a-1.0.jar")
    found = facts(tar, Tar().file("lib/.wh.a-1.0.jar"))
    assert [(one.purl, one.location) for one in found.components] == [("pkg:maven/a@1.0", "opt/a.jar")]


@pytest.mark.parametrize("path", ["lib/a-1.0.jar", "m/1/saved_model.pb", "app/program", "settings.env"])
def test_a_layer_that_ends_inside_a_file_that_is_read_is_refused(tmp_path: Path, path: str) -> None:
    """A tar that is cut off is an error with a next step, whichever cataloger was reading."""
    content = b"\x7fELF\x02\x01".ljust(90_000, b"\x01") if path == "app/program" else b"text\n" * 18_000
    cut = Tar().file(path, content, mode=0o755).bytes()[:20_000]
    with pytest.raises(InputError, match="ends inside a file"):
        inspect(put_image(Layout(tmp_path / "layout"), [cut]), reference="it:1")

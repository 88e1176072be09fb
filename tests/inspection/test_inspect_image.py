import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Never, Self

import msgspec
import pytest

from image_builder import CREATED, Tar, put_image
from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.core.progress import Silent
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image import inspect
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

SITE = "usr/local/lib/python3.11/dist-packages"
OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
Facts = Callable[..., ImageFacts]


def metadata(name: str, version: str, *more: str) -> str:
    return "\n".join([f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *more, "", "Long description"])


def distribution(tar: Tar, name: str, version: str, *more: str) -> Tar:
    return tar.file(f"{SITE}/{name}-{version}.dist-info/METADATA", metadata(name, version, *more))


def deb(name: str, version: str, *more: str) -> str:
    return "\n".join([f"Package: {name}", f"Version: {version}", "Architecture: amd64", *more, "", ""])


def purls(facts: ImageFacts) -> list[str]:
    return [component.purl for component in facts.components]


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """Inspects an image of the layers given."""

    def of(*tars: Tar, run: RunConfig | None = None) -> ImageFacts:
        return inspect(put_image(Layout(tmp_path / "layout"), [tar.bytes() for tar in tars], run=run), reference="it:1")

    return of


def test_facts_of_a_whole_image(facts: Facts) -> None:
    """Distribution, packages of both kinds, programs, configuration and sizes come from the bytes."""
    base = Tar().file("etc/os-release", OS_RELEASE).file("bin/sh", b"elf", mode=0o755)
    base.file("var/lib/dpkg/status.d/libc6", deb("libc6", "2.36-9+deb12u9", "Source: glibc"))
    base.file("var/lib/dpkg/status.d/libc6.md5sums", "0  lib/libc.so.6")
    python = distribution(Tar(), "Flask_Thing", "3.0", "License-Expression: mit", "Requires-Dist: Jinja2>=3")
    distribution(python, "Jinja2", "3.1")
    run = RunConfig(
        user="65532",
        entrypoint=["python"],
        env=["PATH=/usr/bin", "API_TOKEN=abc"],
        exposed_ports={"80/tcp": {}},
        volumes={"/b": {}, "/a": {}},
    )
    found = facts(base, python, run=run)

    assert purls(found) == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12",
        "pkg:pypi/flask-thing@3.0",
        "pkg:pypi/jinja2@3.1",
    ]
    libc, flask, _ = found.components
    assert (libc.ecosystem, libc.source_name, libc.source_version) == ("Debian:12", "glibc", "")
    assert (flask.name, flask.ecosystem, flask.licenses, flask.requires) == (
        "Flask_Thing",
        "PyPI",
        ("MIT",),
        ("pkg:pypi/jinja2@3.1",),
    )
    assert [layer.diff_id for layer in found.layers] == [libc.layer, flask.layer]
    assert found.operating_system is not None
    assert (found.operating_system.id, found.operating_system.version) == ("debian", "12")
    assert [(program.path, program.kind) for program in found.programs] == [("bin/sh", "shell")]
    assert (found.runs_as_root, found.created, found.exposed_ports) == (False, CREATED, ("80/tcp",))
    assert found.volumes == ("/a", "/b")
    assert found.env == {"PATH": "/usr/bin", "API_TOKEN": "****"}
    assert [layer.files for layer in found.layers] == [4, 2]
    assert found.size == sum(layer.size for layer in found.layers)
    assert found.unpacked_size == sum(layer.unpacked_size for layer in found.layers)
    assert found.unread == ()
    assert msgspec.json.decode(msgspec.json.encode(found), type=ImageFacts) == found


@pytest.mark.parametrize(
    "upper",
    [
        Tar().file(f"{SITE}/.wh.a-1.dist-info"),
        Tar().file(f"{SITE}/a-1.dist-info/.wh.METADATA"),
        Tar().file(f"{SITE}/a-1.dist-info/.wh..wh..opq"),
        Tar().file("usr/.wh..wh..opq"),
        Tar().file(".wh..wh..opq"),
        Tar().file("usr/local/.wh.lib"),
        Tar().file(f"{SITE}/a-1.dist-info", "now a file"),
        Tar().symlink("usr/local", "elsewhere"),
        Tar().directory(f"{SITE}/a-1.dist-info/METADATA"),
    ],
    ids=range(9),
)
def test_what_a_later_layer_deletes_is_gone(facts: Facts, upper: Tar) -> None:
    """Whiteouts, opaque folders and replacements at any height take a component away."""
    assert purls(facts(distribution(Tar(), "a", "1"), upper)) == []


@pytest.mark.parametrize(
    "upper",
    [
        Tar().file(f"{SITE}/.wh.b-1.dist-info"),
        Tar().file("etc/.wh..wh..opq"),
        Tar().directory(f"{SITE}/a-1.dist-info"),
        Tar().directory("usr", mode=0o700),
        Tar().file(f"{SITE}/a-1.dist-info/RECORD"),
        Tar().file(f"{SITE}/.wh..wh.plnk"),
    ],
    ids=range(6),
)
def test_what_a_later_layer_leaves_stays(facts: Facts, upper: Tar) -> None:
    """Other whiteouts, folders that are only repeated, and new files beside it leave a component alone."""
    assert purls(facts(distribution(Tar(), "a", "1"), upper)) == ["pkg:pypi/a@1"]


def test_a_whiteout_spares_its_own_layer(facts: Facts) -> None:
    """An opaque folder hides the layers below, not what its own layer brings."""
    upper = distribution(Tar().file("usr/.wh..wh..opq"), "b", "2")
    assert purls(facts(distribution(Tar(), "a", "1"), upper)) == ["pkg:pypi/b@2"]


def test_a_replaced_package_is_the_new_one(facts: Facts) -> None:
    """Metadata that a later layer writes again counts once, in its last version."""
    lower = Tar().file(f"{SITE}/a.egg-info/PKG-INFO", metadata("a", "1"))
    upper = Tar().file(f"{SITE}/a.egg-info/PKG-INFO", metadata("a", "2"))
    found = facts(lower, upper)
    assert purls(found) == ["pkg:pypi/a@2"]
    assert found.components[0].layer == found.layers[1].diff_id


def test_a_debian_package_belongs_to_the_layer_that_installed_it(facts: Facts) -> None:
    """dpkg writes its whole status again; a package stays with the first layer that named that version."""
    status = "var/lib/dpkg/status"
    found = facts(
        Tar().file("etc/os-release", OS_RELEASE).file(status, deb("a", "1") + deb("b", "1") + deb("c", "1")),
        Tar().file(status, deb("a", "1") + deb("b", "2")),
    )
    layer = {component.name: component.layer for component in found.components}
    assert layer == {"a": found.layers[0].diff_id, "b": found.layers[1].diff_id}


def test_os_release_is_found_through_its_link_and_in_a_later_layer(facts: Facts) -> None:
    """`etc/os-release -> ../usr/lib/os-release` names the distribution of packages in every layer."""
    found = facts(
        Tar().file("var/lib/dpkg/status.d/a", deb("a", "1")),
        Tar().symlink("etc/os-release", "../usr/lib/os-release").file("usr/lib/os-release", OS_RELEASE),
    )
    assert found.components[0].ecosystem == "Debian:12"


@pytest.mark.parametrize(
    ("release", "ecosystem", "purl"),
    [
        (
            "ID=ubuntu\nVERSION_ID=22.04\nVERSION='22.04.4 LTS (Jammy)'",
            "Ubuntu:22.04:LTS",
            "pkg:deb/ubuntu/a@1?arch=amd64&distro=ubuntu-22.04",
        ),
        ("ID=ubuntu\nVERSION_ID=23.10", "Ubuntu:23.10", "pkg:deb/ubuntu/a@1?arch=amd64&distro=ubuntu-23.10"),
        ("ID=debian", "Debian", "pkg:deb/debian/a@1?arch=amd64&distro=debian"),
        ("ID=kali\nVERSION_ID=2024.1", "kali:2024.1", "pkg:deb/kali/a@1?arch=amd64&distro=kali-2024.1"),
        (None, "unknown", "pkg:deb/a@1?arch=amd64"),
    ],
)  # fmt: skip
def test_ecosystems_are_named_as_osv_names_them(facts: Facts, release: str | None, ecosystem: str, purl: str) -> None:
    """The release is part of the ecosystem; an image without os-release is never taken for Debian."""
    tar = Tar().file("var/lib/dpkg/status", deb("a", "1"))
    if release is not None:
        tar.file("usr/lib/os-release", release)
    component = facts(tar).components[0]
    assert (component.ecosystem, component.purl) == (ecosystem, purl)


def test_licences_of_a_debian_package_follow_its_documentation_link(facts: Facts) -> None:
    """A doc folder that is a link to another package's gives that package's licences."""
    dep5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Expat\n"
    tar = Tar().file(
        "var/lib/dpkg/status",
        deb("a", "1") + deb("b", "1", "Depends: a (>= 1) | x, y:any, virtual") + deb("c", "1", "Provides: virtual"),
    )
    tar.file("usr/share/doc/a/copyright", dep5).symlink("usr/share/doc/b", "a")
    found = {component.name: component for component in facts(tar).components}
    assert (found["a"].licenses, found["b"].licenses, found["c"].licenses) == (("MIT",), ("MIT",), ())
    assert found["b"].requires == ("pkg:deb/a@1?arch=amd64", "pkg:deb/c@1?arch=amd64")


def test_a_symlinked_program_counts_when_its_target_is_there(facts: Facts) -> None:
    """`sh -> busybox` is a shell while busybox is there, in whichever layer; a dangling or looping link is none."""
    links = (
        Tar()
        .symlink("bin/sh", "/opt/tools/bb")
        .symlink("bin/bash", "missing")
        .symlink("bin/ash", "zsh")
        .symlink("bin/zsh", "ash")
    )
    assert [program.path for program in facts(links).programs] == []
    assert [program.path for program in facts(links, Tar().file("opt/tools/bb")).programs] == ["bin/sh"]
    gone = facts(links, Tar().file("opt/tools/bb"), Tar().file("opt/.wh.tools"))
    assert gone.programs == ()


def test_a_program_behind_a_linked_folder_is_found(facts: Facts) -> None:
    """With `bin -> usr/bin`, a link to `/bin/dash` leads to `usr/bin/dash`."""
    found = facts(Tar().symlink("bin", "usr/bin").file("usr/bin/dash", mode=0o755).symlink("usr/bin/sh", "/bin/dash"))
    assert [program.path for program in found.programs] == ["usr/bin/dash", "usr/bin/sh"]


def test_programs_are_told_by_name_and_mode(facts: Facts) -> None:
    """Executables in bin folders count; data, other folders and other names do not. Shells count everywhere."""
    tar = Tar()
    for path in (
        "usr/bin/apt-get",
        "usr/sbin/sshd",
        "opt/conda/bin/pip3.11",
        "usr/bin/x86_64-linux-gnu-gcc-12",
        "busybox/sh",
    ):
        tar.file(path, mode=0o755)
    tar.hardlink("usr/bin/cc", "usr/bin/x86_64-linux-gnu-gcc-12").file("usr/bin/gcc", mode=0o644)
    tar.file("usr/share/gcc", mode=0o755).file("usr/bin/gcc.py", mode=0o755).file("usr/cabin/gcc", mode=0o755).file(
        "usr/share/bash"
    )
    distribution(tar, "jupyterlab", "4.0")
    assert {program.path: program.kind for program in facts(tar).programs} == {
        "usr/bin/apt-get": "package_manager",
        "usr/sbin/sshd": "ssh_server",
        "opt/conda/bin/pip3.11": "package_manager",
        "usr/bin/x86_64-linux-gnu-gcc-12": "compiler",
        "usr/bin/cc": "compiler",
        "busybox/sh": "shell",
        f"{SITE}/jupyterlab-4.0.dist-info/METADATA": "jupyter",
    }


@pytest.mark.parametrize(
    ("user", "root"),
    [
        ("", True), ("0", True), ("00", True), ("+0", True), ("root", True), ("0:65532", True), (":65532", True),
        ("nobody", False), ("65532", False), ("65532:0", False), ("+5", False), ("unknown", True), ("twin", True),
        ("-1", True), ("4294967296", True), ("99999999999999999999", True), ("٣", True), ("second", False), (" ", True),
    ],
)  # fmt: skip
def test_who_is_root(facts: Facts, user: str, root: bool) -> None:
    """A user is not root only when a number other than 0 is certain, by the image's own passwd."""
    passwd = "root:x:0:0::/:\nnobody:x:65534:65534::/:\ntwin:x:7:7::/:\ntwin:x:0:0::/:\nbroken\nsecond:x:9:9::/:\n"
    assert facts(Tar().file("etc/passwd", passwd), run=RunConfig(user=user)).runs_as_root is root


def test_without_passwd_a_name_is_root(facts: Facts) -> None:
    """A name that nothing resolves counts as root; so does one whose passwd a later layer deletes."""
    passwd = Tar().file("etc/passwd", "app:x:5:5::/:")
    run = RunConfig(user="app")
    assert facts(Tar().file("x"), run=run).runs_as_root
    assert not facts(passwd, run=run).runs_as_root
    assert facts(passwd, Tar().file("etc/.wh.passwd"), run=run).runs_as_root


def test_a_file_in_a_cache_hard_linked_into_place_counts_twice(facts: Facts) -> None:
    """conda links its packages into place: metadata behind a hard link is metadata."""
    tar = Tar().file("opt/pkgs/a-1.dist-info/METADATA", metadata("a", "1"))
    tar.hardlink("opt/lib/a-1.dist-info/METADATA", "opt/pkgs/a-1.dist-info/METADATA", mode=0o644)
    assert [component.location for component in facts(tar).components] == [
        "opt/lib/a-1.dist-info/METADATA",
        "opt/pkgs/a-1.dist-info/METADATA",
    ]


def test_metadata_that_cannot_be_read_is_said(facts: Facts) -> None:
    """Metadata behind links that lead nowhere, or without a name, is listed as unread instead of overlooked."""
    tar = (
        Tar()
        .hardlink(f"{SITE}/a-1.dist-info/METADATA", "store/x")
        .symlink(f"{SITE}/b-1.dist-info/METADATA", "/store/y")
    )
    tar.file(f"{SITE}/.egg-info", "Nothing: here").file("store/x-1.dist-info/METADATA", metadata("x", "1"))
    tar.symlink(f"{SITE}/x-1.dist-info/METADATA", "/store/x-1.dist-info/METADATA").file(
        "var/lib/dpkg/status", "Package: ../x\nVersion: 1\n"
    )
    found = facts(tar)
    assert purls(found) == ["pkg:pypi/x@1"]
    assert [note.partition(":")[0] for note in found.unread] == [
        f"{SITE}/.egg-info",
        f"{SITE}/a-1.dist-info/METADATA",
        f"{SITE}/b-1.dist-info/METADATA",
        "var/lib/dpkg/status",
    ]


def test_huge_metadata_is_read_to_its_limit_and_said(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A METADATA over its limit gives name and version from its beginning, and a note; at the limit there is none."""
    text = metadata("a", "1", "Requires-Dist: b") + "\n"
    for extra, notes in ((0, 0), (1, 1)):
        padded = text + "x" * (limits.METADATA_BYTES - len(text) + extra)
        found = facts(Tar().file(f"{SITE}/a-1.dist-info/METADATA", padded))
        assert purls(found) == ["pkg:pypi/a@1"]
        assert len(found.unread) == notes


def test_names_that_are_not_utf_8_and_duplicates_are_bearable(facts: Facts) -> None:
    """Odd bytes become escapes and stay apart from names that look like the escapes; of duplicates the last counts."""
    lower = (
        Tar(pax=False)
        .file("opt/\udcff/bash", mode=0o755)
        .file("opt/\\xff/sh", mode=0o755)
        .file("opt/\x1b[2J/dash", mode=0o755)
    )
    assert [program.path for program in facts(lower).programs] == [
        "opt/\\\\xff/sh",
        "opt/\\x1b[2J/dash",
        "opt/\\xff/bash",
    ]
    upper = Tar().file("opt/.wh.\\xff")
    assert [program.path for program in facts(lower, upper).programs] == ["opt/\\x1b[2J/dash", "opt/\\xff/bash"]
    twice = (
        Tar()
        .file("etc/os-release", "ID=evil")
        .file("bin/sh", mode=0o755)
        .file("etc/os-release", "ID=good")
        .file("bin/sh", mode=0o644)
    )
    found = facts(twice)
    assert found.operating_system is not None
    assert found.operating_system.id == "good"
    assert found.programs == ()


def test_an_image_without_layers_and_an_empty_layer(facts: Facts) -> None:
    """Nothing in, nothing out."""
    assert facts().layers == ()
    assert [layer.files for layer in facts(Tar()).layers] == [0]


def test_what_one_layer_may_say_is_bounded(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of countless links does not fill the memory."""
    tar = Tar()
    for number in range(100):
        tar.symlink(f"l{number}", "x" * 90)
    monkeypatch.setattr(limits, "LAYER_FACTS_BYTES", 100 * (64 + 93))
    assert facts(tar)
    monkeypatch.setattr(limits, "LAYER_FACTS_BYTES", 100 * (64 + 90))
    with pytest.raises(LimitError, match="more links, whiteouts and metadata"):
        facts(tar)


def test_components_are_bounded(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many packages as the limit, and not one more."""
    tar = Tar().file("var/lib/dpkg/status", "".join(deb(f"p{number}", "1") for number in range(10)))
    monkeypatch.setattr(limits, "COMPONENTS", 10)
    assert len(facts(tar).components) == 10
    monkeypatch.setattr(limits, "COMPONENTS", 9)
    with pytest.raises(LimitError, match="more than 9 packages"):
        facts(tar)


def test_a_layer_is_read_once(tmp_path: Path) -> None:
    """The second inspection, and another image with the same layer, read no blob: the file may even be gone."""
    layout = Layout(tmp_path / "layout")
    cache = LayerFactsCache(tmp_path / "cache")
    tars = [distribution(Tar(), "a", "1").bytes(), distribution(Tar(), "b", "2").bytes()]
    image, other = put_image(layout, tars), put_image(layout, tars[1:])
    first = inspect(image, reference="it:1", cache=cache)
    for descriptor, _ in image.layers:
        layout.blob_path(descriptor.digest).unlink()
    assert inspect(image, reference="it:1", cache=cache) == first
    assert purls(inspect(other, reference="it:2", cache=cache)) == ["pkg:pypi/b@2"]


@pytest.mark.parametrize("damage", [b"", b"{}", b"0" * 64 + b"\n{}", "flip", "malformed"])
def test_a_damaged_cache_entry_is_read_again(tmp_path: Path, damage: bytes | str) -> None:
    """An entry that was altered is noticed by its checksum and replaced from the layer."""
    cache = LayerFactsCache(tmp_path / "cache")
    image = put_image(Layout(tmp_path / "layout"), [distribution(Tar(), "a", "1").bytes()])
    first = inspect(image, reference="it:1", cache=cache)
    (entry,) = (tmp_path / "cache").rglob("*.facts")
    good = entry.read_bytes()
    if damage == "flip":
        altered = good.replace(b"\xa4name\xa1a", b"\xa4name\xa1z")
        assert altered != good
        entry.write_bytes(altered)
    elif damage == "malformed":
        import hashlib

        entry.write_bytes(hashlib.sha256(b"[1").hexdigest().encode() + b"\n[1")
    else:
        assert isinstance(damage, bytes)
        entry.write_bytes(damage)
    assert inspect(image, reference="it:1", cache=cache) == first
    assert entry.read_bytes() == good


def test_the_cache_does_not_vouch_for_other_bytes(tmp_path: Path) -> None:
    """A manifest that names a known diff ID but brings another blob is not believed: the blob is read and refused."""
    layout, cache = Layout(tmp_path / "layout"), LayerFactsCache(tmp_path / "cache")
    clean, hostile = Tar().file("a").bytes(), Tar().file("bin/sh", mode=0o755).bytes()
    inspect(put_image(layout, [clean]), reference="it:1", cache=cache)
    forged = put_image(layout, [clean], blobs=[gzip.compress(hostile)])
    with pytest.raises(IntegrityError, match="unpacks to"):
        inspect(forged, reference="it:1", cache=cache)


def test_a_truncated_layer_stops_the_inspection(tmp_path: Path) -> None:
    """One damaged layer among several is an integrity error, and nothing about it is remembered."""
    layout, cache = Layout(tmp_path / "layout"), LayerFactsCache(tmp_path / "cache")
    image = put_image(layout, [Tar().file(str(number), b"x" * 100_000).bytes() for number in range(4)])
    damaged = layout.blob_path(image.layers[2][0].digest)
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(IntegrityError):
        inspect(image, reference="it:1", cache=cache)
    assert cache.get(image.layers[2][0].digest, image.layers[2][1]) is None


def test_a_hostile_path_stops_the_inspection(facts: Facts) -> None:
    """A layer whose members climb out of the image has no facts."""
    with pytest.raises(InputError, match="leave the image"):
        facts(Tar().file("../x"))


def test_an_interrupt_stops_every_thread(tmp_path: Path) -> None:
    """What the progress display raises (ctrl-C) ends the inspection instead of being swallowed."""

    class Interrupted(Silent):
        def task(self, title: str, *, total: int | None = None, unit: str = "items") -> Never:
            raise KeyboardInterrupt

    image = put_image(Layout(tmp_path), [Tar().file("a").bytes()])
    with pytest.raises(KeyboardInterrupt):
        inspect(image, reference="it:1", progress=Interrupted())


def test_the_progress_counts_compressed_bytes(tmp_path: Path) -> None:
    """The task's total is what is read in the end."""
    counted: list[tuple[str, object]] = []

    class Task:
        def advance(self, amount: int = 1) -> None:
            counted.append(("advance", amount))

        def describe(self, text: str) -> None:
            counted.append(("describe", text))

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            counted.append(("end", None))

    class Shown(Silent):
        def task(self, title: str, *, total: int | None = None, unit: str = "items") -> Task:  # type: ignore[override]  # returns its own task
            counted.append((f"{title} {unit}", total))
            return Task()

    image = put_image(Layout(tmp_path), [Tar().file("a", b"1" * 5000).bytes(), Tar().file("b").bytes()])
    found = inspect(image, reference="it:1", progress=Shown())
    assert counted[0] == ("Inspecting layers bytes", found.size)
    assert sum(amount for name, amount in counted if name == "advance" and isinstance(amount, int)) == found.size


@pytest.mark.interop
def test_packages_are_those_that_syft_finds(tmp_path: Path, tool: Tool) -> None:
    """An independent tool sees the same packages and versions in an image of this machine's own metadata."""
    import sysconfig

    tar = (
        Tar().file("etc/os-release", OS_RELEASE).file("var/lib/dpkg/status", Path("/var/lib/dpkg/status").read_bytes())
    )
    for path in sorted(Path(sysconfig.get_path("purelib")).glob("*.dist-info/METADATA")):
        tar.file(f"{SITE}/{path.parent.name}/METADATA", path.read_bytes())
        tar.file(f"{SITE}/{path.parent.name}/RECORD", (path.parent / "RECORD").read_bytes())
    image = put_image(Layout(tmp_path / "layout"), [tar.bytes()], name="it:1")
    done = subprocess.run(
        [tool("syft"), "scan", f"oci-dir:{tmp_path / 'layout'}", "-o", "json", "-q"], check=True, capture_output=True
    )
    theirs = {
        (artifact["name"].lower().replace("_", "-").replace(".", "-"), artifact["version"])
        for artifact in json.loads(done.stdout)["artifacts"]
        if artifact["type"] in {"deb", "python"}
    }
    ours = {
        (component.name.lower().replace("_", "-").replace(".", "-"), component.version)
        for component in inspect(image, reference="it:1").components
    }
    assert len(ours) > 50
    assert ours == theirs


def test_the_component_set_does_not_depend_on_layers(facts: Facts) -> None:
    """Two images with the same packages in other layers share the name of their component set."""
    one = facts(distribution(distribution(Tar(), "a", "1"), "b", "2"))
    two = facts(distribution(Tar(), "b", "2"), distribution(Tar(), "a", "1"))
    assert one.component_set == two.component_set == digests.of(b"pkg:pypi/a@1\npkg:pypi/b@2")

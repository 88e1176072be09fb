"""Databases that rpm itself has written, and lists of packages that rpm and Syft give of the same databases."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.inspection.catalogers.rpm import packages as rpm
from tidewaiter.inspection.image import inspect
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.oci.layout import Layout

pytestmark = pytest.mark.interop

MODULE = "github.com/knqyf263/go-rpmdb@v0.1.1"
"""Its test data are databases of CentOS, Red Hat, Fedora, SUSE and Azure Linux images."""
DATABASES = {
    "centos5-plain/Packages": 110,
    "centos7-httpd24/Packages": 222,
    "centos8-modularitylabel/Packages": 517,
    "ubi8-s390x/Packages": 181,
    "libuuid/Packages": 1,
    "fedora35/rpmdb.sqlite": 137,
    "cbl-mariner-2.0/rpmdb.sqlite": 129,
    "sle15-bci/Packages.db": 35,
}
SPEC = """\
Name: {name}
Version: {version}
Release: 3%{{?dist}}
Epoch: 4
Summary: About {name}
License: MIT AND Apache-2.0
Vendor: Somebody
BuildArch: noarch
Requires: {requires}
Provides: virtual({name}) = 1
%description
Nothing.
%package extra
Summary: More of {name}
%description extra
Nothing.
%install
mkdir -p %{{buildroot}}/opt/{name}
echo 1 > %{{buildroot}}/opt/{name}/file
%files
/opt/{name}
%files extra
"""
QUERY = r"%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\n"


@pytest.fixture(scope="module")
def real(tool: Tool) -> Path:
    """The folder of databases in the module, which the Go proxy gives."""
    command = [tool("go"), "mod", "download", "-json", MODULE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"the Go proxy does not give {MODULE}: {error}")
    return Path(json.loads(done.stdout)["Dir"]) / "pkg" / "testdata"


def packages(path: Path) -> tuple[FoundPackage, ...]:
    collector = Collector()
    (cataloger,) = (one for one in rpm.CATALOGERS if one.wants(f"var/lib/rpm/{path.name}"))
    cataloger.read("db", path.read_bytes(), collector)
    assert collector.unread == set()
    return collector.packages["db"]


def queried(rpm_tool: str, folder: Path, backend: str) -> set[tuple[str, ...]]:
    """What rpm says of a database, keys left out."""
    done = subprocess.run(
        [rpm_tool, "--dbpath", folder, "--define", f"_db_backend {backend}", "-qa", "--qf", QUERY],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.replace("\t0:", "\t").split("\t") for line in done.stdout.splitlines()]
    return {tuple(line) for line in lines if line[0] != "gpg-pubkey"}


def as_rpm_says_it(found: FoundPackage) -> tuple[str, ...]:
    version = found.version.rpartition(":")[2]
    source = f"{found.source_name or found.name}-{found.source_version or version}.src.rpm"
    return (found.name, found.version, found.architecture, source)


@pytest.mark.parametrize("name", [name for name in DATABASES if not name.endswith(".db")])
def test_packages_of_real_databases_are_those_that_rpm_lists(name: str, real: Path, tool: Tool, tmp_path: Path) -> None:
    """Name, epoch, version, release, architecture and source package are those that rpm reads from the same file."""
    shutil.copyfile(real / name, tmp_path / Path(name).name)
    theirs = queried(tool("rpm"), tmp_path, "sqlite" if name.endswith("sqlite") else "bdb_ro")
    found = packages(real / name)
    assert len(found) == DATABASES[name]
    assert {as_rpm_says_it(one) for one in found} == theirs


@pytest.mark.parametrize("name", ["sle15-bci/Packages.db", "libuuid/Packages"])
def test_packages_of_real_databases_are_those_that_syft_lists(
    name: str, real: Path, tool: Tool, tmp_path: Path
) -> None:
    """Syft finds the same packages with the same relations' names in the same database."""
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    shutil.copyfile(real / name, tmp_path / "var/lib/rpm" / Path(name).name)
    done = subprocess.run(
        [tool("syft"), "scan", f"dir:{tmp_path}", "-o", "json", "-q"], check=True, capture_output=True
    )
    theirs = [one["metadata"] for one in json.loads(done.stdout)["artifacts"] if one["type"] == "rpm"]
    found = packages(real / name)
    assert len(found) == DATABASES[name]
    assert {(one.name, one.version.rpartition(":")[2], one.architecture, one.supplier) for one in found} == {
        (one["name"], f"{one['version']}-{one['release']}", one["architecture"], one["vendor"]) for one in theirs
    }
    provided = {
        one["name"]: {text for text in one.get("provides") or () if not text.startswith("weakremover(")} - {one["name"]}
        for one in theirs
    }
    assert {one.name: set(one.provides) for one in found} == provided


def test_a_database_that_rpm_has_just_written(tool: Tool, tmp_path: Path) -> None:
    """Packages that rpmbuild makes, and rpm installs and removes, are found in an image with their relations."""
    database = tmp_path / "db"
    built: list[Path] = []
    for name, requires in (("first", "virtual(second)"), ("second", "/bin/sh"), ("third", "first")):
        spec = tmp_path / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, version="1.5~rc1", requires=requires))
        command: list[str | Path] = [tool("rpmbuild"), "-bb", "--quiet", "--define", f"_topdir {tmp_path}/build", spec]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        built.extend((tmp_path / "build" / "RPMS" / "noarch").glob(f"{name}-*.rpm"))
    rpm_tool: list[str | Path] = [
        tool("rpm"),
        "--dbpath",
        database,
        "--define",
        "_db_backend sqlite",
        "--nodeps",
        "--justdb",
    ]
    subprocess.run([*rpm_tool, "-i", *built], check=True, capture_output=True, timeout=60)
    subprocess.run([*rpm_tool, "-e", "third", "third-extra"], check=True, capture_output=True, timeout=60)
    path = database / "rpmdb.sqlite"
    assert {as_rpm_says_it(one) for one in packages(path)} == queried(tool("rpm"), database, "sqlite")
    assert not (journal := database / "rpmdb.sqlite-wal").exists() or not journal.stat().st_size

    tar = Tar().file("etc/os-release", 'ID=fedora\nVERSION_ID="40"\n').file("opt/first/file", "1\n")
    tar.file("usr/lib/sysimage/rpm/rpmdb.sqlite", path.read_bytes())
    facts = inspect(put_image(Layout(tmp_path / "layout"), [tar.bytes()]), reference="it:1")
    assert [one.name for one in facts.components] == ["first-extra", "first", "second-extra", "second"]
    extra, first, _, second = facts.components
    assert first.purl == "pkg:rpm/fedora/first@1.5~rc1-3?arch=noarch&distro=fedora-40&epoch=4"
    assert (first.licenses, first.description, first.supplier) == (("MIT AND Apache-2.0",), "About first", "Somebody")
    assert first.requires == (second.purl,)
    assert extra.source_name == "first"


@pytest.mark.parametrize("name", ["libuuid/Packages", "cbl-mariner-2.0/rpmdb.sqlite", "sle15-bci/Packages.db"])
def test_damage_in_a_real_database_never_fails(name: str, real: Path) -> None:
    """Whatever bytes are changed, or where the file ends, reading ends without an error and invents no packages."""
    data = (real / name).read_bytes()
    (cataloger,) = (one for one in rpm.CATALOGERS if one.wants(f"var/lib/rpm/{Path(name).name}"))
    for seed in range(30):
        chance = random.Random(seed)
        mutated = bytearray(data)
        for _ in range(chance.choice((1, 30, 3000))):
            where = chance.choice((200, 5000, len(data)))
            mutated[chance.randrange(where)] = chance.choice((0, 1, 255, chance.randrange(256)))
        collector = Collector()
        cataloger.read("db", bytes(mutated[: chance.choice((len(data), chance.randrange(len(data))))]), collector)
        assert len(collector.packages["db"]) <= DATABASES[name] + 1

import datetime as dt

import msgspec
import pytest

from tidewaiter.advisories.finding import Coverage, Finding, NotChecked, ScanResult, Vex
from tidewaiter.inspection import framework_record
from tidewaiter.inspection.facts import Exposed, ImageFacts, Program
from tidewaiter.oci import digest
from tidewaiter.oci.reference import Reference, parse
from tidewaiter.policy.adapt import NOTHING_KNOWN, build_input, document
from tidewaiter.policy.input import AttachedInput, PolicyInput
from tidewaiter.sbom.component import Component

NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def component(kind: str, name: str, version: str) -> Component:
    """A component of an ecosystem that fits its kind."""
    if kind == "deb":
        return Component(
            kind="deb", name=name, version=version, purl=f"pkg:deb/debian/{name}@{version}", ecosystem="Debian:12"
        )
    return Component(kind="python", name=name, version=version, purl=f"pkg:pypi/{name}@{version}", ecosystem="PyPI")


def finding(of: Component, advisory: str, *fixed_in: str) -> Finding:
    """A finding about a component."""
    return Finding(
        advisory=advisory,
        aliases=(),
        component_purl=of.purl,
        name=of.name,
        version=of.version,
        kind=of.kind,
        ecosystem=of.ecosystem,
        severity="high",
        score=None,
        vector="",
        fixed_in=fixed_in,
        found_as=of.name,
        published="",
        modified="",
    )


PILLOW, YAML, LIBC = (
    component("python", "Pillow", "9.5.0"),
    component("python", "PyYAML_x", "6.0"),
    component("deb", "libc6", "2.36-9"),
)

FACTS = ImageFacts(
    reference="vision/mnist:0123456789ab",
    digest=digest.of(b"image"),
    os="linux",
    architecture="amd64",
    user="65532",
    runs_as_root=False,
    entrypoint=("python",),
    cmd=(),
    env={},
    labels={"a": "b"},
    annotations={},
    exposed_ports=("8501/tcp",),
    working_dir="/app",
    created="2026-01-30T12:00:00Z",
    operating_system=None,
    components=(PILLOW, YAML, LIBC),
    programs=(Program(path="/bin/sh", kind="shell", layer="sha256:0"),),
    layers=(),
    size=1,
    unpacked_size=1,
)


def scan(
    findings: tuple[Finding, ...] = (), not_checked: tuple[NotChecked, ...] = (), coverage: tuple[Coverage, ...] = ()
) -> ScanResult:
    """A scan with these results."""
    return ScanResult(
        findings=findings, not_checked=not_checked, coverage=coverage, revision=digest.of(b"data"), oldest_as_of=""
    )


def built(result: ScanResult, named: str = "store:vision/mnist:0123456789ab", **more: object) -> PolicyInput:
    """The policy input for the image under a name."""
    reference: Reference = parse(named)
    dirty = more.get("dirty")
    return build_input(
        FACTS,
        result,
        reference=reference,
        environment="staging",
        now=NOW,
        dirty=dirty if isinstance(dirty, bool) else None,
        registered_builders=("ci", "local"),
    )


def made(facts: ImageFacts = FACTS, attached: AttachedInput = NOTHING_KNOWN) -> PolicyInput:
    """The policy input for these facts."""
    named = parse("store:vision/mnist:0123456789ab")
    return build_input(facts, scan(), reference=named, environment="staging", now=NOW, attached=attached)


def test_facts_arrive_in_the_document() -> None:
    """What inspection found is what rules see, with names as rules compare them."""
    document = built(scan())
    assert document.image.digest == FACTS.digest
    assert document.image.exposed_ports == ("8501/tcp",)
    assert [(item.path, item.kind) for item in document.programs] == [("/bin/sh", "shell")]
    assert document.packages.python == {"pillow": ("9.5.0",), "pyyaml-x": ("6.0",)}
    assert document.packages.deb == {"libc6": ("2.36-9",)}
    assert document.now == "2026-01-31T12:00:00Z"
    assert document.image.builder == "local"


def test_the_framework_record_arrives_in_the_document() -> None:
    """What was found of TensorFlow and CUDA is there word for word; without a record all is empty and unknown."""
    record = framework_record.of((component("python", "tensorflow", "2.15.1"),), (), {"PYTHON_VERSION": "3.12.1"})
    facts = msgspec.structs.replace(FACTS, framework=record)
    named = parse("store:vision/mnist:0123456789ab")
    framework = build_input(facts, scan(), reference=named, environment="staging", now=NOW).framework
    assert (framework.tensorflow, framework.python, framework.tested) == ("2.15.1", "3.12.1", "no")
    assert framework.tested_reason == "Python 3.12 is not one of 3.9-3.11"
    assert framework.nearest_tested == "TensorFlow 2.15 with Python 3.9-3.11"
    nothing = built(scan()).framework
    assert (nothing.tensorflow, nothing.tested, nothing.conflicts) == ("", "unknown", ())


def test_a_suppressed_finding_is_told_apart() -> None:
    """Rules that look at findings do not see it; it stands beside them with the statement that suppresses it."""
    vex = Vex(
        status="not_affected",
        justification="component_not_present",
        statement="",
        author="",
        timestamp="",
        source="vex.json",
        document=digest.of(b"vex"),
    )
    gone = msgspec.structs.replace(finding(YAML, "CVE-1", "7"), vex=vex)
    document = built(msgspec.structs.replace(scan((finding(PILLOW, "CVE-2"),)), suppressed=(gone,)))
    assert [one.advisory for one in document.findings] == ["CVE-2"]
    (one,) = document.suppressed
    assert (one.advisory, one.name, one.status) == ("CVE-1", "pyyaml-x", "not_affected")
    assert (one.justification, one.document) == ("component_not_present", digest.of(b"vex"))
    with pytest.raises(ValueError, match="CVE-2 is suppressed without a statement"):
        built(msgspec.structs.replace(scan(), suppressed=(finding(PILLOW, "CVE-2"),)))


def test_local_is_never_a_registered_builder() -> None:
    """A setting cannot make the laptop's builder a registered one."""
    assert built(scan()).settings.registered_builders == ("ci",)


@pytest.mark.parametrize(
    ("named", "name", "tag", "pinned"),
    [
        ("store:vision/mnist:1.0.0", "vision/mnist", "1.0.0", False),
        ("registry.example:5000/vision/mnist:latest", "vision/mnist", "latest", False),
        (f"registry.example/vision/mnist@sha256:{'a' * 64}", "vision/mnist", "", True),
        ("oci:/tmp/layout:abc", "", "abc", False),
        ("docker-archive:/tmp/file.tar", "", "", False),
    ],
)
def test_names_come_from_the_reference(named: str, name: str, tag: str, *, pinned: bool) -> None:
    """Rules see repository and tag without the host; a file has no repository."""
    image = built(scan(), named).image
    assert (image.name, image.tag, image.pinned) == (name, tag, pinned)


def test_dirty_is_read_from_the_tag_unless_it_is_known() -> None:
    """The tag tells of uncommitted changes; a build record that knows better counts more."""
    dirty = "store:vision/mnist:0123456789ab-dirty"
    assert built(scan(), dirty).image.dirty
    assert built(scan(), f"{dirty}-arm64").image.dirty
    assert not built(scan()).image.dirty
    assert built(scan(), dirty=True).image.dirty


def test_upgrade_clears_every_fixable_finding_of_the_package() -> None:
    """The version to write is the highest of the nearest fixes, in the ecosystem's order, not the alphabet's."""
    findings = (
        finding(PILLOW, "A", "9.10.0", "10.0.0"),
        finding(PILLOW, "B", "9.6.0"),
        finding(PILLOW, "C"),
        finding(LIBC, "D", "2.36-9+deb12u10"),
        finding(LIBC, "E", "2.36-9+deb12u9"),
    )
    found = built(scan(findings)).findings
    assert [(item.advisory, item.upgrade_to) for item in found] == [
        ("A", "9.10.0"),
        ("B", "9.10.0"),
        ("C", ""),
        ("D", "2.36-9+deb12u10"),
        ("E", "2.36-9+deb12u10"),
    ]
    assert found[0].name == "pillow"


def test_versions_that_cannot_be_compared_name_no_upgrade() -> None:
    """Without an order there is no highest version; the fixes are still there."""
    (found,) = built(scan((finding(PILLOW, "A", "not a version"),))).findings
    assert (found.upgrade_to, found.fixed_in) == ("", ("not a version",))


def test_not_checked_packages_are_counted_by_ecosystem_and_reason() -> None:
    """One group for each reason, with a few examples."""
    items = tuple(
        NotChecked(purl=f"p{number}", name=f"n{number}", version="1", ecosystem="Debian:12", reason="no data")
        for number in range(9)
    )
    odd = tuple(
        NotChecked(purl=name, name=name, version="?", ecosystem="PyPI", reason=f"{name} is odd", advisories=("A",))
        for name in ("x", "y")
    )
    groups = built(scan(not_checked=(*odd, *items))).not_checked
    assert [(group.ecosystem, group.count, len(group.examples)) for group in groups] == [
        ("Debian:12", 9, 5),
        ("PyPI", 2, 2),
    ]


def test_age_is_counted_from_each_feed() -> None:
    """Days since the data's own date; one that is none, or over a day ahead of the clock, leaves the age unknown."""
    feeds = built(
        scan(
            coverage=(
                Coverage(ecosystem="PyPI", entries=1, as_of="2026-01-23T00:00:00Z", source="s"),
                Coverage(ecosystem="Debian:12", entries=1, as_of="", source="s"),
                Coverage(ecosystem="npm", entries=1, as_of="2026-02-01T11:00:00Z", source="s"),
                Coverage(ecosystem="Go", entries=1, as_of="2026-02-01T13:00:00Z", source="s"),
            )
        )
    ).advisories.feeds
    assert [(feed.ecosystem, feed.as_of, feed.age_days) for feed in feeds] == [
        ("PyPI", "2026-01-23T00:00:00Z", 8),
        ("Debian:12", "", 0),
        ("npm", "2026-02-01T11:00:00Z", 0),
        ("Go", "", 0),
    ]


def test_licences_name_their_packages_of_all_kinds() -> None:
    """One entry for each licence; a package with several stands under each, one without under none."""
    parts = (
        msgspec.structs.replace(PILLOW, licenses=("MIT", "BSD-3-Clause")),
        msgspec.structs.replace(LIBC, licenses=("MIT",)),
        YAML,
    )
    facts = msgspec.structs.replace(FACTS, components=parts)
    assert made(facts=facts).packages.licenses == {"BSD-3-Clause": ("Pillow",), "MIT": ("Pillow", "libc6")}


def test_exposed_files_are_counted_by_kind_with_examples() -> None:
    """Ten thousand files of one kind are one entry; of a secret its rule and line are told."""
    many = tuple(Exposed(path=f"/f{number:05}", kind="world_writable", layer="l") for number in range(10_000))
    secret = Exposed(path="/app/.env", kind="secret", layer="l", rule="aws-key", line=3)
    found = made(facts=msgspec.structs.replace(FACTS, exposed=(*many, secret))).exposed
    assert [(one.kind, one.count) for one in found] == [("secret", 1), ("world_writable", 10_000)]
    assert found[0].examples == ("/app/.env:3 (aws-key)",)
    assert found[1].examples == tuple(f"/f{number:05}" for number in range(5))


def test_attached_document_is_told_by_its_newest() -> None:
    """The newest counts, with its age in whole days; without one the caller says what that means."""
    newest = dt.datetime(2026, 1, 20, 13, tzinfo=dt.UTC)
    told = document([newest - dt.timedelta(days=300), newest], NOW, otherwise="absent")
    assert (told.state, told.created, told.age_days) == ("present", "2026-01-20T13:00:00Z", 10)
    assert document([], NOW, otherwise="unknown").state == "unknown"
    assert made().attached.signature.state == "unknown"


def test_passing_of_time_alone_changes_no_question() -> None:
    """When what is attached was made is no part of what a verdict is named by, nor that it follows an allow."""
    old, older = (document([NOW], NOW + dt.timedelta(days=days), otherwise="absent") for days in (1, 2))
    asked = [msgspec.structs.replace(NOTHING_KNOWN, signature=one) for one in (old, older)]
    assert made(attached=asked[0]).without_times() == made(attached=asked[1]).without_times()
    assert made(attached=asked[0]).without_times() != made().without_times()
    follows = msgspec.structs.replace(NOTHING_KNOWN, signature=document([], NOW, otherwise="follows"))
    assert made(attached=follows).without_times() == made(attached=asked[0]).without_times()
    absent = msgspec.structs.replace(NOTHING_KNOWN, signature=document([], NOW, otherwise="absent"))
    assert made(attached=follows).without_times() != made(attached=absent).without_times()

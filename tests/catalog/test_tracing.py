"""From a thing to where it comes from and what it reaches: every kind of thing, on every day, within bounds."""

import datetime as dt
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from catalog_sample import build, component, digest, facts, home, verdict
from sqlalchemy import update

from tidewaiter.catalog import model_versions, owners, schema, synced, synced_writing, workloads
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.records import Material
from tidewaiter.catalog.trace import asking as tracing
from tidewaiter.catalog.trace.graph import Edge, Node, Trace, dot
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotFoundError

COMMIT = "ab" * 20


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A base, an image of it that was built from a commit, one that was built on that, a workload and a model."""
    with Catalog.open(home(tmp_path)) as found:
        found.record_facts(facts("base", component("libc"), layers=("base",)), repository="bases/debian")
        found.approve_base("debian", digest("base"), owner="platform", expires=None)
        record = build("one", pipeline_run="https://ci/7", materials=(Material("git", "gitCommit:abab"),))
        found.record_build(record)
        found.record_facts(facts("one", component("libc"), component("numpy", layer="app")), repository="team/model")
        found.record_facts(facts("derived", layers=("base", "app", "more")), repository="team/derived")
        found.set_tag("team/model", "1.0", digest("one"))
        found.record_verdict(verdict("one", "allow", clock.now()))
        now = clock.now()
        with found.database.writing() as connection:
            sighting = Sighting(cluster="eu1", namespace="vision", name="web", digest=digest("one"), seen_at=now)
            workloads.record(connection, [sighting], now)
            model_versions.record(connection, ("mnist", "7"), Seen(digest("one"), now, "production"), now)
            owners.put(connection, "repository", "team", "vision", now)
        yield found


def _trace(catalog: Catalog, thing: str, **more: Any) -> Trace:
    with catalog.database.reading() as connection:
        return tracing.trace(connection, thing, **more)


def _edges(found: Trace) -> set[tuple[str, str, str]]:
    """Edges, with digests in the words that they were made of."""
    words: dict[str, str] = {
        digest(word): word for word in ("base", "one", "derived", "blob base", "blob app", "blob more")
    }

    def short(text: str) -> str:
        kind, _, name = text.partition(":")
        return f"{kind}:{'…' if kind == 'build' else words.get(name, name)}"

    return {(short(one.source), one.relation, short(one.target)) for one in found.edges}


UP = {
    ("image:one", "built_by", "build:…"),
    ("build:…", "from", f"commit:{COMMIT}"),
    ("build:…", "from", "run:https://ci/7"),
    ("build:…", "used", "material:git gitCommit:abab"),
    ("image:one", "rests_on", "image:base"),
    ("image:base", "has", "layer:blob base"),
    ("image:one", "has", "layer:blob base"),
    ("image:one", "has", "layer:blob app"),
}
DOWN = {
    ("tag:team/model:1.0", "means", "image:one"),
    ("workload:eu1/vision/web Deployment", "runs", "image:one"),
    ("model:mnist:7", "served_by", "image:one"),
    ("workload:eu1/vision/web Deployment", "serves", "model:mnist:7"),
    ("image:derived", "rests_on", "image:one"),
}


@pytest.mark.parametrize("thing", ["team/model:1.0", "store:team/model:1.0", digest("one"), f"x@{digest('one')}"])
def test_an_image_has_its_whole_chain(catalog: Catalog, thing: str) -> None:
    """By tag or digest: build, commit, run, materials, base and layers; tags, workloads, models and derived images."""
    found = _trace(catalog, thing)
    assert _edges(found) == UP | DOWN
    image = next(node for node in found.nodes if node.name == digest("one"))
    assert image.detail["verdicts"]["staging"]["verdict"] == "allow"
    assert (image.detail["repositories"], image.detail["owners"]) == (["team/model"], ["vision"])
    assert (found.cut, found.unknown) == ((), ())


@pytest.mark.parametrize("thing", [COMMIT, COMMIT[:9], f"commit:{COMMIT}", "https://ci/7", "run:https://ci/7"])
def test_a_commit_and_a_run_reach_what_was_built(catalog: Catalog, thing: str) -> None:
    """By its whole name or the beginning of a commit; the other of the two is on the way up."""
    edges = _edges(_trace(catalog, thing))
    assert edges >= DOWN | {("image:one", "built_by", "build:…")} | {edge for edge in UP if edge[0] == "build:…"}
    assert ("image:one", "rests_on", "image:base") not in edges


@pytest.mark.parametrize("thing", ["pkg:pypi/numpy", "pkg:pypi/numpy@1.0", "numpy@1.0"])
def test_a_package_reaches_layers_images_and_what_runs(catalog: Catalog, thing: str) -> None:
    """Down only: nothing is known of where a package comes from."""
    found = _trace(catalog, thing)
    assert _edges(found) >= DOWN | {
        ("layer:blob app", "holds", "package:pkg:pypi/numpy@1.0"),
        ("image:one", "contains", "package:pkg:pypi/numpy@1.0"),
    }
    assert not any(node.kind == "commit" for node in found.nodes)


def test_a_workload_comes_from_an_image_and_serves_a_model(catalog: Catalog) -> None:
    """And a model version is served by an image, and reaches the workload."""
    for thing in ("eu1/vision/web", "mnist:7"):
        edges = _edges(_trace(catalog, thing, packages=True))
        assert edges >= UP
        assert ("workload:eu1/vision/web Deployment", "serves", "model:mnist:7") in edges
        assert ("image:one", "contains", "package:pkg:pypi/numpy@1.0") in edges
        assert ("image:derived", "rests_on", "image:one") not in edges


def test_a_base_reaches_the_images_on_it_but_is_no_way_down_from_them(catalog: Catalog) -> None:
    """From the base and its layer down to the images; from an image up to the base, never down to its siblings."""
    catalog.record_facts(facts("sibling", layers=("base", "other")), repository="team/sibling")
    assert ("image:one", "rests_on", "image:base") in _edges(_trace(catalog, digest("base")))
    reached = {node.name for node in _trace(catalog, digest("diff base")).nodes}
    assert {digest("base"), digest("one"), digest("sibling"), digest("derived")} <= reached
    assert digest("sibling") not in {node.name for node in _trace(catalog, digest("one")).nodes}


def test_an_index_is_between_a_tag_and_its_images(catalog: Catalog) -> None:
    """A workload that runs the index, and a tag of a registry that means it, are reached from the image."""
    child = synced.Child(digest("one"), "m", 10, "image", "linux/amd64")
    index = synced.TakenManifest(digest=digest("index"), media_type="m", kind="index", children=(child,))
    now = clock.now()
    with catalog.database.writing() as connection:
        seen = synced.SeenTag("2", digest("index"), now)
        batch = synced.Batch(manifests=[index], tags=[seen], images=[digest("one")])
        synced_writing.write(connection, "reg.example/team/model", batch, now)
        sighting = Sighting(cluster="us", namespace="n", name="w", digest=digest("index"), seen_at=now)
        workloads.record(connection, [sighting], now)
    wanted = {
        (f"index:{digest('index')}", "lists", "image:one"),
        ("tag:reg.example/team/model:2", "means", f"index:{digest('index')}"),
        ("workload:us/n/w Deployment", "runs", f"index:{digest('index')}"),
    }
    assert wanted <= _edges(_trace(catalog, digest("one")))
    assert {edge for edge in wanted if edge[1] != "runs"} <= _edges(_trace(catalog, "reg.example/team/model:2"))
    assert (f"index:{digest('index')}", "lists", "image:one") in _edges(_trace(catalog, "us/n/w"))


def test_bounds_cut_and_say_so(catalog: Catalog) -> None:
    """So many steps, so many of a kind; one more is cut and told, exactly as many as there are is not."""
    for number in range(5):
        catalog.record_facts(facts(f"d{number}", layers=("base", "app", f"x{number}")), repository="team/many")
    for rows, cut in ((6, False), (5, True)):
        found = _trace(catalog, digest("one"), rows=rows)
        assert sum(edge[1] == "rests_on" and edge[2] == "image:one" for edge in _edges(found)) == rows
        assert (("down", "image") in {(one.direction, one.kind) for one in found.cut}) is cut
    near = _trace(catalog, digest("one"), depth=1)
    assert ("up", "commit") in {(one.direction, one.kind) for one in near.cut}
    assert not any(node.kind == "commit" for node in near.nodes)
    for more in ({"depth": 0}, {"depth": 21}, {"rows": 0}, {"rows": 10_001}):
        with pytest.raises(InputError, match="out of bounds"):
            _trace(catalog, digest("one"), **more)


def test_on_a_day_before_there_is_what_there_was(catalog: Catalog) -> None:
    """Tag, workload and model as they were; what came later is not there, and what is not known of that day is told."""
    early = clock.now() - dt.timedelta(days=30)
    late = early + dt.timedelta(days=10)
    catalog.record_facts(facts("two", layers=("base", "z")), repository="team/model")
    catalog.set_tag("team/model", "1.0", digest("two"))
    with catalog.database.writing() as connection:
        connection.execute(update(schema.artifact).values(recorded_at=early - dt.timedelta(days=1)))
        connection.execute(update(schema.workload_period).values(first_seen=late))
        history = schema.tag_history.c
        for image, at in (("one", early), ("two", late)):
            number = schema.artifact.c.digest == digest(image)
            of = history.artifact_id == connection.scalar(
                schema.artifact.select().with_only_columns(schema.artifact.c.id).where(number)
            )
            connection.execute(update(schema.tag_history).where(of).values(set_at=at))
    then = _trace(catalog, "team/model:1.0", at=early + dt.timedelta(days=1))
    assert ("tag:team/model:1.0", "means", "image:one") in _edges(then)
    assert not {node.kind for node in then.nodes} & {"workload", "model"}
    assert {text.partition(":")[0] for text in then.unknown} == {"models", "owners", "verdicts", "workloads"}
    later = {node.name for node in _trace(catalog, "team/model:1.0", at=late).nodes}
    assert (digest("two") in later, digest("one") in later) == (True, False)
    assert "eu1/vision/web" in {node.name for node in _trace(catalog, digest("one"), at=late).nodes}
    with pytest.raises(NotFoundError, match="on that day"):
        _trace(catalog, "team/model:1.0", at=early - dt.timedelta(days=1))


def test_what_fits_several_things_is_asked_back(catalog: Catalog) -> None:
    """A tag and a model version of one name: refused, with the two ways to say it; each of them works."""
    catalog.record_facts(facts("x"), repository="mnist")
    catalog.set_tag("mnist", "7", digest("x"))
    with pytest.raises(InputError) as caught:
        _trace(catalog, "mnist:7")
    assert caught.value.code == "ambiguous"
    assert "model:mnist:7 or tag:mnist:7" in caught.value.next_step
    assert _trace(catalog, "model:mnist:7").start == ("model:mnist:7",)
    assert _trace(catalog, "tag:mnist:7").start[0] == "tag:mnist:7"


@pytest.mark.parametrize(
    "thing", ["nowhere:1", digest("no such"), "dead" * 10, "pkg:pypi/nothing", "a/b/c", "%", "'--"]
)
def test_what_is_not_known_is_said(catalog: Catalog, thing: str) -> None:
    """As an error, not as an empty graph."""
    with pytest.raises(NotFoundError):
        _trace(catalog, thing)


@pytest.mark.parametrize("thing", ["", "x" * 4097, "a\nb", "a\u202eb"])
def test_odd_names_are_refused(catalog: Catalog, thing: str) -> None:
    """Empty, too long, or with characters that nobody sees."""
    with pytest.raises(InputError):
        _trace(catalog, thing)


def test_an_image_that_only_runs_is_known_as_that(catalog: Catalog) -> None:
    """The catalog never saw it; the workload is reached, and the node says that nothing else is known."""
    now = clock.now()
    with catalog.database.writing() as connection:
        sighting = Sighting(cluster="us", namespace="n", name="w", digest=digest("foreign"), seen_at=now)
        workloads.record(connection, [sighting], now)
    for thing in (digest("foreign"), "us/n/w"):
        found = _trace(catalog, thing)
        assert ("workload:us/n/w Deployment", "runs", f"image:{digest('foreign')}") in _edges(found)
        assert {node.detail.get("known") for node in found.nodes if node.kind == "image"} == {False}


def test_graphviz_reads_every_name(catalog: Catalog, tmp_path: Path) -> None:
    """Quotes, backslashes and line ends stay inside their quotes."""
    hostile = 'a"];\n\\"; b [label="x\u202e'
    node = Node(id=f"run:{hostile}", kind="run", name=hostile)
    found = msgspec.structs.replace(_trace(catalog, digest("one")), edges=(Edge(node.id, node.id, "from"),))
    text = dot(msgspec.structs.replace(found, nodes=(node, *found.nodes)))
    assert '"run:a\\"];?\\\\\\"; b [label=\\"x?"' in text
    assert all(line.count('"') % 2 == 0 for line in text.replace("\\\\", "").replace('\\"', "").splitlines())
    program = shutil.which("dot")
    if program is not None:
        (tmp_path / "trace.dot").write_text(text)
        done = subprocess.run([program, "-Tplain", str(tmp_path / "trace.dot")], capture_output=True, check=True)
        assert done.stdout.count(b"\nnode ") == len(found.nodes) + 1

"""Every filter of every list of the API, compared with the same condition in Python, on a small company by chance."""

import datetime as dt
import random
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from catalog_sample import NOW, build, component, digest, facts, finding, home, scan, verdict
from sqlalchemy import select, update
from starlette.testclient import TestClient

from tidewaiter.catalog import model_versions, owners, schema, waivers, workloads
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.synced import Batch, SeenTag, TakenManifest
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.oci.manifest import MANIFEST
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.waivers import Waiver
from tidewaiter.web.api import routes
from tidewaiter.web.api.paging import Paging
from tidewaiter.web.app import create

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
STORE = ("team/a", "team/b/c", "teams", "shop/till", "lab_x")
FAR = "reg.example/team/far"
PACKAGES = {"alpha": "base", "beta": "base", "gamma": "app 1", "delta": "app 2"}
TOUCHED = {"alpha@1.0": ("ADV-1", "high", "CVE-2026-0001"), "beta@2.0": ("ADV-2", "low", "CVE-2026-0002")}
WORSE = {"high": {"high"}, "critical": set[str](), "low": {"high", "low"}}
ELSEWHERE = {
    "list_images_on_base": "of one base; has no filter",
    "list_findings": "of one image; has no filter",
    "list_bases": "has no filter",
    "list_uses": "what it is about is no filter",
    "list_images_then": "tests/catalog/test_listed_at.py",
    "list_tag_history": "tests/catalog/test_as_of.py; what it is about is no filter",
    "list_contents": "of the files of one image",
    "list_runs": "tests/web/test_api_pipelines.py",
    "list_audit_entries": "tests/catalog/test_audit.py",
    "list_events": "tests/catalog/test_events.py",
    "list_webhooks": "has no filter",
    "list_deliveries": "tests/web/test_api_changes.py",
    "list_users": "has no filter",
    "list_tokens": "tests/web/test_api_people.py",
}
"""Lists that are not compared here, and why."""


class Image(NamedTuple):
    """What was recorded of an image."""

    digest: str
    packages: frozenset[str]
    """`NAME@VERSION`."""
    builds: list[dict[str, Any]]
    verdicts: list[tuple[str, str, dt.datetime]]
    """Environment, answer, when."""


class Company(NamedTuple):
    """What was recorded."""

    images: dict[str, Image]
    places: dict[tuple[str, str], dt.datetime]
    """Repository and digest, and when it changed."""
    tags: dict[tuple[str, str], str]
    owned: dict[str, str]
    runs: set[str]

    def tags_of(self, repository: str, image: str) -> set[str]:
        """Tags of the image there."""
        return {tag for (name, tag), meant in self.tags.items() if (name, meant) == (repository, image)}

    def owner(self, repository: str) -> str:
        """Of the nearest folder that has one."""
        while repository and repository not in self.owned:
            repository = repository.rpartition("/")[0]
        return self.owned.get(repository, "")


def found(chance: random.Random, catalog: Catalog) -> Company:
    """Record a company by chance; what was recorded."""
    company = Company({}, {}, {}, {"team": "ann", "team/b": "bob", "lab_x": "ann", "reg.example/team": "bob"}, set())
    versions = [f"{name}@{number}.0" for name in PACKAGES for number in (1, 2)]
    for number in range(14):
        name = f"image {number}"
        some = frozenset(chance.sample(versions, chance.randrange(1, 4)))
        if number % 5 == 4:  # like the one before
            some = company.images[digest(f"image {number - 1}")].packages
        named = [one.partition("@") for one in sorted(some)]
        parts = [component(what, version, layer=PACKAGES[what]) for what, _, version in named]
        looked = facts(name, *parts, layers=("base", f"app {chance.randrange(1, 3)}"))
        image = company.images[digest(name)] = Image(digest(name), some, [], [])
        for repository in chance.sample(STORE, chance.randrange(1, 3)):
            catalog.record_facts(looked, repository=repository)
            company.places[repository, image.digest] = NOW
            for tag in chance.sample(["1.0", "1_0", "Latest"], chance.randrange(0, 3)):
                catalog.set_tag(repository, tag, digest(name))
                company.tags[repository, tag] = image.digest
        touching = [(f"pkg:pypi/{one}", TOUCHED[one]) for one in sorted(some) if one in TOUCHED]
        said = [finding(purl, what[0], what[2], severity=what[1]) for purl, what in touching]
        catalog.record_scan(scan(name, *said, at=NOW + number * HOUR, revision=f"r{number}"))
        if chance.random() < 0.5:
            far(catalog, company, looked, name, f"v{number}")
        if chance.random() < 0.6:
            built(chance, catalog, company, image, name)
        for _ in range(chance.randrange(3)):
            decide(chance, catalog, image, name)
    with catalog.database.writing() as connection:
        run(chance, connection, company)
        answer_for(connection, company)
        for number, waiver in enumerate(asked()):
            waivers.request(connection, waiver, NOW + number * HOUR)
        spread(chance, connection, company)
    return company


def far(catalog: Catalog, company: Company, looked: Any, name: str, tag: str) -> None:
    """It lies in a registry, too."""
    one = TakenManifest(digest=digest(name), media_type=MANIFEST, kind="image", facts=looked)
    catalog.record_sync(FAR, Batch(manifests=[one], tags=[SeenTag(tag, digest(name), NOW)], images=[digest(name)]))
    company.places[FAR, digest(name)] = NOW
    company.tags[FAR, tag] = digest(name)


def built(chance: random.Random, catalog: Catalog, company: Company, image: Image, name: str) -> None:
    """It was built here."""
    made = {
        "repository": chance.choice(STORE),
        "environment": chance.choice(["research", "staging", "production"]),
        "commit": f"{chance.randrange(2**160):040x}",
        "builder": chance.choice(["local", "ci"]),
        "pipeline_run": chance.choice(["run/1", "run/2"]),
        "base_name": chance.choice(["debian12", "ubuntu"]),
    }
    catalog.record_build(
        build(name, finished=NOW + len(company.places) * HOUR, base_lock=digest(made["base_name"]), **made)
    )
    image.builds.append(made)
    company.places[made["repository"], image.digest] = NOW


def decide(chance: random.Random, catalog: Catalog, image: Image, name: str) -> None:
    """It was decided about."""
    environment, answer = chance.choice(["research", "staging"]), chance.choice(["allow", "deny"])
    if any(one[:2] == (environment, answer) for one in image.verdicts):
        return
    at = NOW + chance.randrange(1000) * HOUR
    catalog.record_verdict(verdict(name, answer, at, environment))
    image.verdicts.append((environment, answer, at))


def run(chance: random.Random, connection: Any, company: Company) -> None:
    """Workloads and model versions; some are gone."""
    for number in range(10):
        image = chance.choice(sorted(company.images))
        began = NOW + number * DAY
        one = Sighting(cluster="eu", namespace=f"n{number % 3}", name=f"w{number}", digest=image, seen_at=began)
        workloads.record(connection, [one], clock.now())
        model_versions.record(connection, (f"model-{number % 4}", str(number)), Seen(image, began), clock.now())
        if number % 3 == 0:
            gone = msgspec.structs.replace(one, digest="", seen_at=began + 2 * DAY, gone=True)
            workloads.record(connection, [gone], clock.now())
            seen = Seen("", began + 2 * DAY, gone=True)
            model_versions.record(connection, (f"model-{number % 4}", str(number)), seen, clock.now())
        else:
            company.runs.add(image)


def answer_for(connection: Any, company: Company) -> None:
    """Owners, some of them others before."""
    for number, (subject, owner) in enumerate(company.owned.items()):
        owners.put(connection, "repository", subject, "before", NOW)
        owners.put(connection, "repository", subject, owner, NOW + (number + 1) * DAY)
    for number in range(3):
        owners.put(connection, "namespace", f"eu/n{number}", "ann" if number else "bob", NOW + number * DAY)
        owners.put(connection, "model", f"model-{number}", "bob" if number else "ann", NOW + number * DAY)
    owners.put(connection, "workload", "eu/n1/w4", "bob", NOW)


def asked() -> Iterator[Waiver]:
    """Waivers in each state, some that end at the same moment."""
    past, future = NOW, clock.now() + DAY
    for number, (ends, approved, revoked) in enumerate(
        (ends, approved, revoked)
        for ends in (past, future, future + DAY)
        for approved in (None, NOW)
        for revoked in (None, NOW)
    ):
        about = Scope(environments=("staging",), **{"advisory" if number % 3 else "rule": f"ABC-{number % 4}"})
        yield Waiver(
            id=f"W-{number}",
            scope=about,
            owner="ann" if number % 2 else "bob",
            reason="r",
            requested_by="x",
            requested_at=NOW - DAY,
            expires_at=ends,
            reviewer="y" if approved else "",
            approved_at=approved,
            revoked_at=revoked,
        )


def spread(chance: random.Random, connection: Any, company: Company) -> None:
    """Let each image have changed at a moment of its own in each place."""
    place, repository, image = schema.repository_artifact.c, schema.repository.c, schema.artifact.c
    query = (
        select(repository.name, image.digest, place.repository_id, place.artifact_id)
        .join(schema.repository, repository.id == place.repository_id)
        .join(schema.artifact, image.id == place.artifact_id)
        .order_by(repository.name, image.digest)
    )
    rows = connection.execute(query).all()
    assert {(row.name, row.digest) for row in rows} == set(company.places)
    for row, hours in zip(rows, chance.sample(range(1000), len(rows)), strict=True):
        company.places[row.name, row.digest] = NOW + hours * HOUR
        mine = (place.repository_id == row.repository_id, place.artifact_id == row.artifact_id)
        connection.execute(update(schema.repository_artifact).where(*mine).values(changed_at=NOW + hours * HOUR))


# What each filter means


def below(name: str, wanted: str) -> bool:
    """It, or what is below it."""
    return name == wanted.removesuffix("/") or name.startswith(wanted.removesuffix("/") + "/")


def fits(name: str, pattern: str) -> bool:
    """A pattern with `*` and `?`, whatever the case; nothing else in it is special."""
    return fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))


def newest(image: Image) -> dict[str, str]:
    """The answer that was given last, by environment."""
    return {environment: answer for environment, answer, _ in sorted(image.verdicts, key=lambda one: one[2])}


def searched(company: Company, repository: str, image: Image, text: str) -> bool:
    """What the search for a text means."""
    text, tags = text.strip().lower(), company.tags_of(repository, image.digest)
    name, _, tag = text.rpartition(":")
    named = ":" in text and repository.lower() == name and any(one.lower().startswith(tag) for one in tags)
    begins = image.digest.startswith(text if text.startswith("sha256:") else f"sha256:{text}")
    return (
        text in repository.lower()
        or any(text in one.lower() for one in tags)
        or any(one["commit"].startswith(text) for one in image.builds)
        or (named and not text.startswith("sha256:"))
        or (begins and (":" not in text or text.startswith("sha256:")))
    )


def has_finding(image: Image, wanted: str) -> bool:
    """An advisory by any name, or one so severe."""
    for package in image.packages & TOUCHED.keys():
        name, severity, alias = TOUCHED[package]
        if wanted in {name, alias} or severity in WORSE.get(wanted, ()):
            return True
    return False


def decided(image: Image, answer: str, environment: str) -> bool:
    """What the newest verdict says, for the environment, or for any."""
    said = newest(image)
    return answer in ([said.get(environment)] if environment else said.values())


def is_wanted(company: Company, repository: str, image: Image, given: Mapping[str, str]) -> bool:
    """Whether an image in a repository fits every filter."""
    alike = [one for one in company.images.values() if one.packages == image.packages]
    checks: dict[str, Callable[[str], bool]] = {
        "search": lambda text: searched(company, repository, image, text),
        "repository": lambda name: fits(repository, name) if {"*", "?"} & {*name} else below(repository, name),
        "tag": lambda pattern: any(fits(one, pattern) for one in company.tags_of(repository, image.digest)),
        "environment": lambda name: name in {*newest(image), *(one["environment"] for one in image.builds)},
        "verdict": lambda answer: decided(image, answer, given.get("environment", "")),
        "package": lambda purl: any(
            f"pkg:pypi/{one}" == purl or f"pkg:pypi/{one}".startswith(f"{purl}@") for one in image.packages
        ),
        "finding": lambda wanted: has_finding(image, wanted),
        "base": lambda name: any(one["base_name"] == name for one in image.builds),
        "owner": lambda name: company.owner(repository) == name,
        "running": lambda yes: yes == "false" or image.digest in company.runs,
        "snowflake": lambda yes: yes == "false" or len(alike) == 1,
        "unbuilt": lambda yes: yes == "false" or not image.builds,
        "since": lambda day: company.places[repository, image.digest] >= clock.parse_rfc3339(day),
    }
    return all(checks[name](value) for name, value in given.items())


IMAGES: dict[str, tuple[str, ...]] = {
    "search": ("team", "TEAM/b", "1.0", "_", "latest", "teams:1", "team/a:1.0", digest("image 3")[:12], "%", "nothing"),
    "repository": ("team", "team/", "team/b", "*b*", "te?ms", "lab_x", "lab?x", "lab_", "nothing"),
    "tag": ("1.0", "1?0", "1*", "*", "LATEST", "v?", "_", "nothing"),
    "environment": ("research", "staging", "production"),
    "verdict": ("allow", "deny"),
    "package": ("pkg:pypi/alpha", "pkg:pypi/alpha@1.0", "pkg:pypi/gamma@2.0", "pkg:pypi/alph", "pkg:pypi/none"),
    "finding": ("high", "low", "critical", "ADV-1", "CVE-2026-0002", "CVE-2026-9999"),
    "base": ("debian12", "ubuntu", "nothing"),
    "owner": ("ann", "bob", "before", "nobody"),
    "running": ("true", "false"),
    "snowflake": ("true",),
    "unbuilt": ("true",),
    "since": tuple(clock.rfc3339(NOW + hours * HOUR) for hours in (0, 400, 900, 2000)),
}
OTHERS: dict[str, dict[str, tuple[str, ...]]] = {
    "list_repositories": {"search": ("team", "TE", "_", "%", "nothing")},
    "list_tags": {
        "repository": ("team", "team/b", "reg.example", "te"),
        "tag": ("1.0", "1_0", "latest", "Latest"),
        "digest": (digest("image 2"), digest("nothing")),
    },
    "list_layers": {
        "image": (digest("image 1"), digest("nothing")),
        "package": ("pkg:pypi/alpha@1.0", "pkg:pypi/gamma@1.0", "pkg:pypi/alpha"),
        "digest": (digest("blob base"), digest("diff app 1"), digest("nothing")),
    },
    "list_builds": {
        "repository": ("team", "teams", "lab_x"),
        "image": (digest("image 1"), digest("image 2"), digest("image 3")),
        "commit": ("0", "a", "f"),
        "run": ("run/1", "run"),
        "builder": ("ci", "local"),
    },
    "list_verdicts": {
        "image": tuple(digest(f"image {number}") for number in range(4)),
        "environment": ("research", "staging", "production"),
        "verdict": ("allow", "deny"),
    },
    "list_waivers": {
        "all": ("true", "false"),
        "state": ("requested", "in_force", "expired", "revoked"),
        "owner": ("ann", "bob", "nobody"),
        "subject": ("ABC-0", "ABC-1", "ABC-9"),
    },
    "list_workloads": {
        "owner": ("ann", "bob", "nobody"),
        "all": ("true", "false"),
        "as_of": tuple(clock.rfc3339(NOW + days * DAY) for days in (0, 4, 9)),
        "not_allowed": ("true",),
    },
    "list_models": {
        "owner": ("ann", "bob", "nobody"),
        "all": ("true", "false"),
        "as_of": tuple(clock.rfc3339(NOW + days * DAY) for days in (0, 4, 9)),
    },
    "list_owners": {
        "kind": ("repository", "namespace", "workload", "model"),
        "owner": ("ann", "bob", "before"),
        "as_of": tuple(clock.rfc3339(NOW + hours * HOUR) for hours in (12, 30, 200)),
    },
    "list_packages": {"search": ("a", "ALPHA", "2.0", "mit", "nothing")},
}


def subject(one: Mapping[str, Any]) -> str:
    """What a waiver is about."""
    return str(one["scope"].get("advisory") or one["scope"].get("rule"))


def stood(one: Mapping[str, Any], day: str, began: str, ended: str) -> bool:
    """Whether it was so then."""
    over = one[ended]
    then = clock.parse_rfc3339(day)
    return clock.parse_rfc3339(one[began]) <= then and (over is None or clock.parse_rfc3339(over) > then)


FITS: dict[str, Callable[[Mapping[str, Any], str, Any], bool]] = {
    "list_repositories": lambda one, _, text: text.lower() in one["name"].lower(),
    "list_tags": lambda one, name, value: (
        below(one["repository"], value) if name == "repository" else one[name] == value
    ),
    "list_builds": lambda one, name, value: (
        below(one["repository"], value)
        if name == "repository"
        else one["commit"].startswith(value)
        if name == "commit"
        else one[{"image": "digest", "run": "pipeline_run"}.get(name, name)] == value
    ),
    "list_verdicts": lambda one, name, value: one["digest" if name == "image" else name] == value,
    "list_packages": lambda one, _, text: any(
        text.lower() in each.lower() for each in (one["name"], one["version"], one["ecosystem"], *one["licenses"])
    ),
}


def route_of(operation: str) -> str:
    """Its path."""
    return next(one.path for one in routes.every() if one.operation == operation)


def everything(client: TestClient, path: str, given: Mapping[str, str], rows: int = 4) -> list[dict[str, Any]]:
    """All items, part after part."""
    items: list[dict[str, Any]] = []
    after = ""
    while True:
        answer = client.get(path, params={**given, "limit": rows, **({"after": after} if after else {})})
        assert answer.status_code == 200, (given, answer.text)
        part = answer.json()
        items += part["items"]
        assert len(part["items"]) <= rows
        if part["next"] is None:
            return items
        after = part["next"]


@pytest.fixture(params=[1, 2])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[TestClient, Company]]:
    """A server of a company by chance."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        company = found(random.Random(request.param), catalog)
    quick = msgspec.structs.replace(settings.access, requests_per_second=0)
    with TestClient(create(msgspec.structs.replace(settings, access=quick, default_environment="staging"))) as client:
        yield client, company


def test_every_filter_is_compared() -> None:
    """A list that is new, or a filter, is to be compared here or named with a reason."""
    compared = {"list_images": IMAGES, **OTHERS}
    for route in routes.every():
        query = route.takes.get("query")
        if query is None or not issubclass(query, Paging) or route.operation in ELSEWHERE:
            continue
        filters = {*query.__struct_fields__} - {*Paging.__struct_fields__}
        assert route.operation in compared, route.operation
        assert filters == compared[route.operation].keys(), route.operation
    assert not ELSEWHERE.keys() & compared.keys()


@pytest.mark.thorough
def test_images_fit_their_filters(known: tuple[TestClient, Company]) -> None:
    """Each filter alone and two or three at once by chance: exactly the images that fit, the latest change first."""
    client, company = known
    chance = random.Random(7)
    asked = [{name: value} for name, values in IMAGES.items() for value in values]
    for _ in range(60):
        names = chance.sample(sorted(IMAGES), chance.randrange(2, 4))
        asked.append({name: chance.choice(IMAGES[name]) for name in names})
    ordered = sorted(company.places, key=lambda one: company.places[one], reverse=True)
    some = 0
    for given in asked:
        expected = [(name, image) for name, image in ordered if is_wanted(company, name, company.images[image], given)]
        seen = everything(client, "/api/v1/images", given)
        assert [(one["name"], one["digest"]) for one in seen] == expected, given
        some += bool(expected)
    assert some > len(asked) / 4, "most filters found nothing, and prove little"


@pytest.mark.parametrize("operation", sorted(FITS))
def test_what_a_list_shows_fits(known: tuple[TestClient, Company], operation: str) -> None:
    """Each filter alone and pairs by chance: those of the whole list that fit, in its order."""
    client, _ = known
    path = route_of(operation).replace("{digest}", digest("image 1"))
    whole = everything(client, path, {})
    assert whole
    single = [(name, value) for name, values in OTHERS[operation].items() for value in values]
    pairs = [[one, other] for one in single for other in single if one[0] < other[0]]
    for pair in [*([one] for one in single), *random.Random(3).sample(pairs, min(len(pairs), 30))]:
        given = dict(pair)
        expected = [one for one in whole if all(FITS[operation](one, *each) for each in given.items())]
        assert everything(client, path, given) == expected, given


def test_layers_fit_their_filters(known: tuple[TestClient, Company]) -> None:
    """Of an image, with a package, and that one."""
    client, company = known
    path = route_of("list_layers")
    whole = {one["digest"]: one for one in everything(client, path, {})}
    assert list(whole) == sorted(whole)
    for purl in OTHERS["list_layers"]["package"]:
        held = {
            PACKAGES[one.split("@")[0]]
            for image in company.images.values()
            for one in image.packages
            if f"pkg:pypi/{one}" == purl
        }
        seen = {one["digest"] for one in everything(client, path, {"package": purl})}
        assert seen <= {digest(f"blob {name}") for name in held}
        assert bool(seen) == bool(held) or purl.startswith("pkg:pypi/gamma"), purl
    for image in OTHERS["list_layers"]["image"]:
        record = client.get(f"/api/v1/images/{image}")
        own = sorted(one["digest"] for one in record.json()["layers"]) if record.status_code == 200 else []
        assert [one["digest"] for one in everything(client, path, {"image": image})] == own
    for name in OTHERS["list_layers"]["digest"]:
        expected = [one for one in whole.values() if name in {one["digest"], one["diff_id"]}]
        assert everything(client, path, {"digest": name}) == expected


def test_waivers_fit_their_filters(known: tuple[TestClient, Company]) -> None:
    """By state, owner and subject, in the order in which they end; without any, those that are asked for or count."""
    client, _ = known
    path = route_of("list_waivers")
    whole = everything(client, path, {"all": "true"})
    assert [one["id"] for one in whole] == [
        one["id"] for one in sorted(whole, key=lambda one: (one["expires_at"], one["id"]))
    ]
    for state in ("", *OTHERS["list_waivers"]["state"]):
        for owner in ("", *OTHERS["list_waivers"]["owner"]):
            for about in ("", *OTHERS["list_waivers"]["subject"]):
                given = {"state": state, "owner": owner, "subject": about}
                expected = [
                    one
                    for one in whole
                    if one["state"] in ({state} if state else {"requested", "in_force"})
                    and owner in {"", one["owner"]}
                    and about in {"", subject(one)}
                ]
                assert everything(client, path, given) == expected, given
    assert {one["state"] for one in whole} == {*OTHERS["list_waivers"]["state"]}


@pytest.mark.parametrize("operation", ["list_workloads", "list_models"])
def test_what_runs_fits(known: tuple[TestClient, Company], operation: str) -> None:
    """By owner and on a day; with what is gone, and what no verdict allows."""
    client, _ = known
    path = route_of(operation)
    whole = everything(client, path, {"all": "true"})
    now = [one for one in whole if one["gone_at"] is None]
    assert whole != now != everything(client, path, {"owner": "ann"})
    for owner in OTHERS[operation]["owner"]:
        assert everything(client, path, {"owner": owner}) == [one for one in now if one["owner"] == owner]
        assert everything(client, path, {"owner": owner, "all": "true"}) == [
            one for one in whole if one["owner"] == owner
        ]
    for day in OTHERS[operation]["as_of"]:
        then = [one["first_seen"] for one in whole if stood(one, day, "first_seen", "gone_at")]
        assert [one["first_seen"] for one in everything(client, path, {"as_of": day})] == then, day
    if operation == "list_workloads":
        refused = [one for one in now if one["verdict"] not in {"", "allow"}]
        assert everything(client, path, {"not_allowed": "true"}) == refused
        assert refused


def test_owners_fit_their_filters(known: tuple[TestClient, Company]) -> None:
    """By kind and owner, now; and who answered on a day."""
    client, company = known
    path = route_of("list_owners")
    whole = everything(client, path, {})
    for kind in ("", *OTHERS["list_owners"]["kind"]):
        for owner in ("", *OTHERS["list_owners"]["owner"]):
            expected = [one for one in whole if kind in {"", one["kind"]} and owner in {"", one["owner"]}]
            assert everything(client, path, {"kind": kind, "owner": owner}) == expected
    for day in OTHERS["list_owners"]["as_of"]:
        then = {one["subject"]: one["owner"] for one in everything(client, path, {"as_of": day, "kind": "repository"})}
        at = clock.parse_rfc3339(day)
        assert then == {
            name: owner if NOW + (number + 1) * DAY <= at else "before"
            for number, (name, owner) in enumerate(company.owned.items())
        }

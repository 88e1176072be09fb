"""Whoever has a role in one project only: what he reaches in others, by digest, by pattern, by a moved tag."""

import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from starlette.testclient import TestClient

from api_sample import Sample
from tidewaiter.access import tokens, users
from tidewaiter.access.roles import project_of_pattern
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import RefusedError
from tidewaiter.oci import digest as digests
from tidewaiter.web.app import create


class Place(NamedTuple):
    """A server with the images `vision/leaky` and `speech/clean`, and tokens of people with roles in one project."""

    client: TestClient
    catalog: Catalog
    sample: Sample
    secrets: dict[str, str]

    def post(self, who: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        answer = self.client.post(f"/api/v1{path}", json=body, headers=self.bearer(who))
        return answer.status_code, answer.json()

    def bearer(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[who]}"}


@pytest.fixture(scope="module")
def place(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """On a copy of the sample."""
    home = shutil.copytree(sample.settings.home.path, tmp_path_factory.mktemp("others") / "home")
    settings = all_settings.load({"TIDEWAITER_HOME": str(home), "TIDEWAITER_REQUESTS_PER_SECOND": "0"})
    with Catalog.open(settings) as catalog, TestClient(create(settings, anonymous=False)) as client:
        secrets = {}
        for name, role, project in (
            ("dev", "developer", "vision"),
            ("sec", "security", "library"),
            ("boss", "admin", "*"),
        ):
            users.add(catalog, name, with_password=False)
            users.grant(catalog, name, role, project)
            secrets[name] = tokens.create(catalog, "t", days=1, most_days=1, user=name).secret
        made = tokens.create(catalog, "bot", days=1, most_days=1, only_role="admin")
        yield Place(client, catalog, sample, {**secrets, "bot": made.secret})


def test_an_image_of_others_is_not_checked_by_its_digest(place: Place) -> None:
    """It would lie in one's own project afterwards, where its bytes may be read."""
    body = {"reference": f"vision/mine@{place.sample.clean}", "environment": "staging"}
    assert place.post("dev", "/checks", body)[0] == 404
    assert {one.name for one in place.catalog.whereabouts(place.sample.clean).places} >= {"speech/clean"}
    contents = f"/api/v1/images/{place.sample.clean}/contents"
    assert place.client.get(contents, headers=place.bearer("dev")).status_code == 403
    own = {"reference": f"vision/leaky@{place.sample.leaky}", "environment": "staging"}
    assert place.post("dev", "/checks", own)[0] == 201


def test_an_image_of_others_is_not_recorded_as_ones_own(place: Place) -> None:
    """A build record about it is refused, and leaves it where it is."""
    build = {
        "repository": "vision/mine",
        "digest": place.sample.clean,
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "layers": [],
        "environment": "staging",
        "purpose": "serving",
        "source": "https://git.example.com/vision/serving",
        "commit": "6f" * 20,
        "dirty": False,
        "builder": "",
        "started": "2026-06-30T10:00:00Z",
        "finished": "2026-06-30T10:02:30Z",
        "seconds": 150.0,
    }
    status, body = place.post("dev", "/images", {"build": build, "tag": "1"})
    assert (status, body["code"]) == (403, "forbidden")
    assert "vision/mine" not in {one.name for one in place.catalog.whereabouts(place.sample.clean).places}
    assert place.post("boss", "/images", {"build": {**build, "repository": "speech/copy"}, "tag": "1"})[0] == 201


def test_a_check_moves_no_tag(place: Place) -> None:
    """Not by naming a digest beside the tag, and not when the tag is moved while the image is judged."""
    body = {"reference": f"vision/leaky:1.0.0@{place.sample.leaky}", "environment": "staging", "clear": True}
    assert place.post("dev", "/checks", body)[0] == 400
    with pytest.raises(RefusedError, match="any more") as refused:
        place.catalog.set_tag("vision/leaky", "1.0.0", digests.parse(place.sample.clean), moves=False)
    assert refused.value.code == "tag_moved"
    place.catalog.set_tag("vision/leaky", "1.0.0", digests.parse(place.sample.leaky), moves=False)


def _waiver(image: str) -> dict[str, Any]:
    return {
        "environments": ["staging"],
        "advisory": "CVE-2026-10001",
        "image": image,
        "reason": "not reachable",
        "expires_at": "2027-01-31",
    }


@pytest.mark.parametrize("image", ["registry.example/**", "vis.ion/**", "localhost/**", "l*/**", "**", "vision/*"])
def test_a_pattern_that_fits_other_projects_needs_a_role_there(place: Place, image: str) -> None:
    """A role in the project of names without a folder is none for all that lies in a registry."""
    status, waiver = place.post("boss", "/waivers", _waiver(image))
    assert status == 201
    assert place.post("sec", f"/waivers/{waiver['id']}/approve", {})[0] in {403, 422}
    answer = place.client.post(f"/api/v1/waivers/{waiver['id']}/approve", headers=place.bearer("sec"))
    assert answer.status_code == 403
    assert place.post("sec", "/waivers", _waiver(image))[0] == 403


@pytest.mark.parametrize(
    ("pattern", "project"),
    [
        ("vision/*", "vision"),
        ("vision/a**", "vision"),
        ("vision", "library"),
        ("library/*", "library"),
        ("registry.example:5000/vision/**", "vision"),
        ("registry.example/vi*/x", None),
        ("registry.example/*", None),
        ("vision*/x", None),
        ("*", None),
    ],
)
def test_the_project_of_a_pattern(pattern: str, project: str | None) -> None:
    """The one that holds everything that it fits."""
    assert project_of_pattern(pattern) == project


def test_a_machine_asks_for_no_waiver(place: Place) -> None:
    """Whoever can make a program ask and then approves would be both pairs of eyes."""
    status, body = place.post("bot", "/waivers", _waiver("vision/leaky"))
    assert (status, body["code"]) == (403, "forbidden")


def test_the_sample_is_what_it_says(place: Place) -> None:
    """Both images are in different projects, and the developer reads the bytes of one."""
    assert msgspec.json.decode(place.client.get("/api/v1/whoami", headers=place.bearer("dev")).content)
    contents = f"/api/v1/images/{place.sample.leaky}/contents"
    assert place.client.get(contents, headers=place.bearer("dev")).status_code == 200

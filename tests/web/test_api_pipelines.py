"""Runs of pipelines by the API."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from git_server import GitServer, commit, git_server
from tidewaiter.access import tokens, users
from tidewaiter.access.roles import Role
from tidewaiter.catalog import schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import reading
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.web.app import create

REPOSITORY = "registry.example/vision/ranker"


class Place:
    """A server with one source, and who asks it."""

    def __init__(self, settings: Settings, server: GitServer, tip: str) -> None:
        self.settings, self.server, self.tip = settings, server, tip
        self.app = create(settings, anonymous=False)

    def client(self, role: Role, project: str = "*") -> TestClient:
        """Somebody with that role there."""
        name = f"{role}-{project.replace('*', 'all')}"
        with Catalog.open(self.settings) as catalog:
            users.add(catalog, name, with_password=False, given={project: frozenset({role})})
            secret = tokens.create(catalog, "test", days=7, most_days=7, user=name).secret
        return TestClient(self.app, headers={"Authorization": f"Bearer {secret}"}, raise_server_exceptions=False)

    def say(self, run: str, *lines: str) -> None:
        """Have the run say something."""
        with Catalog.open(self.settings) as catalog, catalog.database.writing() as connection:
            row = reading.number(connection, run)
            before = reading.log(connection, run).after
            for number, text in enumerate(lines, before + 1):
                values = {"pipeline_run_id": row, "number": number, "at": clock.now(), "step": "build", "text": text}
                connection.execute(schema.pipeline_line.insert(), values)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home with a source, whose server runs."""
    root = tmp_path / "repositories"
    tip = commit(root / "ranker", {"a": "1"})
    home = tmp_path / "home"
    home.mkdir()
    with git_server(root) as server:
        (home / "settings.toml").write_text(
            f"""plain_http = "{server.host}"
[[source]]
name = "ranker"
url = "{server.url}/ranker/.git"
folders = ["app", "tool"]
team = "team-vision"
push = "{REPOSITORY}"
"""
        )
        yield Place(
            all_settings.load({"TIDEWAITER_HOME": str(home), "TIDEWAITER_REQUESTS_PER_SECOND": "0"}), server, tip
        )


def asked(client: TestClient, body: dict[str, Any], status: int = 201, *, key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    answer = client.post("/api/v1/pipelines", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_run_is_asked_for(place: Place) -> None:
    """At the tip of a branch, or of a commit; where it goes and what else is fetched says the source."""
    client = place.client("developer", "vision")
    run = asked(client, {"source": "ranker", "ref": "refs/heads/main"})
    assert run["state"] == "queued"
    assert run["asked"]["source"] == {
        "repository": f"{place.server.url}/ranker/.git",
        "commit": place.tip,
        "ref": "refs/heads/main",
        "folder": "app",
        "submodules": False,
        "lfs": False,
    }
    assert (run["asked"]["team"], run["asked"]["push"]) == ("team-vision", REPOSITORY)
    assert run["asked"]["trigger"]["by"] == "developer-vision"
    other = asked(client, {"source": "ranker", "commit": "1" * 40, "folder": "tool", "push": False})
    assert (other["asked"]["source"]["folder"], other["asked"]["push"]) == ("tool", "")
    shown = client.get(f"/api/v1/pipelines/{run['id']}").json()
    assert shown == run


@pytest.mark.parametrize(
    "body",
    [
        {"source": "none", "ref": "refs/heads/main"},
        {"source": "https://elsewhere.example/x.git", "ref": "refs/heads/main"},
        {"source": "ranker"},
        {"source": "ranker", "commit": "1" * 40, "folder": ".."},
        {"source": "ranker", "ref": "refs/heads/none"},
        {"kind": "sweep", "source": "ranker"},
        {"source": "ranker", "ref": "--upload-pack=x"},
        {"source": "ranker", "commit": "1" * 39},
        {"source": "ranker", "ref": "refs/heads/main", "path": "/etc"},
    ],
)
def test_what_cannot_be_asked_for(place: Place, body: dict[str, Any]) -> None:
    """Other repositories, other folders, branches that are not there, paths of the server: an error, and no run."""
    client = place.client("admin")
    answer = client.post("/api/v1/pipelines", json=body)
    assert answer.status_code in {400, 404, 422}, answer.text
    assert client.get("/api/v1/pipelines").json()["items"] == []


def test_roles_count_where_the_image_goes(place: Place) -> None:
    """Elsewhere is not there; a sweep is everywhere; who may not push has nothing pushed; viewers look."""
    body = {"source": "ranker", "ref": "refs/heads/main"}
    run = asked(place.client("developer", "vision"), body)
    asked(place.client("developer", "speech"), body, 403)
    asked(place.client("viewer"), body, 403)
    asked(place.client("security"), body, 403)
    asked(place.client("developer", "team-vision"), {**body, "push": False}, 403)
    asked(place.client("security", "vision"), {**body, "push": False})
    vision = place.client("maintainer", "vision")
    asked(vision, {"kind": "sweep"}, 403)
    asked(place.client("maintainer"), {"kind": "sweep"})
    path = f"/api/v1/pipelines/{run['id']}"
    assert place.client("maintainer", "speech").post(f"{path}/cancel").status_code == 403
    assert vision.get(path).status_code == 200
    assert vision.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert place.client("maintainer", "shop").post(f"{path}/retry").status_code == 403


def test_runs_are_read_where_the_role_is(place: Place) -> None:
    """Runs, their steps and logs are of their project: who has no role there sees none of it, and no sweeps."""
    run = asked(place.client("developer", "vision"), {"source": "ranker", "commit": place.tip})["id"]
    admin = place.client("admin")
    sweep = asked(admin, {"kind": "sweep"})["id"]
    place.say(run, "what the build said")
    admin.post(f"/api/v1/pipelines/{run}/cancel")
    sees = {
        ("viewer", "vision"): {run},
        ("maintainer", "speech"): set(),
        ("viewer", "*"): {run, sweep},
    }
    for (role, project), known in sees.items():
        client = place.client(role, project)  # type: ignore[arg-type]  # a role
        assert {one["id"] for one in client.get("/api/v1/pipelines").json()["items"]} == known
        pages = client.get("/pipelines").text
        for one in (run, sweep):
            expected = 200 if one in known else 403
            assert (one in pages) == (one in known)
            for path in ("", "/log", "/log/stream"):
                if one == run or path == "":  # the sweep waits: its stream has no end
                    answer = client.get(f"/api/v1/pipelines/{one}{path}")
                    assert answer.status_code == expected, (role, project, path)
                    assert ("what the build said" in answer.text) == (one == run and expected == 200 and path != "")
            for path in ("", "/now"):
                page = client.get(f"/pipelines/{one}{path}")
                assert page.status_code == expected
    counted = place.client("developer", "shop").get("/pipelines").text
    assert "1 queued" not in counted
    assert "1 queued" in place.client("security").get("/pipelines").text


def test_the_same_key_gives_the_same_run(place: Place) -> None:
    """A request that is sent again makes nothing new."""
    client = place.client("developer", "vision")
    body = {"source": "ranker", "commit": place.tip}
    first = asked(client, body, key="k-1")
    assert asked(client, body, key="k-1") == first
    assert asked(client, body, key="k-2")["id"] != first["id"]


def test_a_key_gives_nothing_to_who_may_no_longer(place: Place) -> None:
    """Who lost the role does not get the run again by repeating the key."""
    client = place.client("developer", "vision")
    body = {"source": "ranker", "ref": "refs/heads/main"}
    asked(client, body, key="k")
    with Catalog.open(place.settings) as catalog:
        assert users.revoke(catalog, "developer-vision", "developer", "vision")
        assert users.grant(catalog, "developer-vision", "developer", "other")
    asked(client, body, 403, key="k")


def test_runs_are_listed_in_parts(place: Place) -> None:
    """The last first, by state, kind, team and repository; each once."""
    client = place.client("admin")
    names = [asked(client, {"source": "ranker", "commit": f"{number:040x}"})["id"] for number in range(1, 6)]
    sweep = asked(client, {"kind": "sweep"})["id"]
    client.post(f"/api/v1/pipelines/{names[0]}/cancel")
    found, after = [], ""
    while True:
        part = client.get("/api/v1/pipelines", params={"limit": 2, "after": after}).json()
        found += [one["id"] for one in part["items"]]
        after = part["next"]
        if after is None:
            break
    assert found == [sweep, *reversed(names)]

    def listed(**query: Any) -> list[str]:
        return [one["id"] for one in client.get("/api/v1/pipelines", params=query).json()["items"]]

    assert listed(state=["cancelled"]) == [names[0]]
    assert listed(state=["cancelled", "queued"], kind="clear") == list(reversed(names))
    assert listed(kind="sweep") == listed(team="default") == [sweep]
    assert listed(repository=f"{place.server.url}/ranker/.git") == list(reversed(names))
    assert client.get("/api/v1/pipelines", params={"after": "made-up"}).status_code == 400


def test_runs_are_cancelled_and_tried_again(place: Place) -> None:
    """One that waits ends at once; it ends once; only what has ended is tried again, as a new run."""
    client = place.client("developer", "vision")
    run = asked(client, {"source": "ranker", "commit": place.tip})
    path = f"/api/v1/pipelines/{run['id']}"
    early = client.post(f"{path}/retry")
    assert (early.status_code, early.json()["code"]) == (409, "run_not_ended")
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    again = client.post(f"{path}/retry")
    assert again.status_code == 201
    assert again.json()["asked"]["trigger"]["delivery"] == run["id"]
    assert client.post("/api/v1/pipelines/run-none/cancel").status_code == 404


def test_the_log_is_read_as_text(place: Place) -> None:
    """Line by line, behind the last one that was read; it says when nothing more comes."""
    client = place.client("viewer")
    run = asked(place.client("developer", "vision"), {"source": "ranker", "commit": place.tip})
    place.say(run["id"], "first", "second\nwith\x1ba break")
    path = f"/api/v1/pipelines/{run['id']}/log"
    answer = client.get(path, params={"limit": 1})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.endswith("Z build: first\n")
    after = answer.headers["tidewaiter-log-after"]
    rest = client.get(path, params={"after": after})
    assert rest.text.endswith("build: second with a break\n")  # a terminal obeys nothing of it
    assert rest.headers["tidewaiter-log-ended"] == "false"
    place.client("admin").post(f"/api/v1/pipelines/{run['id']}/cancel")
    done = client.get(path, params={"after": rest.headers["tidewaiter-log-after"]})
    assert (done.text, done.headers["tidewaiter-log-ended"]) == ("", "true")
    assert client.get("/api/v1/pipelines/run-none/log").status_code == 404


@pytest.mark.thorough
def test_the_log_is_streamed_until_the_run_ends(place: Place, tmp_path: Path) -> None:
    """A reader at a real server gets each line once, as it is said, from where he was, and is told the end."""
    run = asked(place.client("developer", "vision"), {"source": "ranker", "commit": place.tip})["id"]
    admin = place.client("admin")
    place.say(run, "one", "two")
    # Else the server takes the run up, and it says more.
    variables = {
        **os.environ,
        "TIDEWAITER_HOME": str(place.settings.home.path),
        "TIDEWAITER_PIPELINE_IN_SERVER": "no",
    }
    command = [sys.executable, "-m", "tidewaiter", "serve", "--port", "0", "--anonymous", "viewer"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert server.stdout is not None
        address = next(line.strip() for line in server.stdout if line.startswith("http://"))
        told: list[str] = []
        url = f"{address}api/v1/pipelines/{run}/log/stream"

        def read() -> None:
            with httpx2.stream("GET", url, headers={"Last-Event-ID": "1"}, timeout=30) as stream:
                told.extend(line for line in stream.iter_lines() if line.startswith(("event", "id", "data")))

        reader = threading.Thread(target=read)
        reader.start()
        deadline = time.monotonic() + 20
        while not told and time.monotonic() < deadline:
            time.sleep(0.05)
        place.say(run, "three")
        time.sleep(1)
        admin.post(f"/api/v1/pipelines/{run}/cancel")
        reader.join(20)
        assert not reader.is_alive()
    finally:
        server.terminate()
        server.wait(20)
        if server.stdout is not None:
            server.stdout.close()
    assert [line for line in told if line.startswith("id")] == ["id: 2", "id: 3"]
    assert told[-2:] == ["event: end", 'data: {"after":3}']
    assert "three" in told[-3]

"""What changes something: once under one key, in the name of who asks; a server with a port, and real clients."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import api_sample
import receivers
from api_sample import Sample

SCRIPT = """
from tidewaiter.core import settings
from tidewaiter.web.server import serve
serve(settings.load(), port=0)
"""
EXAMPLE = "sha256:" + "a" * 64


class Api:
    """A client of a running server."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, secrets: dict[str, str]) -> None:
        self.process = process
        self.port = port
        self._secrets = secrets

    def __call__(
        self, method: str, path: str, body: Any = None, *, role: str = "admin", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        fields = {"Authorization": f"Bearer {self._secrets[role]}"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None
        if body is not None:
            data, fields["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, "/api/v1" + path, data, fields)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None, {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def stream(self, query: str = "", **headers: str) -> socket.socket:
        """A connection on which events arrive."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        lines = [f"GET /api/v1/events/stream{query} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"Authorization: Bearer {self._secrets['viewer']}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        opened.sendall("\r\n".join([*lines, "", ""]).encode())
        return opened


@contextmanager
def serving(sample: Sample, **variables: str) -> Iterator[Api]:
    """A server process on the home of the sample."""
    environment = {
        **os.environ,
        "TIDEWAITER_HOME": str(sample.settings.home.path),
        "TIDEWAITER_REQUESTS_PER_SECOND": "0",
        "TIDEWAITER_WEBHOOK_HOSTS": "127.0.0.1",
        **variables,
    }
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("http://"):
            assert line, "the server ended"
        yield Api(process, int(line.strip().rstrip("/").rpartition(":")[2]), sample.secrets)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A home of these tests' own, which change it."""
    return api_sample.fill(tmp_path_factory.mktemp("changed"))


@pytest.fixture(scope="module")
def api(home: Sample) -> Iterator[Api]:
    with serving(home) as made:
        yield made


def seen(name: str, image: str = EXAMPLE) -> dict[str, str]:
    return {"workload": f"east/shop/{name}", "image": image}


def entries(api: Api, subject: str, count: int) -> list[dict[str, Any]]:
    """Entries of the audit log about it, once there are so many."""
    deadline = time.monotonic() + 20
    while True:
        _, answer, _ = api("GET", f"/audit/entries?subject={subject}")
        found: list[dict[str, Any]] = answer["items"]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)


def events_of(opened: socket.socket, count: int) -> list[dict[str, Any]]:
    """The next events of a stream."""
    found: list[dict[str, Any]] = []
    data = b""
    while len(found) < count:
        more = opened.recv(65536)
        assert more, f"the stream ended after {found}"
        data += more
        found = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ") and line[-1:] == b"}"]
    return found


@pytest.mark.thorough
def test_fifty_clients_with_one_key_change_once(api: Api) -> None:
    """The change is made once; whoever comes meanwhile is told so, and all get the same answer in the end."""

    def ask(_: int) -> tuple[int, Any, dict[str, str]]:
        while True:
            answer = api("POST", "/workloads", seen("fifty"), Idempotency_Key="fifty")
            if answer[0] != 409:
                return answer
            assert answer[1]["code"] == "idempotency_key_in_use"
            time.sleep(0.05)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert {status for status, _, _ in answers} == {200}
    assert len({json.dumps(body) for _, body, _ in answers}) == 1
    assert sum("idempotent-replayed" in headers for _, _, headers in answers) == 49
    time.sleep(1)
    assert len(entries(api, "east/shop/fifty", 1)) == 1


def test_a_key_is_for_one_request(api: Api) -> None:
    """Another body under the same key is 422, another client's key is another one, a malformed key is 400."""
    assert api("PUT", "/owners", {"kind": "model", "subject": "a", "owner": "x"}, Idempotency_Key="o")[0] == 200
    status, body, _ = api("PUT", "/owners", {"kind": "model", "subject": "a", "owner": "y"}, Idempotency_Key="o")
    assert (status, body["code"]) == (422, "idempotency_key_reused")
    other = api(
        "PUT", "/owners", {"kind": "model", "subject": "a", "owner": "y"}, role="maintainer", Idempotency_Key="o"
    )
    assert (other[0], other[1]) == (200, {"changed": True})
    for key in ("x" * 300, "a\tb", "\u00e9"):
        assert api("PUT", "/owners", {"kind": "model", "subject": "a", "owner": "x"}, Idempotency_Key=key)[0] == 400


def test_a_refusal_frees_its_key(api: Api) -> None:
    """What was refused may be asked for again under the same key, once it can be."""
    gone = {**seen("refused"), "gone": True}
    assert api("POST", "/workloads", gone, Idempotency_Key="again")[0] == 404
    assert api("POST", "/workloads", seen("refused"))[0] == 200
    assert api("POST", "/workloads", gone, Idempotency_Key="again")[0] == 200


def test_who_did_it_is_who_asked(api: Api) -> None:
    """The log names the identity of the request, and no body can claim another."""
    assert api("POST", "/workloads", seen("named"), role="maintainer")[0] == 200
    assert entries(api, "east/shop/named", 1)[0]["actor"] == "its-maintainer"
    assert api("POST", "/workloads", {**seen("named"), "actor": "boss"})[0] == 422


def test_many_at_once_with_hostile_names(api: Api) -> None:
    """What cannot be recorded is named by its place; the rest is recorded; more than a thousand are refused whole."""
    hostile = ["a/b", "x/y/\u202egnp", "x/y/" + "z" * 700, "x//y", "a/b/c/d", "x/y/'; DROP TABLE workload; --"]
    items: list[dict[str, Any]] = [
        seen("good-1"),
        *({"workload": name, "image": EXAMPLE} for name in hostile),
        seen("good-2"),
    ]
    items += [seen("bad-image", "vision/none:1"), {**seen("never"), "gone": True}]
    status, body, _ = api("POST", "/workloads/bulk", {"items": items})
    assert status == 200
    assert body["recorded"] == 3
    assert [one["index"] for one in body["refused"]] == [1, 2, 3, 4, 5, 8, 9]
    assert {one["code"] for one in body["refused"]} == {"bad_input", "image_unknown", "not_found"}
    listed = {one["name"] for one in api("GET", "/workloads?limit=200")[1]["items"]}
    assert {"good-1", "good-2", "'; DROP TABLE workload; --"} <= listed
    assert api("POST", "/workloads/bulk", {"items": [seen("x")] * 1001})[0] == 422
    assert api("POST", "/workloads/bulk", {"items": []})[0] == 422


def test_models_and_owners_in_bulk(api: Api) -> None:
    """Model versions and owners are recorded by the same rules."""
    models = [{"model": "bulk:1", "image": EXAMPLE}, {"model": "none", "image": EXAMPLE}]
    status, body, _ = api("POST", "/models/bulk", {"items": models})
    assert (status, body["recorded"], [one["index"] for one in body["refused"]]) == (200, 1, [1])
    owners = [{"kind": "model", "subject": "bulk", "owner": "team"}, {"kind": "model", "subject": " ", "owner": "team"}]
    status, body, _ = api("POST", "/owners/bulk", {"items": owners})
    assert (status, body["recorded"], [one["index"] for one in body["refused"]]) == (200, 1, [1])


def test_nobody_approves_his_own_waiver_for_production(api: Api) -> None:
    """Who asked, or answers for it, is refused whatever his role; another may, and only what he looked at."""
    asked = {
        "environments": ["production"],
        "advisory": "CVE-2026-10001",
        "reason": "never called",
        "expires_at": time.strftime("%Y-%m-%d", time.gmtime(time.time() + 30 * 86400)),
        "image": "vision/*",
    }
    status, waiver, _ = api("POST", "/waivers", asked, role="security")
    assert (status, waiver["requested_by"], waiver["owner"]) == (201, "its-security", "its-security")
    address = f"/waivers/{waiver['id']}"
    assert api("POST", f"{address}/approve", role="security")[0] == 403
    assert api("POST", f"{address}/approve", role="developer")[0] == 403
    assert api("POST", f"{address}/approve", If_Match='"other"')[0] == 412
    tag = api("GET", address)[2]["etag"]
    status, approved, _ = api("POST", f"{address}/approve", If_Match=tag)
    assert (status, approved["reviewer"], approved["state"]) == (200, "its-admin", "in_force")
    assert api("POST", f"{address}/revoke", {"reason": "mended"}, If_Match=tag)[0] == 412
    status, revoked, _ = api("POST", f"{address}/revoke", {"reason": "mended"})
    assert (status, revoked["state"], revoked["no_longer_cleared"]) == (200, "revoked", [])
    assert api("POST", "/waivers", {**asked, "requested_by": "boss"}, role="developer")[0] == 422


def test_a_base_is_approved_and_retired(api: Api, home: Sample) -> None:
    """Who reviews bases says which may be built on, until when, and why not any more."""
    given = {"name": "debian12", "digest": home.clean, "owner": "platform"}
    assert api("POST", "/bases/approve", given, role="maintainer")[0] == 403
    assert api("POST", "/bases/approve", {**given, "expires": "2001-01-01"})[0] == 400
    status, body, _ = api("POST", "/bases/approve", given, role="security")
    assert (status, body["state"]) == (200, "approved")
    status, body, _ = api("POST", "/bases/retire", {"name": "debian12", "digest": home.clean, "reason": "old"})
    assert (status, body["retired"]) == (200, [home.clean])


def test_a_webhook_by_api(api: Api) -> None:
    """Subscribed, tried, told what happens, signed; its secret is shown once; removed only as it was looked at."""
    with receivers.receiver() as endpoint:
        new = {"url": endpoint.url, "types": ["workload.seen"]}
        status, made, headers = api("POST", "/webhooks", new, Idempotency_Key="hook")
        assert (status, headers["cache-control"]) == (201, "no-store")
        assert made["secret"].startswith("whsec_")
        status, again, _ = api("POST", "/webhooks", new, Idempotency_Key="hook")
        assert (status, again["code"]) == (409, "idempotency_answer_lost")
        name = made["webhook"]["id"]
        assert api("POST", f"/webhooks/{name}/test")[1]["taken"] is True
        assert api("POST", "/workloads", seen("hooked"))[0] == 200
        got = endpoint.wait(2)[1]
        assert json.loads(got.body)["data"]["subject"] == "east/shop/hooked"
        deadline = time.monotonic() + 10
        while not (found := api("GET", f"/webhooks/{name}/deliveries?state=delivered")[1]["items"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert found[0]["id"] == got.headers["webhook-id"]
        assert api("POST", f"/deliveries/{found[0]['id']}/redeliver")[0] == 200
        assert endpoint.wait(3)[2].headers["webhook-id"] == got.headers["webhook-id"]
        assert api("DELETE", f"/webhooks/{name}", If_Match='"x"')[0] == 412
        assert api("DELETE", f"/webhooks/{name}")[0] == 204
        assert api("GET", f"/webhooks/{name}")[0] == 404
        assert api("POST", "/webhooks", {"url": "http://10.0.0.1/"})[1]["code"] == "webhook_address"


def test_the_stream_goes_on_where_it_was(api: Api) -> None:
    """What happens arrives; whoever comes back with the last id misses nothing and gets nothing twice."""
    with api.stream("?type=workload.seen") as opened:
        time.sleep(0.5)
        api("POST", "/workloads", seen("s1"))
        api("POST", "/workloads", seen("s2"))
        first = events_of(opened, 2)
    api("POST", "/workloads", seen("s3"))
    with api.stream("?type=workload.seen", Last_Event_ID=first[0]["id"]) as opened:
        api("POST", "/workloads", seen("s4"))
        second = events_of(opened, 3)
    assert [one["subject"] for one in first] == ["east/shop/s1", "east/shop/s2"]
    assert [one["subject"] for one in second] == ["east/shop/s2", "east/shop/s3", "east/shop/s4"]
    status, listed, _ = api("GET", f"/events?type=workload.seen&after={first[0]['id']}")
    assert (status, listed["items"][:3]) == (200, second)
    assert api("GET", f"/events?after={listed['last']}")[1]["items"] == []
    assert api("GET", "/events?after=x")[0] == 400
    assert api("GET", "/events?type=image.exploded")[0] == 400


def test_new_advisories_are_told(api: Api, home: Sample) -> None:
    """When advisory data comes to touch a package that an image has, that is an event about that package."""
    advisory = {**api_sample.ADVISORY, "id": "PYSEC-2026-2", "aliases": ["CVE-2026-10002"]}
    package = {"ecosystem": "PyPI", "name": "clean"}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
    advisory["affected"] = [{"package": package, "ranges": ranges}]
    file = home.settings.home.path.parent / "second.json"
    file.write_text(json.dumps(advisory))
    last = api("GET", "/events?limit=200&type=finding.new")[1]["last"]
    command = [sys.executable, "-m", "tidewaiter", "advisories", "import", str(file)]
    environment = {**os.environ, "TIDEWAITER_HOME": str(home.settings.home.path)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    found = api("GET", f"/events?type=finding.new&after={last}")[1]["items"]
    assert [(one["subject"], one["data"]["advisory"]) for one in found] == [("pkg:pypi/clean@2.0.0", "PYSEC-2026-2")]


def test_another_server_tells_it_too(api: Api, home: Sample) -> None:
    """What one server of a home changes arrives at the streams of another; a stop ends them at once."""
    with serving(home) as other, other.stream() as opened:
        time.sleep(0.5)
        api("POST", "/workloads", seen("across"))
        assert events_of(opened, 1)[0]["subject"] == "east/shop/across"
        began = time.monotonic()
        other.process.send_signal(signal.SIGTERM)
        while opened.recv(65536):
            pass
        assert time.monotonic() - began < 5
        assert other.process.wait(15) == 0


def test_the_server_looks_for_itself(api: Api, home: Sample) -> None:
    """A check is made of the bytes: the verdict is recorded, and the same as that of the command."""
    status, job, headers = api("POST", "/checks", {"reference": "vision/leaky:1.0.0", "environment": "staging"})
    assert (status, job["state"]) == (201, "done")
    assert job["answer"]["digest"] == home.leaky
    assert job["answer"]["verdict"]["verdict"] == "deny"
    assert api("GET", headers["location"].removeprefix("/api/v1"))[1] == job
    recorded = api("GET", f"/verdicts?image={home.leaky}&environment=staging")[1]["items"]
    assert job["answer"]["verdict"]["id"] in {one["id"] for one in recorded}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"reference": "vision/none:1", "environment": "staging"}, 404, "not_found"),
        ({"reference": "registry.example:5000/a/b:1", "environment": "staging"}, 403, "place_not_allowed"),
        ({"reference": "oci:/etc", "environment": "staging"}, 400, "bad_input"),
        ({"reference": "docker-archive:/etc/passwd", "environment": "staging"}, 400, "bad_input"),
        ({"reference": "vision/leaky:1.0.0"}, 400, "bad_input"),
        ({"reference": "vision/leaky:1.0.0", "environment": "moon"}, 422, "bad_input"),
        ({"reference": "vision/leaky:1.0.0", "environment": "staging", "packages": []}, 422, "bad_input"),
    ],
)
def test_what_is_not_checked(api: Api, body: dict[str, Any], status: int, code: str) -> None:
    """Images that are not there, places that the settings do not name, files of the server, claims."""
    answer = api("POST", "/checks", body)
    assert (answer[0], answer[1]["code"]) == (status, code)


@pytest.mark.parametrize("place", ["registry.example:5000/a/", "store:", "oci:/etc", "a", "docker://other.example/x"])
def test_what_is_not_taken_in(api: Api, place: str) -> None:
    """A server reads no place that its settings do not name, whoever asks."""
    assert api("POST", "/syncs", {"place": place})[0] in {400, 403}


def test_a_build_is_recorded_in_the_name_of_its_job(api: Api) -> None:
    """Provenance of a build is kept, with who sent it as its builder; without the role it is refused."""
    build = {
        "repository": "vision/serving",
        "digest": "sha256:" + "5" * 64,
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "layers": [],
        "environment": "staging",
        "purpose": "serving",
        "source": "https://git.example.com/vision/serving",
        "commit": "6f" * 20,
        "dirty": False,
        "builder": "the boss",
        "started": "2026-06-30T10:00:00Z",
        "finished": "2026-06-30T10:02:30Z",
        "seconds": 150.0,
    }
    assert api("POST", "/images", {"build": build}, role="viewer")[0] == 403
    status, body, _ = api("POST", "/images", {"build": build, "tag": "1.4.0"}, role="developer")
    assert status == 201
    assert [one["builder"] for one in body["builds"]] == ["its-developer"]
    assert api("POST", "/images", {"build": {**build, "repository": "../x"}})[0] == 400


@pytest.mark.thorough
def test_a_kill_between_change_and_answer_is_no_lie(home: Sample) -> None:
    """Servers killed at any moment: a key makes its change once, or says that it was made, never a second time."""
    for round_number in range(4):
        key = f"killed-{round_number}"
        with serving(home) as api:
            thread = threading.Thread(target=_quietly, args=(api, key))
            thread.start()
            time.sleep(0.002 * 4**round_number)
            api.process.kill()
            thread.join()
        with serving(home) as api:
            status, body, _ = api("POST", "/workloads", seen(key), Idempotency_Key=key)
            assert status in {200, 409}, body
            if status == 409:
                assert body["code"] == "idempotency_key_in_use"
                time.sleep(1)
                assert len(entries(api, f"east/shop/{key}", 0)) <= 1
            else:
                assert len(entries(api, f"east/shop/{key}", 1)) == 1


def _quietly(api: Api, key: str) -> None:
    try:
        api("POST", "/workloads", seen(key), Idempotency_Key=key)
    except (OSError, http.client.HTTPException):
        return  # the server was killed


@pytest.mark.interop
def test_an_image_of_a_registry_is_judged_and_the_verdict_attached(home: Sample, docker_registry: str) -> None:
    """The server fetches what its settings allow, signs the verdict with its own key, and attaches it there.

    Another program of the home verifies it with that key; eight clients that ask at once get one check.
    """
    folder = home.settings.home.path.parent
    variables = {"COSIGN_PASSWORD": "", "TIDEWAITER_PLAIN_HTTP": docker_registry}
    variables["TIDEWAITER_REGISTRIES"] = f"{docker_registry}/allowed"

    def run(*words: str) -> str:
        environment = {**os.environ, **variables, "TIDEWAITER_HOME": str(home.settings.home.path)}
        command = [sys.executable, "-m", "tidewaiter", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = ("--predicate", "vsa", "--predicate", "vuln", "--predicate", "openvex")
    run("key", "generate", "verdict", "--builder", "server", *said)
    for place in ("allowed", "elsewhere"):
        run("copy", f"oci:{folder}/clean:1", f"{docker_registry}/{place}/clean:1")
    with serving(home, **variables) as api:
        body = {"reference": f"{docker_registry}/allowed/clean:1", "environment": "research"}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: api("POST", "/checks", body), range(8)))
        assert {status for status, _, _ in answers} == {201}
        assert len({job["id"] for _, job, _ in answers}) == 1
        answer = answers[0][1]["answer"]
        assert (answer["digest"], answer["not_attested"]) == (home.clean, "")
        assert "https://slsa.dev/verification_summary/v1" in answer["attested"]
        places = api("GET", f"/images/{home.clean}/places")[1]
        assert f"{docker_registry}/allowed/clean" in json.dumps(places)
        elsewhere = {**body, "reference": f"{docker_registry}/elsewhere/clean:1"}
        assert api("POST", "/checks", elsewhere)[1]["code"] == "place_not_allowed"
        status, job, headers = api("POST", "/syncs", {"place": f"{docker_registry}/allowed/clean"})
        assert status == 202
        deadline = time.monotonic() + 30
        while job["state"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.2)
            job = api("GET", headers["location"].removeprefix("/api/v1"))[1]
        assert (job["state"], job["answer"]["whole"]) == ("done", True)
    key = home.settings.home.keys / "verdict.pub"
    run("verify", body["reference"], "--key", str(key), "--type", "vsa")

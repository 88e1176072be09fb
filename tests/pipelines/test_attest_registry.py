"""`push`, `sign`, `attest` and `verify` with a real registry, checked by the real cosign."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import small_image
from small_image import LEAK, NAME, Home

from servers import Tool
from tidewaiter.core import clock
from tidewaiter.oci.manifest import INDEX, MANIFEST
from workplace import environment

pytestmark = pytest.mark.interop

TYPES = ("spdxjson", "cyclonedx", "vuln", "openvex", "https://slsa.dev/verification_summary/v1")
COUNT = """
import sys
met = []
def note(event, given):
    if event == "socket.connect":
        met.append(given[1][:2])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        met.append(given[:2])
sys.addaudithook(note)
from tidewaiter.cli.app import run
code = run(sys.argv[1:])
names = ((host.decode() if isinstance(host, bytes) else host, int(port)) for host, port in met)
print(sorted(set(names)), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an image and a key, to be copied."""
    return small_image.make(tmp_path_factory.mktemp("template"))


@pytest.fixture
def home(
    template: Path,
    tmp_path: Path,
    docker_registry: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Home:
    """A home with an image that is cleared, with a finding that is waived."""
    made = small_image.use(template, tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("TIDEWAITER_PLAIN_HTTP", docker_registry)
    made.leak()
    about = ("--advisory", LEAK, "--environment", "staging", "--reason", "The code is not reached.")
    ends = f"{clock.now().year + 1}-01-01"
    asked = made.do("waiver", "request", *about, "--expires", ends, "--as", "Anna", "--format", "json")
    made.do("waiver", "approve", asked["id"], "--as", "Bert")
    made.do("check", NAME, "--environment", "staging", "--clear")
    return made


@pytest.fixture
def place(docker_registry: str, request: pytest.FixtureRequest) -> str:
    """HOST/REPO of the test's own."""
    return f"{docker_registry}/{request.node.name.partition('[')[0].replace('_', '-')}/a"


@pytest.fixture
def cosign(tool: Tool, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs cosign on an image, offline, with the home's public key."""
    program = tool("cosign")

    def run(command: str, image: str, *words: str) -> subprocess.CompletedProcess[str]:
        key = ["--key", str(tmp_path / "home/keys/tidewaiter.pub"), "--insecure-ignore-tlog=true"]
        line = [program, command, *key, "--allow-insecure-registry", *words, image]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.mark.parametrize("bundles", ["true", "false"])
def test_cosign_verifies_everything_that_was_pushed(
    home: Home, place: str, cosign: Callable[..., subprocess.CompletedProcess[str]], bundles: str
) -> None:
    """Signature, both SBOMs, findings, OpenVEX and verdict, in either format."""
    pushed = home.do("push", NAME, place, "--format", "json")
    image = f"{place}@{pushed['digest']}"
    form = f"--new-bundle-format={bundles}"
    done = cosign("verify", image, form)
    assert done.returncode == 0, done.stderr
    for kind in TYPES:
        done = cosign("verify-attestation", image, form, "--type", kind)
        assert done.returncode == 0, (kind, done.stderr)
    assert cosign("verify-attestation", image, form, "--type", "slsaprovenance1").returncode != 0
    home.do("key", "generate", "other")
    (home.keys / "tidewaiter.pub").write_bytes((home.keys / "other.pub").read_bytes())
    assert cosign("verify", image, form).returncode != 0


def test_pushing_again_sends_what_is_new_and_keeps_what_others_attached(home: Home, place: str) -> None:
    """Nothing is sent twice; a signature that somebody put there meanwhile stays; a new verdict goes along."""
    first = home.do("push", NAME, place, "--format", "json")
    assert first["attached"] == {"signatures": 1, "attestations": 5, "referrers": first["attached"]["referrers"]}
    assert len(first["attached"]["referrers"]) == 6
    nothing = {"signatures": 0, "attestations": 0, "referrers": []}
    assert home.do("push", NAME, place, "--format", "json")["attached"] == nothing
    home.do("key", "generate", "other")
    home.do("sign", f"{place}:1.0.0", "--key", "other")
    home.do("sign", NAME, "-a", "again=yes")
    third = home.do("push", NAME, place, "--format", "json")["attached"]
    assert (third["signatures"], third["attestations"], len(third["referrers"])) == (1, 0, 1)
    for key in ("other", "tidewaiter"):
        home.do("verify", f"{place}:1.0.0", "--key", home.keys / f"{key}.pub")


def test_a_denied_push_takes_the_withdrawal_along(home: Home, place: str) -> None:
    """Where the image lies already, the registry learns that its verdict is withdrawn; elsewhere nothing arrives."""
    policy = home.folder / "policy.toml"
    policy.write_text(
        'environment = "staging"\nrequire = ["signature", "vsa"]\n'
        f'[[key]]\nname = "a"\npath = "{home.keys}/tidewaiter.pub"\n'
    )
    home.do("push", NAME, place)
    verify = ("verify", f"{place}:1.0.0", "--policy", policy)
    home.do(*verify)
    waiver = home.do("waiver", "list", "--format", "json")["waivers"][0]["id"]
    home.do("waiver", "revoke", waiver, "--reason", "Mended.", "--as", "Cleo")
    code, answer = home.run("push", NAME, place, "--format", "json")
    assert (code, answer["error"]["code"]) == (1, "not_cleared")
    code, text = home.run(*verify)
    assert code == 1
    assert "9. vsa is attested: invalid" in text
    assert home.run("push", NAME, f"{place}/elsewhere")[0] == 1
    assert home.run("verify", f"{place}/elsewhere:1.0.0")[0] == 2


def test_a_registrys_image_is_signed_and_attested_where_it_lies(
    home: Home, place: str, cosign: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Without the image in the store, both formats arrive and cosign takes them; repeating adds nothing."""
    pushed = home.do("push", NAME, place, "--format", "json")
    image = f"{place}@{pushed['digest']}"
    (home.folder / "review.json").write_text('{"reviewed": true}')
    kind = "https://example.com/review/v1"
    what = ("--type", kind, "--predicate", home.folder / "review.json")
    made = home.do("sign", image, "-a", "stage=test", "--format", "json")
    assert made["digest"] == pushed["digest"]
    assert home.do("sign", image, "-a", "stage=test", "--format", "json") == made
    once = home.do("attest", image, *what, "--format", "json")
    assert home.do("attest", image, *what, "--format", "json") == once
    for form in ("--new-bundle-format=true", "--new-bundle-format=false"):
        assert cosign("verify", image, form, "-a", "stage=test").returncode == 0
        assert cosign("verify-attestation", image, form, "--type", kind).returncode == 0
    found = home.do("verify", f"{place}:1.0.0", "--type", kind, "--format", "json")
    assert len(found["attestations"]) == 2
    said = [one for one in home.do("audit", "list", "--format", "json")["entries"] if one["action"] == "attest"]
    assert [one["detail"]["types"] for one in said if one.get("detail", {}).get("to") == place] == [
        ["https://sigstore.dev/cosign/sign/v1"],
        ["https://sigstore.dev/cosign/sign/v1"],
        [kind],
        [kind],
    ]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    host, _, name = place.partition("/")
    fallback = f"http://{host}/v2/{name}/manifests/sha256-{made['digest'].removeprefix('sha256:')}"
    with opener.open(urllib.request.Request(fallback, headers={"Accept": INDEX})) as answer:
        kinds = [one["annotations"]["dev.sigstore.bundle.predicateType"] for one in json.load(answer)["manifests"]]
    assert kinds.count(kind) == 1


def test_key_mode_meets_nobody_but_the_registry(home: Home, place: str, docker_registry: str) -> None:
    """Signature, attestations and the whole chain are verified with connections to the registry alone."""
    home.do("push", NAME, place)
    policy = home.folder / "policy.toml"
    policy.write_text(
        'environment = "staging"\nrequire = ["signature", "spdx", "cyclonedx", "vuln", "openvex", "vsa"]\n'
        f'[[key]]\nname = "a"\npath = "{home.keys}/tidewaiter.pub"\n'
    )
    host, _, port = docker_registry.partition(":")
    variables = environment(home.folder / "home") | {"TIDEWAITER_PLAIN_HTTP": docker_registry, "NO_PROXY": host}
    for words in (("--key", str(home.keys / "tidewaiter.pub")), ("--type", "spdx"), ("--policy", str(policy))):
        line = [sys.executable, "-c", COUNT, "verify", f"{place}:1.0.0", *words]
        done = subprocess.run(line, capture_output=True, text=True, env=variables, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        met = done.stderr.splitlines()[-1]
        assert met == repr([(host, int(port))]), met


def test_what_a_registry_lost_is_put_back(home: Home, place: str) -> None:
    """`verify --repair` restores tags and the list of referrers that somebody removed, and then verifies."""
    pushed = home.do("push", NAME, place, "--format", "json")
    host, _, name = place.partition("/")
    hexadecimal = pushed["digest"].removeprefix("sha256:")
    address = f"http://{host}/v2/{name}/manifests"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for tag in (f"sha256-{hexadecimal}.sig", f"sha256-{hexadecimal}.att", f"sha256-{hexadecimal}"):
        accept = {"Accept": f"{MANIFEST}, {INDEX}"}
        with opener.open(urllib.request.Request(f"{address}/{tag}", headers=accept, method="HEAD")) as answer:
            digest = answer.headers["Docker-Content-Digest"]
        opener.open(urllib.request.Request(f"{address}/{digest}", method="DELETE")).close()
    assert home.run("verify", f"{place}:1.0.0")[0] == 1
    printed = home.do("verify", f"{place}:1.0.0", "--repair")
    assert "put back: 1 signatures, 5 attestations, 6 bundles" in printed
    assert "nothing was lost" in home.do("verify", f"{place}:1.0.0", "--repair", "--type", "vsa")


def test_a_registry_that_does_not_answer_is_no_answer(home: Home) -> None:
    """Nobody there means "could not find out", in every mode."""
    image = "127.0.0.1:1/a/b:1"
    for words in ((), ("--type", "spdx"), ("--policy", "research")):
        code, answer = home.run("verify", image, *words, "--format", "json")
        assert (code, json.dumps(answer)[:9]) == (3, '{"error":')


def test_a_push_is_logged_whatever_becomes_of_what_is_attached(home: Home, place: str) -> None:
    """Somebody broke the tag of attestations in the registry: the image has left all the same, and the log says so."""
    digest = home.do("push", NAME, place, "--format", "json")["digest"]
    host, name = place.split("/", 1)
    address = f"http://{host}/v2/{name}/manifests/{digest.replace(':', '-')}.att"
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    asked = urllib.request.Request(address, body, {"Content-Type": INDEX}, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked).close()
    code, said = home.run("push", NAME, place)
    assert code == 2, said
    assert "is an index" in said
    logged = home.do("audit", "list", "--action", "push", "--format", "json")["entries"]
    assert [one["subject"] for one in logged] == [digest, digest]

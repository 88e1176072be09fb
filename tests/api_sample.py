"""A home with something of everything that the API tells, made by commands; and a token for each role."""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import get_args
from unittest import mock

import msgspec
from starlette.testclient import TestClient

from image_builder import Tar, put_image
from tidewaiter.access import tokens, users
from tidewaiter.access.roles import EVERYWHERE, Role
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.cli import app
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

SITE = "usr/lib/python3/dist-packages"
ADVISORY = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-10001"],
    "modified": "2026-01-01T00:00:00Z",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "leaky"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The home, and what a test asks it about."""

    settings: Settings
    leaky: str
    """Digest of `vision/leaky:1.0.0`."""
    clean: str
    """Digest of `speech/clean:1.0.0`."""
    waiver: str
    secrets: dict[str, str]
    """Token by role."""

    def client(self, role: str = "", *, anonymous: bool = True) -> TestClient:
        """A client of the server on that home, with the token of a role when one is named."""
        from tidewaiter.web.app import create

        headers = {"Authorization": f"Bearer {self.secrets[role]}"} if role else {}
        made = create(self.settings, anonymous=anonymous)
        return TestClient(made, headers=headers, raise_server_exceptions=False)


def _image(folder: Path, name: str, version: str) -> None:
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"
    tar.file(f"{SITE}/{name}-{version}.dist-info/METADATA", metadata)
    second = Tar().file(f"srv/{name}.txt", "words " * 40)
    put_image(Layout(folder / name), [tar.bytes(), second.bytes()], name="1", run=RunConfig(user="1000"))


def _secret(catalog: Catalog, role: Role) -> str:
    """A token of a user who has that role everywhere."""
    users.add(catalog, f"its-{role}", with_password=False, given={EVERYWHERE: frozenset({role})})
    return tokens.create(catalog, "test", days=7, most_days=7, user=f"its-{role}").secret


def fill(folder: Path) -> Sample:
    """Make it in `folder`."""
    variables = {"TIDEWAITER_HOME": str(folder / "home"), "TIDEWAITER_REQUESTS_PER_SECOND": "0"}
    with mock.patch.dict(os.environ, variables):

        def run(*words: str) -> dict[str, object]:
            written = io.TextIOWrapper(io.BytesIO())
            with contextlib.redirect_stdout(written), contextlib.redirect_stderr(io.StringIO()) as told:
                code = app.run([*words, "--format", "json"])
            written.seek(0)
            text = written.read()
            assert code in {0, 1}, (words, code, text, told.getvalue())
            found: dict[str, object] = json.loads(text)
            return found

        (folder / "advisory.json").write_text(json.dumps(ADVISORY))
        run("advisories", "import", str(folder / "advisory.json"))
        digests = []
        for name, version, place in (("leaky", "1.4.0", "vision"), ("clean", "2.0.0", "speech")):
            _image(folder, name, version)
            pulled = run("pull", f"oci:{folder}/{name}:1", f"{place}/{name}:1.0.0")
            digests.append(str(pulled["digest"]))
            run("check", f"{place}/{name}:1.0.0", "--environment", "staging")
            run("catalog", "sync", f"oci:{folder}/{name}")
        run("owner", "record", "repository", "vision", "team-vision")
        run("workload", "record", "east/shop/recommender", "--image", digests[0], "--owner", "team-shop")
        run("model", "record", "ranker:7", "--image", digests[0], "--stage", "production")
        run("base", "approve", "debian12", digests[1], "--owner", "platform")
        waiver = run(
            *("waiver", "request", "--advisory", "CVE-2026-10001", "--reason", "not reachable"),
            *("--expires", "2027-01-31", "--environment", "staging", "--image", "vision/leaky", "--as", "anna"),
        )
        settings = all_settings.load()
    with Catalog.open(settings) as catalog:
        secrets = {role: _secret(catalog, role) for role in get_args(Role)}
    return Sample(settings=settings, leaky=digests[0], clean=digests[1], waiver=str(waiver["id"]), secrets=secrets)

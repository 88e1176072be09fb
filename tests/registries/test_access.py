"""Who may do what in real registries: tokens with scopes, passwords, credential helpers, certificates of our own CA."""

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_registries import HTPASSWD, PASSWORD, docker_registry
from token_server import TokenServer

from authority import Authority
from images import make_image
from servers import Serve, Tool
from tidewaiter.core.errors import NetworkError
from tidewaiter.distribution import credentials as stored
from tidewaiter.distribution.credentials import Credential
from tidewaiter.distribution.pull import pull
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry
from tidewaiter.oci.layout import Layout
from tidewaiter.transport.client import Client
from tidewaiter.transport.tls import Trust

pytestmark = pytest.mark.interop

BOTH = frozenset({"pull", "push"})
PULL = frozenset({"pull"})
RIGHTS = {
    "": {"public/app": PULL},
    "writer": {"team/app": BOTH | {"delete"}, "team/sister": BOTH, "public/app": BOTH, "registry:catalog:*": PULL},
    "reader": {"team/app": PULL, "team/secret": frozenset()},
    "stranger": {"other/app": BOTH},
}
PASSWORDS = {"writer": "quill-7", "reader": "lens-7", "stranger": "mask-7"}


@pytest.fixture
def tokens(serve: Serve, tmp_path: Path) -> TokenServer:
    return TokenServer(serve, tmp_path, passwords=PASSWORDS, rights=RIGHTS)


@contextmanager
def guarded(tool: Tool, folder: Path, tokens: TokenServer) -> Iterator[str]:
    """docker-registry that takes only the tokens of `tokens`."""
    folder.mkdir()
    with docker_registry(tool("docker-registry"), folder, more=tokens.registry_config) as host:
        yield host


def registry(client: Client, host: str, tokens: TokenServer, account: str) -> Registry:
    known = {host: Credential(account, PASSWORDS[account])} if account else stored.NONE
    allowed = frozenset({host, tokens.url.removeprefix("http://").partition("/")[0]})
    return Registry(client, host, plain_http=allowed, credentials=known)


def test_a_token_is_asked_for_what_is_done_and_no_more(tmp_path: Path, tool: Tool, tokens: TokenServer) -> None:
    """Pulls ask for pull, pushes for pull and push of one repository; each account can do what its rights say."""
    layout, image = make_image(tmp_path / "store")
    with guarded(tool, tmp_path / "registry", tokens) as host, Client() as client:
        writer = registry(client, host, tokens, "writer").repository("team/app")
        push(layout, image, writer, tags=["t"])
        asked = {scope for _, scopes in tokens.asked for scope in scopes}
        assert asked <= {"repository:team/app:pull", "repository:team/app:pull,push"}
        tokens.asked.clear()
        reader = registry(client, host, tokens, "reader").repository("team/app")
        assert pull(reader, "t", Layout(tmp_path / "pulled")).digest == image.digest
        assert set(tokens.asked) == {("reader", ("repository:team/app:pull",))}
        assert len(tokens.asked) == 1, "one token does for all blobs"
        for account in ("stranger", ""):
            with pytest.raises(NetworkError) as caught:
                registry(client, host, tokens, account).repository("team/app").manifest("t")
            assert caught.value.code in {"registry_unauthorized", "registry_forbidden"}
        with pytest.raises(NetworkError) as caught:
            push(layout, image, reader, tags=["mine"])
        assert caught.value.code in {"registry_unauthorized", "registry_forbidden"}
        assert "docker login" in caught.value.next_step
        assert not reader.has_manifest("mine")


def test_the_public_needs_no_account(tmp_path: Path, tool: Tool, tokens: TokenServer) -> None:
    """An anonymous token reads what everybody may read."""
    layout, image = make_image(tmp_path / "store")
    with guarded(tool, tmp_path / "registry", tokens) as host, Client() as client:
        push(layout, image, registry(client, host, tokens, "writer").repository("public/app"), tags=["t"])
        tokens.asked.clear()
        public = registry(client, host, tokens, "").repository("public/app")
        assert pull(public, "t", Layout(tmp_path / "pulled")).digest == image.digest
        assert {account for account, _ in tokens.asked} == {""}


def test_a_mount_asks_for_both_repositories(tmp_path: Path, tool: Tool, tokens: TokenServer) -> None:
    """A mount needs pull on the source as well; without it the blobs are sent."""
    layout, image = make_image(tmp_path / "store")
    with guarded(tool, tmp_path / "registry", tokens) as host, Client() as client:
        writer = registry(client, host, tokens, "writer")
        sent = push(layout, image, writer.repository("team/app"), tags=["t"]).sent_bytes
        tokens.asked.clear()
        mounted = push(layout, image, writer.repository("team/sister"), tags=["t"], mount_from=["team/app"])
        assert (mounted.sent_bytes, mounted.mounted_bytes) == (0, sent)
        assert any(set(scopes) >= {"repository:team/app:pull"} and len(scopes) == 2 for _, scopes in tokens.asked)
        stranger = registry(client, host, tokens, "stranger")
        refused = push(layout, image, stranger.repository("other/app"), tags=["t"], mount_from=["team/app"])
        assert (refused.sent_bytes, refused.mounted_bytes) == (sent, 0)


def test_an_expired_token_is_renewed(tmp_path: Path, tool: Tool, serve: Serve) -> None:
    """A token is kept as long as it is valid, and asked for again afterwards."""
    tokens = TokenServer(serve, tmp_path, passwords=PASSWORDS, rights=RIGHTS, seconds=1)
    layout, image = make_image(tmp_path / "store", sizes=(1,))
    with guarded(tool, tmp_path / "registry", tokens) as host, Client() as client:
        writer = registry(client, host, tokens, "writer").repository("team/app")
        push(layout, image, writer, tags=["t"])
        time.sleep(1)
        tokens.asked.clear()
        assert writer.has_manifest("t")
        assert len(tokens.asked) == 1


def test_a_wrong_password_is_not_shown(tmp_path: Path, tool: Tool, tokens: TokenServer) -> None:
    """The token service's refusal becomes our error, without the password."""
    with guarded(tool, tmp_path / "registry", tokens) as host, Client() as client:
        allowed = frozenset({host, tokens.url.removeprefix("http://").partition("/")[0]})
        known = {host: Credential("writer", "gull-13")}
        wrong = Registry(client, host, plain_http=allowed, credentials=known).repository("team/app")
        with pytest.raises(NetworkError) as caught:
            wrong.manifest("t")
        assert caught.value.code == "registry_unauthorized"
        shown = caught.value.message + caught.value.next_step
        assert "gull-13" not in shown
        assert base64.b64encode(b"writer:gull-13").decode() not in shown


def test_a_credential_helper_opens_the_registry(tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that Docker's config.json names for the host is asked for the password."""
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "htpasswd").write_text(HTPASSWD)
    more = f"auth: {{htpasswd: {{realm: here, path: {folder / 'htpasswd'}}}}}\n"
    helper = tmp_path / "bin" / "docker-credential-tide"
    helper.parent.mkdir()
    answer = json.dumps({"ServerURL": "x", "Username": "captain", "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\n[ \"$1\" = get ] || exit 1\ncat >>{tmp_path / 'asked'}\nprintf '%s' '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}{os.pathsep}{os.environ['PATH']}")
    layout, image = make_image(tmp_path / "store")
    with docker_registry(tool("docker-registry"), folder, more=more) as host, Client() as client:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"credHelpers": {host: "tide"}}))
        known = stored.load(config)
        one = Registry(client, host, plain_http=frozenset({host}), credentials=known)
        assert push(layout, image, one.repository("a/b"), tags=["t"]).digest == image.digest
        assert host in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
def test_tls_of_our_own_authority(tmp_path: Path, tool: Tool, program: str) -> None:
    """A registry with a certificate of the company's CA is trusted when that CA is named, and only then."""
    layout, image = make_image(tmp_path / "store")
    authority = Authority(tmp_path / "ca")
    server = authority.issue("server")
    folder = tmp_path / "registry"
    folder.mkdir()
    tls = f"tls: {{certificate: {server.certificate}, key: {server.key}}}"
    with docker_registry(tool(program), folder, http=tls) as host:
        with Client(trust=Trust(authorities=authority.certificate)) as client:
            remote = Registry(client, host).repository("a/b")
            push(layout, image, remote, tags=["t"])
            assert pull(remote, "t", Layout(tmp_path / "pulled")).digest == image.digest
        for trust in (Trust(), Trust(authorities=Authority(tmp_path / "wrong").certificate)):
            with Client(trust=trust, attempts=1) as client, pytest.raises(NetworkError) as caught:
                Registry(client, host).repository("a/b").manifest("t")
            assert caught.value.code == "network_certificate"


def test_a_client_certificate_is_shown_to_its_host(tmp_path: Path, tool: Tool) -> None:
    """A registry that wants client certificates gets the one of its folder; without it the error names the folder."""
    layout, image = make_image(tmp_path / "store")
    authority = Authority(tmp_path / "ca")
    server, me = authority.issue("server"), authority.issue("client")
    folder = tmp_path / "registry"
    folder.mkdir()
    tls = f"tls: {{certificate: {server.certificate}, key: {server.key}, clientcas: [{authority.certificate}]}}"
    with docker_registry(tool("docker-registry"), folder, http=tls) as host:
        own = tmp_path / "certs.d" / host
        own.mkdir(parents=True)
        (own / "ca.crt").write_bytes(authority.certificate.read_bytes())
        with Client(trust=Trust(hosts=tmp_path / "certs.d"), attempts=1) as client, pytest.raises(NetworkError):
            Registry(client, host).ping()
        (own / "me.cert").write_bytes(me.certificate.read_bytes())
        (own / "me.key").write_bytes(me.key.read_bytes())
        with Client(trust=Trust(hosts=tmp_path / "certs.d")) as client:
            remote = Registry(client, host).repository("a/b")
            assert push(layout, image, remote, tags=["t"]).digest == image.digest


def test_a_registry_that_forbids_deletion(tmp_path: Path, tool: Tool) -> None:
    """Deletion that is switched off is said so, and that trying again is of no use."""
    layout, image = make_image(tmp_path / "store")
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(tool("docker-registry"), folder, delete=False) as host, Client() as client:
        remote = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
        push(layout, image, remote, tags=["t"])
        with pytest.raises(NetworkError, match="UNSUPPORTED") as caught:
            remote.delete_manifest(image.digest)
        assert "switched on" in caught.value.next_step
        assert remote.has_manifest("t")

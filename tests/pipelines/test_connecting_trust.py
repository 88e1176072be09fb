"""Settings reach the registry client: authorities, certificates and passwords of a home and of Docker's config."""

import json
from pathlib import Path

import pytest

from authority import Authority
from servers import StartRegistry
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import NetworkError
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.pipelines import connecting

pytestmark = pytest.mark.interop

_HTPASSWD = "captain:$2b$04$2TeyYC4HoBnq7TkeNUvV5egONLic57/CEPRDuiZf96GkauMnnMinK\n"  # tide-Water:1


def test_settings_and_docker_config_open_a_guarded_registry(
    tmp_path: Path, start_docker_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TIDEWAITER_CA_FILE, or `certs.d` in the home, and a credential helper are all that a company registry needs."""
    authority = Authority(tmp_path / "ca")
    server = authority.issue("server")
    (tmp_path / "htpasswd").write_text(_HTPASSWD)
    monkeypatch.setenv("REGISTRY_HTTP_TLS_CERTIFICATE", str(server.certificate))
    monkeypatch.setenv("REGISTRY_HTTP_TLS_KEY", str(server.key))
    helper = tmp_path / "bin" / "docker-credential-harbour"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\necho \'{"Username":"captain","Secret":"tide-Water:1"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    home = tmp_path / "home"
    with start_docker_registry(f"auth: {{htpasswd: {{realm: here, path: {tmp_path / 'htpasswd'}}}}}\n") as host:
        monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
        (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {host: "harbour"}}))
        given = references.parse(f"{host}/safe/app:t")
        assert isinstance(given, RegistryReference)

        def ping(**variables: str) -> None:
            settings = all_settings.load({"TIDEWAITER_HOME": str(home), **variables})
            with connecting.client(settings) as client:
                connecting.connect(client, settings, given).registry.ping()

        with pytest.raises(NetworkError) as caught:
            ping()
        assert caught.value.code == "network_certificate"
        ping(TIDEWAITER_CA_FILE=str(authority.certificate))
        folder = home / "certs.d" / host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
        ping()
        with pytest.raises(NetworkError):
            ping(TIDEWAITER_CERTIFICATES=str(tmp_path / "elsewhere"))

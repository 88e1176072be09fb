"""Compose files: variables, GPUs, ports."""

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.compose.parse import parse
from tidewaiter.lint.files import Source
from tidewaiter.lint.secrets import secret
from tidewaiter.lint.text import Text


def found(content: str) -> set[str]:
    return {one.rule.partition("/")[2] for one in check(Source("compose.yaml", "compose", content), LintSection())}


def test_variables_are_read_from_maps_and_lists() -> None:
    """Those that come from outside have no value here."""
    for written in ("{A: x, B: , C: 1}", "[A=x, B, C=1]"):
        (service,) = parse(Text("c", f"services: {{s: {{image: a, environment: {written}}}}}")).services
        assert {name: value for name, (value, _) in service.environment.items()} == {"A": "x", "C": "1"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MYSQL_PASSWORD", "hunter2", True),
        ("AWS_SECRET_ACCESS_KEY", "minioadmin", True),
        ("HF_TOKEN", "HF_TOKEN", False),
        ("HF_TOKEN", "${HF_TOKEN}", False),
        ("HF_TOKEN", "<your token>", False),
        ("API_KEY", "YOUR_KEY", False),
        ("PASSWORD", "change-me", False),
        ("TOKEN_PATH", "abcdef", False),
        ("TOKEN", "/run/secrets/token", False),
        ("MAX_TOKEN", "512", False),
        ("SECRET_NAME", "db", False),
    ],
)
def test_a_secret_is_told_from_its_place(name: str, value: str, expected: bool) -> None:
    """Placeholders, variables and paths are none."""
    assert secret(name, value) is expected


@pytest.mark.parametrize(
    ("service", "rule"),
    [
        ("image: jupyter/base-notebook:1, ports: ['8888:8888']", "open-port"),
        ("image: jupyter/base-notebook:1, ports: ['127.0.0.1:8888:8888']", ""),
        ("image: shop:1, ports: ['8888:8888']", ""),
        ("image: a:1, volumes: [/run/docker.sock:/x]", "docker-socket"),
        ("image: a:1, volumes: [{type: bind, source: /var/run/docker.sock, target: /x}]", "docker-socket"),
        ("image: a, build: .", ""),
        ("image: a", "moving-tag"),
        ("image: 'a:${TAG}'", ""),
        ("image: a:1, healthcheck: {test: [CMD, curl, x, '||', exit, '1']}", "health-check-without-shell"),
        ("image: a:1, healthcheck: {test: [CMD, sh, -c, 'curl x || exit 1']}", ""),
        ("image: 'tensorflow/tensorflow:2.15.0-gpu', gpus: all", ""),
    ],
)
def test_services(service: str, rule: str) -> None:
    """Each mistake is found, and what looks like it is not."""
    assert found(f"services: {{s: {{{service}}}}}") == ({rule} if rule else set())


@pytest.mark.parametrize("content", ["", "- a", "services: 3", "services: {a: 1, b: {deploy: [], image: []}}"])
def test_shapes_that_no_file_has_are_survived(content: str) -> None:
    """What stands where something else belongs is passed over."""
    assert found(content) == set()

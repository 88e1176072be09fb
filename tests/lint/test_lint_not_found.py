"""What judges of public files called wrong is no longer said: each row is the heart of a file that was judged."""

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Kind, Source, kind_of

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
AGENT = (
    "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent}\nspec:\n  selector: {matchLabels: {a: b}}\n"
    "  template:\n    metadata: {labels: {a: b}}\n    spec:\n      volumes: [{name: v, hostPath: {path: /run}}]\n"
    "      containers:\n"
    "        - {name: c, image: 'r.example/a:1', securityContext: {privileged: true, runAsUser: 0}}\n"
)
GPU_SERVICE = (
    "services:\n  app:\n    image: r.example/a:1\n"
    "    deploy: {{resources: {{reservations: {{devices: [{{driver: nvidia, capabilities: [{}]}}]}}}}}}\n"
)
DEV = "FROM python:3.11-slim\nRUN pip install -r requirements.notebooks.txt\nRUN pip install seaborn\nCMD /run.sh\n"
HARNESS = 'FROM python:3.11\nCMD ["bash", "-c", "serve & npx test; CODE=$?; kill %1; exit $CODE"]\n'
WHOLE = "FROM python:3.11\nCOPY . /app\nRUN pip install -e /app && pip install -r /app/requirements.txt\n"
BASES = "FROM ubuntu:24.04 AS cpu-base\nFROM cpu-base AS runtime\nRUN pip install x==1\n"
CHECKED = "FROM alpine:3.20\nRUN curl -fsSL https://e.example/k | sed /^V/d > /k && echo 'a  /k' | sha256sum -c -\n"
BUILT = "FROM nvidia/cuda:12.2.2-devel-ubuntu22.04\nRUN apt-get update && apt-get install -y cmake\n"
JIT = "FROM nvidia/cuda:12.2.2-devel-ubuntu22.04\nRUN pip install deepspeed==0.14.0\nCMD python train.py\n"
LOCKED = "sqlalchemy[mypy]==2.0.1 \\\n    --hash=sha256:00\nmypy==1.0 \\\n    --hash=sha256:00\n    # via sqlalchemy\n"
TOOLS = "flake8\nmypy==0.910\npre-commit~=2.2\nisort==5.1\njax\n"


@pytest.mark.parametrize(
    ("rule", "kind", "path", "text"),
    [
        ("dockerfile/copy-without-workdir", "dockerfile", "Dockerfile", "FROM scratch\nCOPY . .\n"),
        (
            "dockerfile/copies-whole-filesystem",
            "dockerfile",
            "Dockerfile",
            "FROM tonistiigi/xx:1 AS xx\nFROM rust:1 AS build\nCOPY --from=xx / /\n",
        ),
        (
            "dockerfile/secret-in-image",
            "dockerfile",
            "setup/tests/Dockerfile",
            "FROM python:3.11\nENV MSI_SECRET=abcd9\n",
        ),
        ("dockerfile/secret-in-image", "dockerfile", "Dockerfile", "FROM python:3.11\nENV MSI_SECRET=1234\n"),
        ("dockerfile/test-packages", "dockerfile", "Dockerfile", DEV),
        (
            "dockerfile/test-packages",
            "dockerfile",
            "pre-commit.Dockerfile",
            "FROM python:3.7\nRUN pip install isort==5\n",
        ),
        ("dockerfile/two-processes", "dockerfile", "Dockerfile", HARNESS),
        ("dockerfile/copy-before-install", "dockerfile", "Dockerfile", WHOLE),
        ("dockerfile/copies-whole-stage", "dockerfile", "Dockerfile", BASES),
        ("dockerfile/pipe-without-pipefail", "dockerfile", "Dockerfile", CHECKED),
        ("dockerfile/devel-base", "dockerfile", "Dockerfile", BUILT),
        ("dockerfile/devel-base", "dockerfile", "Dockerfile", JIT),
        ("dockerfile/apt-asks", "dockerfile", "Dockerfile", "FROM debian:12\nRUN apt-get install -s graphviz\n"),
        ("dockerfile/unknown-stage", "dockerfile", "Dockerfile", "FROM debian:12\nCOPY --from=primary app.py /\n"),
        ("dockerfile/no-health-check", "dockerfile", "Dockerfile", "FROM debian:12\nEXPOSE 22\n"),
        ("compose/gpu-capabilities", "compose", "compose.yaml", GPU_SERVICE.format("compute, utility")),
        (
            "compose/secret-in-environment",
            "compose",
            ".circleci/compose.yaml",
            "services: {db: {image: 'p:1', environment: {DB_PASSWORD: postgres}}}\n",
        ),
        (
            "kubernetes/moving-tag",
            "kubernetes",
            "p.yaml",
            POD + "  containers: [{name: c, image: FILLED BY OPERATOR}]\n",
        ),
        (
            "kubernetes/moving-tag",
            "kubernetes",
            "p.yaml",
            POD + "  containers: [{name: c, image: FILLED_BY_OPERATOR}]\n",
        ),
        (
            "kubernetes/gpu-toleration-only",
            "kubernetes",
            "p.yaml",
            POD + "  runtimeClassName: nvidia\n  tolerations: [{key: nvidia.com/gpu, operator: Exists}]\n"
            "  containers: [{name: c, image: 'r.example/a:1'}]\n",
        ),
        (
            "kubernetes/host-path",
            "kubernetes",
            "p.yaml",
            POD + "  volumes: [{name: certs, hostPath: {path: /etc/ssl/certs/ca.crt}}]\n"
            "  containers: [{name: c, image: 'r.example/a:1'}]\n",
        ),
        ("kubernetes/privileged", "kubernetes", "a.yaml", AGENT),
        ("kubernetes/root-user", "kubernetes", "a.yaml", AGENT),
        (
            "kubernetes/gpu-fraction",
            "kubernetes",
            "p.yaml",
            POD
            + "  containers: [{name: c, image: 'r.example/a:1', resources: {limits: {nvidia.com/gpu: REPLACEME}}}]\n",
        ),
        ("requirements/test-packages", "requirements", "requirements.txt", LOCKED),
        ("requirements/test-packages", "requirements", "requirements.txt", TOOLS),
        ("requirements/test-packages", "requirements", ".github/linter/requirements.txt", "black==26.1\n"),
        ("requirements/test-packages", "requirements", "docs/requirements.txt", "sphinx==7.1\n"),
        ("requirements/bad-line", "requirements", "{{ name }}/requirements.txt", "kedro~={{ cookiecutter.version }}\n"),
        (
            "requirements/extra-index",
            "requirements",
            "requirements.txt",
            "--extra-index-url https://pytorch-extension.intel.com/whl\nintel_extension_for_pytorch==2.8.10+xpu\n",
        ),
        ("python/syntax", "python", "old.py", "import tensorflow\nx = map(lambda (k, v): v, y)\n"),
        ("python/syntax", "python", "new.py", "import tensorflow\ndef first[T](x: list[T]) -> T:\n    return x[0]\n"),
    ],
)
def test_it_is_not_said(rule: str, kind: Kind, path: str, text: str) -> None:
    """Not by the rule that said it, wherever the file lies."""
    assert rule not in {one.rule for one in check(Source(path, kind, text), LintSection())}


def test_a_library_may_name_ranges() -> None:
    """Beside setup.py a requirements file says what the library needs, not what runs."""
    ranges = "httpx>=0.27\nnumpy==1.2\n"
    alone = check(Source("requirements.txt", "requirements", ranges), LintSection())
    library = check(Source("requirements.txt", "requirements", ranges, frozenset({"setup.py"})), LintSection())
    assert "requirements/unpinned" in {one.rule for one in alone}
    assert "requirements/unpinned" not in {one.rule for one in library}


def test_unpinned_everywhere_is_said_once() -> None:
    """One word about a file of ranges, not one each."""
    found = check(Source("requirements.txt", "requirements", "numpy\ntorch>=2\nflax\n"), LintSection())
    assert [one.message for one in found if one.rule == "requirements/unpinned"] == [
        "None of the 3 requirements says its version: the newest are installed."
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dockerfile.go", "package main\n\nimport (\n)\n"),
        ("Dockerfile.runtime_template", "FROM a\n"),
        ("Dockerfile", "# syntax=ghcr.io/azure/dalec/frontend:0.18\n\nargs:\n"),
    ],
)
def test_what_only_looks_like_a_dockerfile(name: str, content: str) -> None:
    """Sources, templates and files of other frontends are none; the Dockerfile of a program in C++ is one."""
    assert kind_of(name, content) is None
    assert kind_of("Dockerfile.cpp", "ARG A\nFROM ubuntu:24.04\n") == "dockerfile"


def test_the_requirements_file_is_copied_from_where_it_lies() -> None:
    """The remedy names the path in the context, not the one in the image."""
    text = "FROM python:3.11\nCOPY . /app/net\nRUN pip install -r /app/net/requirements.txt\n"
    (found,) = (
        one
        for one in check(Source("Dockerfile", "dockerfile", text), LintSection())
        if one.rule == "dockerfile/copy-before-install"
    )
    assert "`COPY requirements.txt /app/net/`" in found.remedy


def test_a_version_behind_a_redirection_is_put_in_quotes() -> None:
    """`numba>=0.57` without quotes writes a file; the edit is the quotes."""
    text = "FROM python:3.11\nRUN pip install --no-cache-dir numba>=0.57.1 > /dev/null\n"
    found = [one for one in check(Source("Dockerfile", "dockerfile", text), LintSection()) if "redirected" in one.rule]
    assert [(one.span.line, [edit.text for edit in one.edits]) for one in found] == [(2, ['"numba>=0.57.1"'])]

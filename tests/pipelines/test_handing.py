"""`build --push` as a user runs it: research goes out freely, all else with a verdict; skopeo is the witness."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import postgres
from servers import StartRegistry, Tool
from tidewaiter.oci import digest as digests
from workplace import EXAMPLE, Done, command, commit, environment, run

COUNTS = ("sent_bytes", "mounted_bytes", "skipped_bytes", "sent_blobs", "mounted_blobs", "skipped_blobs")


PACK = """
name = "own"
[[rule]]
id = "own.entrypoint"
title = "Is not the one that failed"
failure = "The image failed."
why = "It did."
severity = "low"
levels = { research = "deny", staging = "deny", production = "deny" }
"""
REGO = """package own

import data.tidewaiter.lib

results contains lib.outcome("own.entrypoint", {"it failed"}, "Build another one.")
"""


class Bench:
    """A home, a project of its own, and a registry."""

    def __init__(self, home: Path, project: Path, host: str) -> None:
        self.home, self.project, self.host = home, project, host
        self.place = f"{host}/handing/{time.monotonic_ns()}"
        self.extra = {"TIDEWAITER_PLAIN_HTTP": host, "NO_PROXY": "127.0.0.1"}

    def run(self, *arguments: object) -> Done:
        return run(self.home, *arguments, extra=self.extra)

    def push(self, to: str) -> Done:
        return self.run("build", self.project, "--push", to, "--format", "json")

    def pushed(self, to: str) -> Any:
        done = self.push(to)
        assert done.code == 0, (done.out, done.err)
        return done.json

    def built(self) -> Any:
        """The same build once more, without a push; everything of it must be there."""
        done = self.run("build", self.project, "--format", "json")
        assert done.code == 0, done.err
        assert done.json["built_layers"] == 0
        return done.json

    def of(self, environment: str) -> None:
        file = self.project / "tidewaiter.toml"
        file.write_text(file.read_text().replace('"staging"', f'"{environment}"'))
        commit(self.project)

    def log(self, action: str) -> list[Any]:
        done = self.run("audit", "list", "--action", action, "--format", "json")
        assert done.code == 0, done.err
        assert self.run("audit", "verify").code == 0
        entries: list[Any] = done.json["entries"]
        return entries


@pytest.fixture
def staging(home: Path, project: Path, docker_registry: str) -> Bench:
    return Bench(home, project, docker_registry)


@pytest.fixture
def research(staging: Bench) -> Bench:
    staging.of("research")
    return staging


def digest_at(tool: Tool, name: str) -> str:
    shown = [tool("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    return digests.of(subprocess.run(shown, check=True, capture_output=True).stdout)


def held_by(host: str) -> Any:
    """The repositories of a registry."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{host}/v2/_catalog", timeout=20) as answer:
        return json.load(answer)["repositories"]


@pytest.mark.interop
def test_research_is_pushed_and_pulled(research: Bench, tool: Tool, tmp_path: Path) -> None:
    """The image arrives whole under its own tag; the second push sends nothing; both are in the audit log."""
    first = research.pushed(research.place)
    tag = first["reference"].rpartition(":")[2]
    assert list(first["pushed"]) == ["reference", "digest", *COUNTS]
    assert (first["pushed"]["reference"], first["pushed"]["digest"]) == (f"{research.place}:{tag}", first["digest"])
    assert first["pushed"]["sent_blobs"] == len(first["layers"]) + 1
    assert digest_at(tool, f"{research.place}:{tag}") == first["digest"]
    assert run(tmp_path / "other", "pull", f"{research.place}:{tag}", extra=research.extra).code == 0
    again = research.pushed(research.place)
    assert (again["built_layers"], again["pushed"]["sent_bytes"], again["pushed"]["mounted_bytes"]) == (0, 0, 0)
    assert again["pushed"]["skipped_bytes"] == first["pushed"]["sent_bytes"]
    entry = {"to": f"{research.place}:{tag}", "name": "team/small", "tag": tag}
    assert [(one["subject"], one["detail"]) for one in research.log("push")] == [(first["digest"], entry)] * 2


@pytest.mark.interop
def test_an_edited_line_sends_the_layer_that_it_changes(research: Bench, tool: Tool) -> None:
    """The inner loop: the given tag moves on to the new image, of which config and app layer are sent."""
    before = research.pushed(f"{research.place}:dev")
    (research.project / "main.py").write_text("import six\n\nprint('edited', six.__version__)\n")
    after = research.pushed(f"{research.place}:dev")
    assert after["reference"].endswith("-dirty")
    assert after["digest"] != before["digest"]
    assert after["pushed"]["sent_blobs"] == 2
    assert digest_at(tool, f"{research.place}:dev") == after["digest"]


@pytest.mark.interop
def test_text_says_what_push_says(research: Bench) -> None:
    """The build's summary comes first, then where it went and what was sent; without --push nothing of it."""
    built = research.run("build", research.project)
    done = research.run("build", research.project, "--push", f"{research.place}:dev")
    assert (built.code, done.code) == (0, 0), done.err
    summary, _, pushed = done.out.partition("pushed ")
    assert len(summary.splitlines()) == len(built.out.splitlines())
    name, counts = pushed.splitlines()
    assert name.startswith(f"{research.place}:dev@sha256:")
    assert counts.endswith(" sent, 0 B mounted, 0 B there already")
    assert "pushed" not in built.out
    assert "pushed" not in research.built()


@pytest.mark.interop
def test_what_no_verdict_allows_reaches_no_registry(
    home: Path, project: Path, start_docker_registry: StartRegistry
) -> None:
    """For staging it is built and denied, before the registry hears anything; the way to it is named."""
    with start_docker_registry("") as host:
        bench = Bench(home, project, host)
        denied = bench.push(f"{bench.place}:v1")
        assert (denied.code, denied.json["error"]["code"]) == (1, "not_cleared")
        step = denied.json["error"]["next"]
        made = bench.built()
        assert f"`tidewaiter ci {project}`, then `tidewaiter push {made['reference']} {bench.place}:v1`" in step
        assert "only research" in step
        assert f"{made['reference']} is built and in the store" in denied.err
        assert held_by(host) == []
    assert bench.log("push") == []


@pytest.mark.interop
def test_a_cleared_image_is_pushed(staging: Bench, tool: Tool) -> None:
    """What `ci` cleared for staging goes out by `build --push` until the next edit makes another image of it."""
    assert staging.run("key", "generate").code == 0
    cleared = staging.run("ci", staging.project, "--format", "json")
    assert cleared.code == 0, cleared.out + cleared.err
    done = staging.pushed(f"{staging.place}:v1")
    assert done["digest"] == cleared.json["digest"] == digest_at(tool, f"{staging.place}:v1")
    assert [one["subject"] for one in staging.log("push")] == [done["digest"]]
    (staging.project / "main.py").write_text("print('edited')\n")
    assert staging.push(f"{staging.place}:v1").json["error"]["code"] == "not_cleared"
    assert digest_at(tool, f"{staging.place}:v1") == done["digest"]


@pytest.mark.interop
def test_a_verdict_for_research_is_none_for_staging(staging: Bench) -> None:
    """The project says staging: what was cleared for something milder stays."""
    assert staging.run("key", "generate").code == 0
    made = staging.run("build", staging.project, "--format", "json").json
    cleared = staging.run("check", made["reference"], "--environment", "research", "--clear")
    assert cleared.code == 0, cleared.out + cleared.err
    denied = staging.push(f"{staging.place}:v1")
    assert (denied.code, denied.json["error"]["code"]) == (1, "milder_environment")


@pytest.mark.interop
@pytest.mark.parametrize("pattern", ["team/small", "handing/**", "127.0.0.1:*/**"])
def test_settings_can_ask_for_more(research: Bench, pattern: str) -> None:
    """A research project is denied where settings call its name, or the destination, production."""
    settings = research.home / "settings.toml"
    tables = f'default_environment = "research"\n[[environment]]\nname = "production"\nrepositories = ["{pattern}"]\n'
    settings.write_text(tables)
    denied = research.push(f"{research.place}:v1")
    assert (denied.code, denied.json["error"]["code"]) == (1, "not_cleared")
    assert 'environment = "production"' in denied.json["error"]["next"]
    settings.write_text(tables.replace(pattern, "elsewhere/**"))
    research.pushed(f"{research.place}:v1")


@pytest.mark.interop
def test_a_verdict_for_research_that_denies_holds(research: Bench) -> None:
    """Research needs no verdict; one that says no is obeyed until another image is built."""
    assert research.run("key", "generate").code == 0
    made = research.pushed(f"{research.place}:v1")
    policy = research.home / "denying"
    policy.mkdir()
    (policy / "pack.toml").write_text(PACK)
    (policy / "own.rego").write_text(REGO)
    research.extra["TIDEWAITER_POLICY"] = str(policy)
    judged = research.run("check", made["reference"], "--environment", "research")
    assert judged.code == 1, judged.out + judged.err
    denied = research.push(f"{research.place}:v2")
    assert (denied.code, denied.json["error"]["code"]) == (1, "denied")
    assert "research verdict" in denied.json["error"]["message"]
    (research.project / "main.py").write_text("print('mended')\n")
    commit(research.project)
    research.pushed(f"{research.place}:v2")


@pytest.mark.interop
def test_what_settings_do_not_name_is_production(research: Bench) -> None:
    """Where settings speak of environments at all, a destination that they leave out is not for research."""
    (research.home / "settings.toml").write_text('[[environment]]\nname = "research"\nrepositories = ["team/**"]\n')
    assert research.push(f"{research.place}:v1").json["error"]["code"] == "not_cleared"


@pytest.mark.parametrize(
    "to",
    [
        "",
        "staging",
        "team/small:v1",
        "oci:/tmp/layout:v1",
        "docker-archive:/tmp/image.tar",
        "registry.example/Team/Small",
        "registry.example/team/small:a b",
        "registry.example/team/small:",
        "http://registry.example/team/small",
        f"registry.example/team/small@sha256:{'1' * 64}",
    ],
)
def test_a_destination_that_is_none_is_refused_first(tmp_path: Path, to: str) -> None:
    """Nothing is built, not even a home made, for what no registry could take: a digest, a name of the store."""
    refused = run(tmp_path / "home", "build", EXAMPLE, "--push", to, "--format", "json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "bad_input")
    assert not (tmp_path / "home").exists()


def test_a_server_is_asked_by_ci(home: Path, project: Path) -> None:
    """Where a server says what belongs to which environment, nothing is built to be pushed past it."""
    extra = {"TIDEWAITER_SERVER": "http://127.0.0.1:1", "TIDEWAITER_TOKEN": "x"}
    words = ("build", project, "--push", "registry.example/team/small:v1", "--format", "json")
    refused = run(home, *words, extra=extra)
    assert (refused.code, refused.json["error"]["code"]) == (2, "not_through_server")
    assert "`tidewaiter ci PROJECT --push registry.example/team/small:v1`" in refused.json["error"]["next"]
    assert json.loads((home / "store/index.json").read_bytes())["manifests"] == []
    assert run(home, "build", project, extra=extra).code == 0
    assert len(json.loads((home / "store/index.json").read_bytes())["manifests"]) == 1


@pytest.mark.interop
def test_a_registry_that_is_down_takes_no_build_away(research: Bench, tool: Tool, tmp_path: Path) -> None:
    """The error is the network's, the provenance is written; the next push builds nothing."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        down = f"127.0.0.1:{taken.getsockname()[1]}"
        research.extra["TIDEWAITER_PLAIN_HTTP"] += f",{down}"
        failed = research.run(
            *("build", research.project, "--push", f"{down}/team/small"),
            *("--provenance", tmp_path / "provenance.json", "--format", "json"),
        )
    assert (failed.code, failed.json["error"]["code"]) == (3, "network")
    assert "is built and in the store; it was not pushed" in failed.err
    made = research.built()
    subject = json.loads((tmp_path / "provenance.json").read_bytes())["subject"][0]
    assert f"sha256:{subject['digest']['sha256']}" == made["digest"]
    assert len(research.log("build")) == 1
    assert research.log("push") == []
    done = research.pushed(f"{research.place}:v1")
    assert (done["built_layers"], done["digest"]) == (0, made["digest"])
    assert digest_at(tool, f"{research.place}:v1") == made["digest"]


@pytest.mark.interop
def test_a_catalog_on_postgresql_says_it_as_well(research: Bench, postgres_server: postgres.Server) -> None:
    """The entry is the same where the catalog is no file."""
    with postgres.in_use(postgres_server):
        research.extra |= postgres.variables(research.home)
        done = research.pushed(f"{research.place}:v1")
        (entry,) = research.log("push")
        assert entry["subject"] == done["digest"]
        assert entry["detail"]["to"] == f"{research.place}:v1"
        postgres.drop_homes()


# What is loaded

NOT_TO_PUSH = {"alembic", "jinja2", "sqlalchemy", "tidewaiter.catalog.catalog", "tidewaiter.pipelines.shipping"}
ONLY_TO_PUSH = {"tidewaiter.distribution.copy", "tidewaiter.pipelines.handing", "tidewaiter.transport.client"}
SIGNS = "tidewaiter.catalog.audit.sequencer"


def loaded(bench: Bench, *words: object) -> list[str]:
    """The modules that a build after an edit loads, in their order."""
    (bench.project / "main.py").write_text(f"print({time.monotonic_ns()})\n")
    words = (sys.executable, "-X", "importtime", *command("build", bench.project, *words)[1:])
    variables = {**environment(bench.home), **bench.extra}
    done = subprocess.run([*map(str, words)], env=variables, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return [line.rpartition("|")[2].strip() for line in lines]


@pytest.mark.interop
def test_only_a_push_loads_what_pushes_and_it_loads_little(research: Bench) -> None:
    """The network comes with --push only; SQLAlchemy never; the libraries that sign with the end of the audit log."""
    loaded(research)  # measures the cache, once a day
    without = set(loaded(research))
    assert SIGNS in without
    assert not ONLY_TO_PUSH & without
    pushing = loaded(research, "--push", f"{research.place}:dev")
    assert set(pushing) > ONLY_TO_PUSH
    assert not NOT_TO_PUSH & set(pushing)
    code = "import sys; import tidewaiter.pipelines.handing; print(*sys.modules)"
    needed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not (NOT_TO_PUSH | {"cryptography", SIGNS, "ssl"}) & set(needed)

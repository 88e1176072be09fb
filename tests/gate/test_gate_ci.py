"""`ci` with a server, pushed to that server's own registry: built here, judged there with what the builder signed."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from served import Served, prepare, serving

from tidewaiter.signing import predicates
from workplace import commit, run

SETTINGS = """\
requests_per_second = 0

[[environment]]
name = "{environment}"
repositories = ["team/**"]
"""
BUILDER = "ci.example/runner"


class Runner(NamedTuple):
    """A runner with its server."""

    home: Path
    keep: Path
    """The server's home."""
    served: Served
    environment: str

    @property
    def extra(self) -> dict[str, str]:
        """What makes commands speak to the server."""
        return {
            "TIDEWAITER_SERVER": f"http://{self.served.host}",
            "TIDEWAITER_TOKEN": self.served.token,
            "TIDEWAITER_PLAIN_HTTP": self.served.host,
        }


@pytest.fixture(params=["staging", "production"])
def runner(request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner whose key the server knows as that of a builder; the server has a key for verdicts."""
    keep = tmp_path_factory.mktemp("keep")
    token = prepare(keep)
    (keep / "settings.toml").write_text(SETTINGS.format(environment=request.param))
    assert run(keep, "key", "generate", "verdict").code == 0
    assert run(home, "key", "generate", "--builder", BUILDER).code == 0
    imported = run(keep, "key", "import", "runner", home / "keys/tidewaiter.pub", "--builder", BUILDER)
    assert imported.code == 0, imported.err
    with serving(keep, token) as served:
        yield Runner(home, keep, served, request.param)


@pytest.mark.thorough
def test_ci_pushes_to_the_gate(runner: Runner, project: Path) -> None:
    """The gate finds what the builder signed before it judges, and what it allows carries the verdict; production asks
    for more than that, and says what."""
    done = run(runner.home, "ci", project, "--format", "json", extra=runner.extra)
    if runner.environment == "production":
        assert done.code == 1  # the answer is no
        told = done.json["error"]["message"]
        assert "may not go to production" in told, told
        assert "build.builder-registered" not in told
        assert "attached." not in told
        return
    assert done.code == 0, (done.out, done.err)
    verdict = done.json["verdict"]
    assert (verdict["environment"], verdict["verdict"]) == ("staging", "allow")
    listed = runner.served.ask("GET", f"/team/small/referrers/{verdict['artifact']}").json["manifests"]
    kinds = {one["annotations"]["dev.sigstore.bundle.predicateType"] for one in listed}
    assert {predicates.PROVENANCE, predicates.VERDICT, predicates.SPDX} <= kinds
    tags = runner.served.ask("GET", "/team/small/tags/list").json["tags"]
    assert done.json["pushed"].rpartition(":")[2] in tags


@pytest.mark.thorough
@pytest.mark.parametrize("runner", ["staging"], indirect=True)
def test_sources_are_looked_at_before_the_server_gets_anything(runner: Runner, project: Path) -> None:
    """With a server, too, the job analyses its sources first: what stops a build is not built, and not pushed."""
    clean = (project / "main.py").read_text()
    (project / "main.py").write_text(f'{clean}\nTOKEN = "glpat-{"x7Kq2Lm9Rt4Vb8Nc3ZdW"}"\n')
    commit(project)
    refused = run(runner.home, "ci", project, "--format", "json", extra=runner.extra)
    assert refused.code == 1, refused.out + refused.err
    assert refused.json["error"]["code"] == "analysis_failed"
    assert runner.served.ask("GET", "/team/small/tags/list").status == 404
    here = {name: value for name, value in runner.extra.items() if name != "TIDEWAITER_SERVER"}
    assert "team/small" not in run(runner.home, "catalog", "list", "--format", "json", extra=here).out
    (project / "main.py").write_text(clean)
    commit(project)
    done = run(runner.home, "ci", project, "--format", "json", extra=runner.extra)
    assert done.code == 0, done.out + done.err
    assert done.json["sources"]["files"] > 0

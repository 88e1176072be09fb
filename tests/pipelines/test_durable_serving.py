"""A server that carries out runs itself, asked from far away, from a repository; a worker beside it; a full disk."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import git_server
import workplace
from tidewaiter.pipelines.durable.shapes import SHAPES
from workplace import Done, command, environment, run


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[git_server.GitServer]:
    """A Git server."""
    (tmp_path / "repositories").mkdir()
    with git_server.git_server(tmp_path / "repositories") as server:
        yield server


@pytest.fixture
def served(home: Path, project: Path, repositories: git_server.GitServer) -> Iterator[tuple[str, str]]:
    """Address of a server that may fetch the project, and the token of somebody who may run pipelines there."""
    bare = repositories.root / "team" / "small.git"
    bare.parent.mkdir()
    subprocess.run(["git", "clone", "-q", "--bare", str(project), str(bare)], check=True)
    (home / "settings.toml").write_text(
        f'plain_http = "{repositories.host}"\n\n[[source]]\nname = "small"\nurl = "{repositories.url}/team/small.git"\n'
    )
    assert run(home, "key", "generate").code == 0
    made = run(home, "token", "create", "ci", "--role", "admin", "--days", "2", "--format", "json")
    assert made.code == 0, made.err
    process = subprocess.Popen(
        command("serve", "--port", "0"), stdout=subprocess.PIPE, stderr=sys.stderr, text=True, env=environment(home)
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().rstrip("/"), made.json["token"]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.mark.thorough
def test_a_run_from_far_away(served: tuple[str, str], home: Path, project: Path, tmp_path: Path) -> None:
    """Somebody with nothing but address and token has a branch built, follows it, and finds it in lists."""
    address, token = served

    def asked(*words: object) -> Done:
        server = {"TIDEWAITER_SERVER": address, "TIDEWAITER_TOKEN": token, "HOME": str(tmp_path)}
        return run(tmp_path / "nowhere", "pipeline", *words, extra=server)

    done = asked("run", "small", "--ref", "refs/heads/main", "--follow")
    assert done.code == 0, done.out + done.err
    assert "analyse: analysis of" in done.out
    run_id = next(line for line in done.out.splitlines() if line.startswith("run-")).split()[0]
    shown = asked("show", run_id, "--format", "json").json
    head = subprocess.run(["git", "-C", str(project), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert shown["result"]["commit"] == head.stdout.strip()
    assert shown["worker"].startswith("server-")
    assert [step["name"] for step in shown["steps"]] == list(SHAPES["clear"].steps)
    assert not (home / "cache" / "work" / run_id).exists(), "the sources were left behind"
    listed = asked("list", "--state", "done", "--format", "json").json["runs"]
    assert [one["id"] for one in listed] == [run_id]
    assert asked("log", run_id, "--after", 1).out == "".join(asked("log", run_id).out.splitlines(keepends=True)[1:])
    assert asked("cancel", run_id).code == 1
    again = asked("retry", run_id, "--wait", "--format", "json")
    assert again.json["result"]["digest"] == shown["result"]["digest"]
    beside = run(home, "worker", "--once")
    assert (beside.code, "another worker" in beside.err) == (1, True)
    catalog = run(home, "verdicts", shown["result"]["reference"], "--format", "json")
    assert catalog.code == 0
    assert token not in json.dumps(shown)


@pytest.mark.thorough
def test_commands_here(home: Path, project: Path) -> None:
    """Asking, listing, showing and cancelling work on the home alone; what makes no sense is a usage error."""
    first = run(home, "pipeline", "run", project, "--key", "k", "--format", "json")
    assert "No worker works here now" in first.err
    assert run(home, "pipeline", "run", project, "--key", "k", "--format", "json").json["id"] == first.json["id"]
    run_id = first.json["id"]
    assert run_id in run(home, "pipeline", "list", "--state", "queued").out
    assert run(home, "pipeline", "list", "--state", "done", "--format", "json").json == {"runs": []}
    assert "queued" in run(home, "pipeline", "show", run_id).out
    assert run(home, "pipeline", "retry", run_id).code == 1
    assert run(home, "pipeline", "cancel", run_id, "--format", "json").json["state"] == "cancelled"
    assert run(home, "pipeline", "log", run_id).out == ""
    for words in (
        ("run",),
        ("run", "x", "--kind", "sweep"),
        ("list", "--rows", "0"),
        ("log", run_id, "--after", "-1"),
        ("show", "run-none"),
    ):
        assert run(home, "pipeline", *words).code == 2


@pytest.mark.thorough
def test_a_full_disk_costs_a_run_nothing_but_time(tmp_path: Path, home: Path, project: Path) -> None:
    """A worker whose disk is full says so and waits; with space the run goes on to the same digest."""
    assert run(home, "key", "generate").code == 0
    mount = tmp_path / "mount"
    mount.mkdir()
    script = """
        mount -t tmpfs -o size=400m tmpfs "$MOUNT" || exit 77
        cp -r "$SOURCE"/. "$MOUNT/" && rm -rf "$MOUNT"/cache/layers/*.json
        "$@" pipeline run "$PROJECT" >/dev/null 2>&1 || exit 1
        "$@" worker >"$MOUNT.log" 2>&1 &
        worker=$!
        state() {
            "$@" pipeline list --format json | "$PYTHON" -c \
                'import json,sys; print(json.load(sys.stdin)["runs"][0]["state"])'
        }
        while [ $SECONDS -lt 60 ] && [ "$(state "$@")" = queued ]; do sleep 0.2; done
        dd if=/dev/zero of="$MOUNT/filler" bs=64k 2>/dev/null
        sleep 6
        rm "$MOUNT/filler"
        while [ $SECONDS -lt 240 ]; do
            case "$(state "$@")" in queued|running) sleep 0.5;; *) break;; esac
        done
        kill "$worker"; wait "$worker"
        "$@" pipeline list --format json
        cd "$MOUNT/store/blobs/sha256"
        for blob in *; do [ "$(sha256sum <"$blob")" = "$blob  -" ] || exit 5; done
    """
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, "bash", *command()],
        env={
            **environment(mount),
            "MOUNT": str(mount),
            "SOURCE": str(home),
            "PROJECT": str(project),
            "PYTHON": sys.executable,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    if done.returncode == 77 or "unshare" in done.stderr[:20]:
        pytest.skip("this machine does not let tests mount a small file system")
    assert done.returncode == 0, (done.stdout, done.stderr)
    (found,) = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert found["state"] == "done", (found, (tmp_path / "mount.log").read_text())
    workplace.run(home, "pipeline", "run", project)
    assert run(home, "worker", "--once").code == 0
    (whole,) = run(home, "pipeline", "list", "--format", "json").json["runs"]
    assert whole["result"]["digest"] == found["result"]["digest"]


def test_the_engine_changes_nothing_under_way() -> None:
    """The worker's thread loads the engine beside requests; all of SQLAlchemy's mapper has been loaded by then."""
    code = (
        "import sys\n"
        "from tidewaiter.pipelines.durable import serving\n"
        "before = {name for name in sys.modules if name.startswith('sqlalchemy.orm')}\n"
        "from tidewaiter.pipelines.durable import engine\n"
        "after = {name for name in sys.modules if name.startswith('sqlalchemy.orm')}\n"
        "sys.exit(after != before or not before)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

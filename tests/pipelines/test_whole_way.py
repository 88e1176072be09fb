"""The whole way on a small project: what ends where, and that nothing gets through half-way."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scanner_reports import statement, trivy, trivy_found, vex
from workplace import ROOT, command, commit, environment, run, small_project


def tags(home: Path) -> dict[str, str]:
    """Names in the store's `index.json` with their visibility."""
    index = json.loads((home / "store/index.json").read_text())
    return {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["annotations"]["dev.tidewaiter.visibility"]
        for entry in index["manifests"]
    }


def assert_store_intact(home: Path) -> None:
    """Every blob has the digest that it is named by, and nothing half-written lies about."""
    import hashlib

    for blob in (home / "store/blobs/sha256").iterdir():
        with blob.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == blob.name
    ingest = home / "store/.ingest"
    assert not ingest.exists() or list(ingest.iterdir()) == []


def test_build_prints_the_contract(home: Path, project: Path) -> None:
    """`build --format json` has exactly the promised fields, and its layers are those of the manifest."""
    done = run(home, "build", project, "--format", "json")
    assert done.code == 0, done.err
    assert list(done.json) == [
        "reference",
        "digest",
        "layers",
        "reused_layers",
        "built_layers",
        "seconds",
        "lock_digest",
    ]
    head = subprocess.check_output(["git", "-C", project, "rev-parse", "--short=12", "HEAD"], text=True).strip()
    assert done.json["reference"] == f"team/small:{head}"
    manifest = json.loads((home / "store/blobs/sha256" / done.json["digest"][7:]).read_bytes())
    assert [layer["digest"] for layer in manifest["layers"]] == [layer["digest"] for layer in done.json["layers"]]
    assert [layer["kind"] for layer in done.json["layers"]] == ["base", "base", "python", "app"]
    assert done.json["layers"][2]["contents"] == ["six 1.17.0"]
    assert manifest["annotations"]["org.opencontainers.image.revision"].startswith(head)
    assert tags(home) == {f"team/small:{head}": "built"}
    assert_store_intact(home)


@pytest.mark.thorough
def test_clean_home_gives_the_same_digest(tmp_path: Path, home: Path, project: Path) -> None:
    """A home that shares nothing but downloads builds every layer anew and gets the same manifest digest."""
    cold = tmp_path / "cold"
    (cold / "cache").mkdir(parents=True)
    for name in ("debs", "wheels"):
        shutil.copytree(home / "cache" / name, cold / "cache" / name)
    warm = run(home, "build", project, "--format", "json").json
    other = run(cold, "build", project, "--format", "json", extra={"TIDEWAITER_THREADS": "1", "TZ": "Asia/Shanghai"})
    assert other.code == 0, other.err
    assert other.json["reused_layers"] == 0
    assert other.json["digest"] == warm["digest"]


@pytest.mark.thorough
def test_dirty_tree_changes_the_tag_only(home: Path, project: Path) -> None:
    """An uncommitted change of an input marks the tag; an unrelated one does not."""
    clean = run(home, "build", project, "--format", "json").json
    (project / "notes.md").write_text("unrelated\n")
    assert run(home, "build", project, "--format", "json").json["reference"] == clean["reference"]
    (project / "main.py").write_text("print('changed')\n")
    dirty = run(home, "build", project, "--format", "json").json
    assert dirty["reference"] == clean["reference"] + "-dirty"
    assert dirty["layers"][:-1] == clean["layers"][:-1]
    denied = run(home, "check", dirty["reference"], "--environment", "production", "--format", "json")
    assert denied.code == 1
    assert "name.not-dirty" in {item["rule"] for item in denied.json["violations"]}


def test_ci_clears_and_remembers(home: Path, project: Path) -> None:
    """`ci` leaves a cleared tag, a verified signature, SBOMs, findings and verdict, all found again."""
    assert run(home, "key", "generate").code == 0
    done = run(home, "ci", project, "--format", "json")
    assert done.code == 0, done.err
    name = done.json["reference"]
    assert done.json["verdict"]["verdict"] == "allow"
    assert {item["rule"] for item in done.json["production_would_demand"]} >= {"build.builder-registered"}
    assert tags(home) == {name: "cleared"}
    verified = run(home, "verify", name, "--format", "json").json
    assert verified["digest"] == done.json["digest"]
    assert verified["annotations"]["dev.tidewaiter.builder"] == "local"
    again = run(home, "ci", project, "--format", "json").json
    assert (again["digest"], again["signature"]) == (done.json["digest"], done.json["signature"])
    checked = run(home, "check", name, "--environment", "staging", "--format", "json").json
    assert checked["id"] == again["verdict"]["id"] == done.json["verdict"]["id"]
    assert_store_intact(home)


@pytest.mark.thorough
def test_ci_clears_other_compressions_and_platforms(home: Path, project: Path, tmp_path: Path) -> None:
    """What `build` can make `ci` can clear, under the same digest, so that it may be pushed."""
    assert run(home, "key", "generate").code == 0
    wanted = ("--compression", "zstd", "--platform", "linux/arm64", "--no-bytecode")
    assert run(home, "lock", project, *wanted[2:]).code == 0
    commit(project)
    built = run(home, "build", project, *wanted, "--format", "json")
    assert built.code == 0, built.err
    statement = tmp_path / "provenance.json"
    done = run(home, "ci", project, *wanted, "--provenance", statement, "--format", "json")
    assert done.code == 0, done.err
    assert done.json["digest"] == built.json["digest"]
    assert tags(home) == {done.json["reference"]: "cleared"}
    assert json.loads(statement.read_bytes())["subject"][0]["digest"]["sha256"] == done.json["digest"][7:]


def test_denied_image_is_not_cleared(tmp_path: Path, home: Path) -> None:
    """A project for production is denied here, says why, and leaves no cleared tag and no signature."""
    production = small_project(tmp_path / "production", home, env="production")
    run(home, "key", "generate")
    done = run(home, "ci", production)
    assert done.code == 1
    assert "denied:" in done.err
    assert "build.builder-registered" in done.err
    assert "change:" in done.err
    assert tags(home) == {}
    head = subprocess.check_output(["git", "-C", production, "rev-parse", "--short=12", "HEAD"], text=True).strip()
    assert run(home, "verify", f"team/small:{head}").code == 1
    refused = run(home, "push", f"team/small:{head}", "localhost:1/team/small", extra={"TIDEWAITER_PLAIN_HTTP": "x"})
    assert refused.code == 1
    assert "not cleared" in refused.err


@pytest.mark.thorough
def test_ci_hears_other_scanners_and_vex(tmp_path: Path, home: Path, project: Path) -> None:
    """A finding of another scanner denies; a VEX document that is named takes it out again."""
    assert run(home, "key", "generate").code == 0
    found = trivy_found("CVE-2099-10001", "six", "1.17.0", fixed="1.18.0", word="CRITICAL", purl="pkg:pypi/six@1.17.0")
    (tmp_path / "report.json").write_bytes(trivy(found))
    ask = ("ci", project, "--format", "json", "--with", tmp_path / "report.json")
    denied = run(home, *ask)
    assert denied.code == 1, denied.err
    assert "advisories.no-fixable-high-critical" in denied.err
    assert set(tags(home).values()) <= {"built"}
    said = statement("CVE-2099-10001", products=[{"@id": "pkg:pypi/six@1.17.0"}])
    (tmp_path / "vex.json").write_bytes(vex(said))
    allowed = run(home, *ask, "--vex", tmp_path / "vex.json")
    assert allowed.code == 0, allowed.err
    assert allowed.json["findings"] == 0
    assert set(tags(home).values()) == {"cleared"}


def test_missing_key_stops_before_the_work(home: Path, project: Path) -> None:
    """Without a key `ci` says how to make one and builds nothing."""
    done = run(home, "ci", project)
    assert done.code == 2
    assert "key generate" in done.err
    assert tags(home) == {}


@pytest.mark.thorough
def test_fixable_vulnerability_is_denied_with_the_version_to_take(tmp_path: Path, home: Path) -> None:
    """A package with a known high finding is denied in staging, and the remedy names the fixed version."""
    project = small_project(tmp_path / "vulnerable", home, requirements="jinja2==2.10\nmarkupsafe==2.1.5\n")
    built = run(home, "build", project, "--format", "json")
    assert built.code == 0, built.err
    scanned = run(home, "scan", built.json["reference"], "--fail-on", "high", "--format", "json")
    assert scanned.code == 1
    names = {name for finding in scanned.json["findings"] for name in (finding["advisory"], *finding["aliases"])}
    assert "CVE-2019-10906" in names
    assert {item["ecosystem"] for item in scanned.json["not_checked"]} == {"Debian:12"}
    denied = run(home, "check", built.json["reference"], "--environment", "production", "--format", "json")
    assert denied.code == 1
    rules = {item["rule"]: item for item in denied.json["violations"]}
    vulnerable = [item for name, item in rules.items() if name.startswith("advisories.") and "jinja2" in str(item)]
    assert vulnerable
    assert "requirements.in" in vulnerable[0]["remedy"]


def test_no_repository_no_image(home: Path, project: Path) -> None:
    """Outside Git nothing is built, and the error says what to run."""
    shutil.rmtree(project / ".git")
    done = run(home, "build", project, "--format", "json")
    assert done.code == 2
    assert "git init" in done.json["error"]["next"]
    assert tags(home) == {}


def test_stale_lock_names_the_command(home: Path, project: Path) -> None:
    """Changed requirements with an old lock are an error that names `tidewaiter lock`."""
    (project / "requirements.in").write_text("six==1.16.0\n")
    done = run(home, "build", project, "--format", "json")
    assert done.code == 2
    assert done.json["error"]["code"] == "stale_lock"
    assert "tidewaiter lock" in done.json["error"]["next"]


@pytest.mark.thorough
def test_no_network_when_a_lock_is_missing(home: Path, project: Path) -> None:
    """A lock that must be resolved without network is "could not find out", and leaves no file."""
    (project / "pylock.toml").unlink()
    off = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = run(
        home, "build", project, "--format", "json", extra={**off, "NO_PROXY": "", "UV_CACHE_DIR": str(home / "uv")}
    )
    assert done.code == 3, done.err
    assert done.json["error"]["code"] == "network"
    assert not (project / "pylock.toml").exists()


def test_no_network_is_needed_with_locks_and_cache(home: Path, project: Path) -> None:
    """With both locks and a warm cache a build asks nobody."""
    off = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    assert run(home, "build", project, extra={**off, "NO_PROXY": ""}).code == 0


@pytest.mark.thorough
def test_damaged_layer_is_rebuilt(home: Path, project: Path) -> None:
    """A damaged blob in the store is noticed and made again, with the same digest."""
    first = run(home, "build", project, "--format", "json").json
    app = home / "store/blobs/sha256" / first["layers"][-1]["digest"][7:]
    app.chmod(0o600)
    app.write_bytes(b"damaged")
    again = run(home, "build", project, "--format", "json")
    assert again.json["digest"] == first["digest"]
    assert again.json["built_layers"] == 1
    assert_store_intact(home)


@pytest.mark.thorough
def test_two_builds_at_once(home: Path, project: Path) -> None:
    """Two builds in one home end with the same image and an intact store."""
    for record in (home / "cache/layers").glob("*.json"):
        record.unlink()
    line = command("build", project, "--format", "json")
    both = [
        subprocess.Popen(line, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len({json.loads(out)["digest"] for out, _ in outputs}) == 1
    assert_store_intact(home)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.thorough
def test_interrupted_build_goes_on(home: Path, project: Path, number: signal.Signals) -> None:
    """Stopped in the middle, the store is valid, nothing is tagged, and the next build finishes."""
    for record in (home / "cache/layers").glob("*.json"):
        record.unlink()
    for blob in (home / "store/blobs/sha256").iterdir():
        blob.unlink()
    process = subprocess.Popen(
        command("build", project), env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any((home / "store/.ingest").glob("*")):
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (130 if number != signal.SIGKILL else -9)
    assert tags(home) == {}
    if number != signal.SIGKILL:
        assert_store_intact(home)
    done = run(home, "build", project)
    assert done.code == 0, done.err
    assert tags(home)


@pytest.mark.thorough
def test_full_disk(tmp_path: Path, home: Path, project: Path) -> None:
    """On a full disk the error says so with code 3, no blob is half-written, and with space the build goes on."""
    mount = tmp_path / "mount"
    mount.mkdir()
    script = """
        mount -t tmpfs -o size=75m tmpfs "$MOUNT" || exit 77
        cp -r "$SOURCE/cache" "$MOUNT/" && rm -rf "$MOUNT"/cache/layers/*.json
        dd if=/dev/zero of="$MOUNT/filler" bs=1M count=200 2>/dev/null
        truncate -s -14M "$MOUNT/filler"
        "$@"; first=$?
        find "$MOUNT/store/.ingest" -type f 2>/dev/null | wc -l
        cd "$MOUNT/store/blobs/sha256"
        for blob in *; do
            [ "$blob" = '*' ] || [ "$(sha256sum <"$blob")" = "$blob  -" ] || echo "damaged $blob"
        done
        cd /
        rm "$MOUNT/filler"; mount -o remount,size=400m "$MOUNT"
        "$@" >/dev/null 2>&1; echo "then $?"
        exit $first
    """
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, "bash", *command("build", project)],
        env={**environment(mount), "MOUNT": str(mount), "SOURCE": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode == 77 or "unshare" in done.stderr[:20]:
        pytest.skip("this machine does not let tests mount a small file system")
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert "disk is full" in done.stderr
    assert done.stdout.split() == ["0", "then", "0"]


def test_unknown_commands_and_options_are_usage_errors(home: Path) -> None:
    """A misspelt command or option ends with 2, and with JSON when JSON was asked for."""
    assert run(home, "biuld").code == 2
    done = run(home, "build", "x", "--fromat", "json")
    assert done.code == 2
    shaped = run(home, "inspect", "--format", "json")
    assert shaped.code == 2
    assert set(shaped.json["error"]) == {"code", "message", "next"}


def test_version_needs_no_home(tmp_path: Path) -> None:
    """`--version` prints the version and touches nothing."""
    done = run(tmp_path / "absent", "--version")
    assert done.code == 0
    assert done.out.strip() == "0.1.0"
    assert not (tmp_path / "absent").exists()


def test_examples_are_committed_with_fresh_locks() -> None:
    """Both locks of the example are there and belong to its inputs."""
    from tidewaiter.assembly import base_lock, python_lock, recipe
    from tidewaiter.core import project as projects

    example = projects.load(ROOT / "examples/mnist")
    assert python_lock.read(example).wheels
    base_lock.require_fresh(base_lock.read(example.base_lock), recipe.load(example.base.use))


@pytest.mark.thorough
def test_commit_makes_a_new_image_without_rebuilding(home: Path, project: Path) -> None:
    """A one-line change rebuilds the app layer alone."""
    run(home, "build", project)
    (project / "main.py").write_text("import six\n\nprint(six)\n")
    commit(project)
    done = run(home, "build", project, "--format", "json").json
    assert (done["built_layers"], done["reused_layers"]) == (1, 3)

"""The order of semantic versions, held against npm's own and Go's own implementation."""

import json
import random
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers import Tool
from tidewaiter.sbom.versions.semver import go_key, key

_identifiers = st.sampled_from(["0", "1", "10", "alpha", "beta", "rc1", "0-daa7c04131f5", "-", "x-y"])
_versions = st.builds(
    lambda numbers, before, build: (
        ".".join(map(str, numbers)) + ("-" + ".".join(before) if before else "") + ("+" + build if build else "")
    ),
    st.tuples(*(st.sampled_from([0, 1, 2, 10]),) * 3),
    st.lists(_identifiers, max_size=3),
    st.sampled_from(["", "", "incompatible", "build.1"]),
)
_GO = """package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"order/semver"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		pair := strings.Fields(lines.Text())
		fmt.Println(semver.IsValid(pair[0]) && semver.IsValid(pair[1]), semver.Compare(pair[0], pair[1]))
	}
}
"""


def _pairs(count: int) -> list[tuple[str, str]]:
    chance = random.Random(11)

    def version() -> str:
        text = ".".join(chance.choice(["0", "1", "2", "10", "100"]) for _ in range(3))
        if chance.random() < 0.6:
            parts = ["0", "1", "10", "01", "alpha", "beta", "rc", "rc1", "0-20191109021931-daa7c04131f5", "pre-2"]
            text += "-" + ".".join(chance.choice(parts) for _ in range(chance.randint(1, 3)))
        return text + chance.choice(["", "", "+incompatible", "+b.1"])

    return [(version(), version()) for _ in range(count)]


def _sign(left: str, right: str) -> int | None:
    try:
        return (key(left) > key(right)) - (key(left) < key(right))
    except ValueError:
        return None


@pytest.mark.interop
def test_order_agrees_with_npm(tool: Tool) -> None:
    """A thousand pairs compare as npm's semver compares them, and what it refuses is refused."""
    node, npm = tool("node"), Path(tool("npm")).resolve()
    beside = npm.parent.parent / "node_modules" / "semver"
    module = str(beside) if beside.is_dir() else "semver"  # Debian keeps it where node looks by itself
    program = (
        f"const s = require({json.dumps(module)}); const all = JSON.parse(require('fs').readFileSync(0));"
        "console.log(JSON.stringify(all.map(([a, b]) => s.valid(a) && s.valid(b) ? s.compare(a, b) : null)))"
    )
    pairs = _pairs(1000)
    done = subprocess.run([node, "-e", program], input=json.dumps(pairs), capture_output=True, text=True, check=True)
    wrong = [
        (pair, answer) for pair, answer in zip(pairs, json.loads(done.stdout), strict=True) if _sign(*pair) != answer
    ]
    assert not wrong


@pytest.mark.interop
def test_order_agrees_with_go(tool: Tool, tmp_path: Path) -> None:
    """A thousand pairs compare as Go's own copy of golang.org/x/mod/semver compares them, and it refuses the same."""
    go = tool("go")
    root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    source = Path(root, "src/cmd/vendor/golang.org/x/mod/semver/semver.go")
    (tmp_path / "semver").mkdir()
    shutil.copy(source, tmp_path / "semver")
    (tmp_path / "main.go").write_text(_GO)
    (tmp_path / "go.mod").write_text("module order\n\ngo 1.21\n")
    pairs = [*_pairs(1000), ("1", "1.0.0"), ("1.2", "1.2.1"), ("0.0.0-20191109021931-daa7c04131f5", "0.0.0")]
    lines = "".join(f"v{left} v{right}\n" for left, right in pairs)
    done = subprocess.run([go, "run", "."], cwd=tmp_path, input=lines, capture_output=True, text=True, check=True)
    answers = [line.split() for line in done.stdout.splitlines()]
    own = [_sign(*pair) for pair in pairs]
    wrong = [
        (pair, valid, answer)
        for pair, (valid, answer), mine in zip(pairs, answers, own, strict=True)
        if (mine is not None) != (valid == "true") or (mine is not None and mine != int(answer))
    ]
    assert not wrong


def test_versions_of_go_itself_are_read() -> None:
    """Releases before 1.21 have no third number, pre-releases no separator; `+incompatible` does not count."""
    ascending = ("1.20beta1", "go1.20rc2", "1.20", "1.20.3", "go1.21rc2", "1.21.0", "1.21.10", "v1.22.0")
    assert all(go_key(left) < go_key(right) for left, right in pairwise(ascending))
    assert go_key("1.20") == go_key("go1.20.0") == key("1.20.0")
    assert go_key("1.21rc2") == key("1.21.0-rc.2")
    assert go_key("v2.0.0+incompatible") == go_key("2.0.0")
    assert go_key("v0.0.0-20190101000000-000000000000") < go_key("v0.0.0-20191109021931-daa7c04131f5")
    with pytest.raises(ValueError):
        go_key("(devel)")


@given(_versions, _versions, _versions)
@settings(max_examples=300, deadline=None)
def test_order_is_total(one: str, two: str, three: str) -> None:
    """Exactly one of less, equal and greater holds for two versions, and order carries over a third."""
    first, second, third = sorted((key(one), key(two), key(three)))
    assert first <= second <= third
    assert first <= third
    assert (first == third) == (first == second == third)

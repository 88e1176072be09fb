"""Draws findings on repositories that the rules were not written against, to be judged by hand.

    .venv/bin/python benchmarks/lint_precision.py CLONES --draw first --group dockerfile --count 100 [--show]

Repositories and commits stand in lint-fresh.toml; `--draw` says which of its lists, `--rule` of which rules alone. They
are read from Git clones
(CLONES/OWNER+NAME), nothing is written. Files that lint-corpus.toml has, too, are left out by their content. Of each
repository at most 40 files of a kind (all scripts) are taken, drawn with the same seed. Findings are drawn of each rule
in turn, one of a rule in a file, so that a rule which finds much does not stand for all.
"""

import argparse
import collections
import random
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Kind, Source, kind_of
from tidewaiter.lint.finding import Finding

FRESH = Path(__file__).with_name("lint-fresh.toml")
CORPUS = Path(__file__).with_name("lint-corpus.toml")
GROUPS: dict[str, frozenset[Kind]] = {
    "dockerfile": frozenset({"dockerfile"}),
    "kubernetes": frozenset({"kubernetes", "compose"}),
    "scripts": frozenset({"requirements", "python", "shell"}),
}
AT_MOST: dict[Kind, int] = {"python": 100_000, "shell": 100_000}
"""Files of a repository; 40 of the other kinds. Rules about scripts find little, so all scripts are looked at."""
DRAWS = ("first", "second", "third", "fourth")
LONGEST = 300_000
"""Bytes of a file; longer ones are bundles of generated objects."""
SKIPPED = frozenset({"node_modules", "vendor", "third_party", "site-packages"})


def rows(path: Path, draw: str | None = None) -> Iterator[tuple[str, str]]:
    """Repositories of a list with their commits."""
    for one in tomllib.loads(path.read_text())["repositories"]:
        if draw is None or one["draw"] == draw:
            yield one["repository"], one["commit"]


def git_of(clones: Path, repository: str) -> Path:
    """The Git folder of a repository's clone."""
    folder = clones / repository.replace("/", "+")
    head = next(
        (path for path in (*folder.glob("*/HEAD"), *folder.glob("*/.git/HEAD")) if (path.parent / "objects").is_dir()),
        None,
    )
    if head is None:
        sys.exit(f"{folder}: no clone of {repository}")
    return head.parent


def listed(git: Path, commit: str) -> list[tuple[str, str]]:
    """Paths and objects of the regular files of a commit."""
    out = subprocess.run(
        ["git", "--git-dir", git, "ls-tree", "-r", "-z", commit], capture_output=True, check=True
    ).stdout
    found = []
    for line in out.decode(errors="replace").split("\0")[:-1]:
        meta, _, path = line.partition("\t")
        mode, kind, blob = meta.split()
        if kind == "blob" and mode != "120000":
            found.append((path, blob))
    return found


def contents(git: Path, blobs: list[str]) -> dict[str, str]:
    """The texts of these objects; those that are there, short enough, and text."""
    out = subprocess.run(
        ["git", "--git-dir", git, "cat-file", "--batch"],
        input="".join(f"{blob}\n" for blob in blobs).encode(),
        capture_output=True,
        check=True,
    ).stdout
    found, at = {}, 0
    for blob in blobs:
        end = out.index(b"\n", at)
        head = out[at:end].split()
        at = end + 1
        if head[-1] == b"missing":
            continue
        length = int(head[2])
        data, at = out[at : at + length], at + length + 1
        if length <= LONGEST and b"\0" not in data[:8192]:
            try:
                found[blob] = data.decode("utf-8-sig")
            except UnicodeDecodeError:
                continue
    return found


def sources(clones: Path, draw: str, group: str) -> list[Source]:
    """The files of a draw."""
    known = {blob for name, commit in rows(CORPUS) for _, blob in listed(git_of(clones, name), commit)}
    found: list[Source] = []
    for name, commit in rows(FRESH, draw):
        git = git_of(clones, name)
        every = [(path, blob) for path, blob in listed(git, commit) if not SKIPPED.intersection(path.split("/")[:-1])]
        beside: dict[str, set[str]] = collections.defaultdict(set)
        for path, _ in every:
            parts = path.split("/")
            for depth in range(len(parts)):
                beside["/".join(parts[:depth])].add(parts[depth])
        maybe = [one for one in every if kind_of(one[0].rpartition("/")[2], "kind:\n") in GROUPS[group]]
        random.Random(f"{draw} {name}").shuffle(maybe)
        texts = contents(git, [blob for _, blob in maybe if blob not in known])
        counted: collections.Counter[Kind] = collections.Counter()
        for path, blob in maybe:
            text = texts.get(blob)
            kind = None if text is None or blob in known else kind_of(path.rpartition("/")[2], text)
            if text is None or kind not in GROUPS[group] or counted[kind] == AT_MOST.get(kind, 40):
                continue
            known.add(blob)
            counted[kind] += 1
            folder = path.rpartition("/")[0]
            names = beside[folder] | {f"../{one}" for one in beside[folder.rpartition("/")[0]] if folder}
            found.append(Source(f"{name}/{path}", kind, text, frozenset(names)))
    return found


def drawn(found: list[Finding], count: int, seed: str) -> list[Finding]:
    """Findings of each rule in turn, whichever the seed says, at most one of a rule in a file."""
    rules: dict[str, list[Finding]] = collections.defaultdict(list)
    for one in sorted(found, key=lambda one: (one.rule, one.order)):
        rules[one.rule].append(one)
    for name, those in rules.items():
        random.Random(f"{seed} {name}").shuffle(those)
    taken: list[Finding] = []
    seen: set[tuple[str, str]] = set()
    while len(taken) < count and any(rules.values()):
        for name in sorted(rules):
            while rules[name]:
                one = rules[name].pop()
                if (one.rule, one.path) not in seen:
                    seen.add((one.rule, one.path))
                    taken.append(one)
                    break
    return sorted(taken[:count], key=lambda one: (one.rule, one.order))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clones", type=Path)
    parser.add_argument("--draw", choices=DRAWS, required=True, nargs="+")
    parser.add_argument("--rule", nargs="+", help="these alone")
    parser.add_argument("--group", choices=sorted(GROUPS), required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--show", action="store_true", help="print the lines around each finding")
    given = parser.parse_args()
    files = [file for draw in given.draw for file in sources(given.clones, draw, given.group)]
    found = [
        one for file in files for one in check(file, LintSection()) if given.rule is None or one.rule in given.rule
    ]
    texts = {file.path: file.content.splitlines() for file in files}
    counted = collections.Counter(one.rule for one in found)
    print(f"{len(files)} files, {len(found)} findings of {len(counted)} rules")
    for number, one in enumerate(drawn(found, given.count, given.seed), 1):
        print(f"{number}\t{one.rule}\t{one.path}:{one.span.line}:{one.span.column}\t{counted[one.rule]}")
        if given.show:
            print(f"    {one.message}\n    {one.remedy}")
            first = max(one.span.line - 4, 0)
            for at, line in enumerate(texts[one.path][first : one.span.end_line + 4], first + 1):
                print(f"  {'>' if one.span.line <= at <= one.span.end_line else ' '} {at:4} {line[:200]}")


if __name__ == "__main__":
    main()

"""Lints a corpus of public Dockerfiles: parsing beside BuildKit, files a second and findings beside hadolint.

    .venv/bin/python benchmarks/lint.py collect CLONES FOLDER
    .venv/bin/python benchmarks/lint.py run FOLDER [--buildkit PROGRAM] [--sample N]
    .venv/bin/python benchmarks/lint.py fix FOLDER

`collect` takes the Dockerfiles that lint-corpus.toml names out of Git clones (CLONES/OWNER+NAME) into FOLDER. PROGRAM
is `dockerfile-parse` of `tools/peers`. `--sample` prints findings to be judged by hand, the same for the same corpus.
`fix` mends every file as `lint --fix` does, and writes it anew as `lint --fix --rewrite` does. What comes of it must
parse; hold no finding of a rule that `--fix` mends; hold no more findings of any rule than before; keep its comments;
and stay as it is the second time.
"""

import argparse
import collections
import hashlib
import random
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import lint_beside

from tidewaiter.core.project import LintSection
from tidewaiter.lint import fixing
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source, kind_of
from tidewaiter.lint.finding import Finding
from tidewaiter.lint.many import check_all
from tidewaiter.lint.rewrite.rewriting import rewrite
from tidewaiter.lint.rewrite.step import Around
from tidewaiter.lint.rule import RULES

CORPUS = Path(__file__).with_name("lint-corpus.toml")
AT_MOST = 40
"""Files of one repository, the first by path: some write one Dockerfile for each version."""


def collect(clones: Path, folder: Path) -> None:
    """Write the files of the list's repositories, each content once, with the .dockerignore beside them."""
    known: set[str] = set()
    for row in tomllib.loads(CORPUS.read_text())["repositories"]:
        name = row["repository"].replace("/", "+")
        git = next((path for path in (clones / name).glob("**/HEAD") if (path.parent / "objects").is_dir()), None)
        if git is None:
            sys.exit(f"{clones / name}: no clone of {row['repository']}")
        count = 0
        for path, blob in listed(git.parent, row["commit"]):
            if kind_of(path.rpartition("/")[2], "") != "dockerfile" or blob in known or count == AT_MOST:
                continue
            known.add(blob)
            count += 1
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(shown(git.parent, blob))
        if count != row["files"]:
            sys.exit(f"{row['repository']}: {count} files, the list says {row['files']}")


def listed(git: Path, commit: str) -> Iterator[tuple[str, str]]:
    """Paths and objects of the regular files of a commit."""
    out = subprocess.run(
        ["git", "--git-dir", git, "ls-tree", "-r", "-z", commit], capture_output=True, check=True
    ).stdout
    for line in out.decode(errors="replace").split("\0")[:-1]:
        meta, _, path = line.partition("\t")
        mode, kind, blob = meta.split()
        if kind == "blob" and mode != "120000":
            yield path, blob


def shown(git: Path, blob: str) -> bytes:
    """The bytes of an object."""
    return subprocess.run(["git", "--git-dir", git, "cat-file", "blob", blob], capture_output=True, check=True).stdout


def sources(folder: Path) -> list[Source]:
    """The corpus, by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and kind_of(path.name, "") == "dockerfile")
    return [Source(path.as_posix(), "dockerfile", path.read_text("utf-8-sig")) for path in paths]


def refused(program: Path, files: Sequence[Source]) -> set[str]:
    """The paths that BuildKit's parser does not take."""
    said = subprocess.run(
        [program], input="".join(f"{one.path}\n" for one in files), capture_output=True, text=True, check=True
    ).stdout
    return {line.partition("\t")[0] for line in said.splitlines() if not line.endswith("\tok")}


def sample(found: Sequence[Finding], count: int, texts: dict[str, list[str]]) -> None:
    """Print findings to be judged: of each rule in turn, whichever its seed says."""
    rules: dict[str, list[Finding]] = collections.defaultdict(list)
    for one in found:
        rules[one.rule].append(one)
    for name, those in rules.items():
        random.Random(name).shuffle(those)
    taken: list[Finding] = []
    while len(taken) < count and any(rules.values()):
        taken += [those.pop() for those in rules.values() if those][: count - len(taken)]
    for one in sorted(taken, key=lambda one: (one.rule, one.order)):
        lines = texts[one.path][one.span.line - 1 : one.span.line + 1]
        print(f"{one.rule}\t{one.path}:{one.span.line}\n    {one.message}\n    {one.remedy}")
        print("".join(f"      | {line[:200]}\n" for line in lines))


def run(folder: Path, buildkit: Path | None, sampled: int) -> None:
    """Measure and print."""
    files = sources(folder)
    wanted = LintSection()
    check(files[0], wanted)  # modules are imported
    started, computing = time.perf_counter(), time.process_time()
    found = [one for file in files for one in check(file, wanted)]
    seconds, computing = time.perf_counter() - started, time.process_time() - computing
    if sampled:
        sample(found, sampled, {file.path: file.content.splitlines() for file in files})
        return
    print(f"{len(files)} files, sha256 of all {hashlib.sha256(''.join(f.content for f in files).encode()).hexdigest()}")
    print(
        f"tidewaiter: {len(found)} findings, {len(files) / seconds:.0f} files/s, "
        f"{len(files) / computing:.0f} files/s of processor time"
    )
    if buildkit is not None:
        ours = {one.path for one in found if one.rule == "dockerfile/syntax"}
        theirs = refused(buildkit, files)
        print(f"BuildKit refuses {len(theirs)}, we refuse {len(ours)}, only we: {sorted(ours - theirs)}")
    often = files * 5
    for processes in (1, 2, 4):
        started = time.perf_counter()
        count = sum(len(those) for _, those in check_all(often, wanted, processes=processes))
        if count != 5 * len(found):
            sys.exit(f"{processes} processes found something else")
        print(f"five times that in {processes} processes: {len(often) / (time.perf_counter() - started):.0f} files/s")
    spent, said = lint_beside.hadolint(files)
    print(f"hadolint: {len(said)} findings, {len(files) / spent:.0f} files/s")
    for line in lint_beside.told(files, found, said):
        print(line)


def fix(folder: Path) -> None:
    """Mend every file, and write it anew, and look whether the result holds; exits with 1 when one does not."""
    wanted, around = LintSection(), Around(read=lambda _: "numpy==1.26.4\n")
    files = [file for file in sources(folder) if not _refused(check(file, wanted))]
    ways: dict[str, Callable[[Source], str]] = {
        "--fix": lambda file: fixing.mend(file, wanted).content,
        "--fix --rewrite": lambda file: rewrite(file, wanted, around).mended.content,
    }
    wrong = 0
    for name, way in ways.items():
        started, changed, mended = time.process_time(), 0, 0
        mistakes: collections.Counter[str] = collections.Counter()
        for file in files:
            content = way(file)
            changed += content != file.content
            before, found = check(file, wanted), check(file._replace(content=content), wanted)
            mended += sum(RULES[one.rule].mends for one in before)
            for what, why in unlike(file, content, before, found, again=way):
                mistakes[what] += 1
                print(f"{name} {file.path}: {what}: {why}")
        seconds = time.process_time() - started
        print(f"{name}: {len(files)} files that BuildKit takes, {changed} changed, {seconds:.0f} s of processor time;")
        print(f"  findings of rules that --fix mends, before: {mended}")
        for what in KEPT:
            print(f"  {what}: {len(files) - mistakes[what]} of {len(files)}")
        wrong += mistakes.total()
    if wrong:
        sys.exit(1)


PARSES, PASSES, NOTHING_NEW = "parses", "no finding of a rule that --fix mends", "no more findings of any rule"
COMMENTS, SETTLED = "all comments", "nothing to do the second time"
KEPT = (PARSES, PASSES, NOTHING_NEW, COMMENTS, SETTLED)
"""What must hold of each file afterwards."""


def _refused(found: Sequence[Finding]) -> bool:
    return any(one.rule.endswith("/syntax") for one in found)


def unlike(
    file: Source, content: str, before: Sequence[Finding], found: Sequence[Finding], *, again: Callable[[Source], str]
) -> Iterator[tuple[str, str]]:
    """What does not hold of a file that was mended, and why, each once."""
    if _refused(found):
        yield PARSES, "it does not parse any more"
    left = [one for one in found if one.rule in RULES and RULES[one.rule].mends]
    if left:
        yield PASSES, ", ".join(f"{one.rule} in line {one.span.line}: {one.left}" for one in left)
    if fixing.is_worse(before, found):
        yield NOTHING_NEW, "a rule finds more than before"
    lost = [line for line in file.content.split("\n") if line.lstrip().startswith("#") and line not in content]
    if lost:
        yield COMMENTS, f"it was {lost[0]}"
    if again(file._replace(content=content)) != content:
        yield SETTLED, "it changes again"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("clones", type=Path)
    collecting.add_argument("folder", type=Path)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--buildkit", type=Path)
    running.add_argument("--sample", type=int, default=0)
    mending = commands.add_parser("fix")
    mending.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.command == "collect":
        collect(given.clones, given.folder)
    elif given.command == "fix":
        fix(given.folder)
    else:
        run(given.folder, given.buildkit, given.sample)


if __name__ == "__main__":
    main()

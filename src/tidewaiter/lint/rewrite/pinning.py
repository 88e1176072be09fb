"""Bases named by digest, where somebody knows it."""

import re

from tidewaiter.lint.dockerfile.parse import Dockerfile
from tidewaiter.lint.dockerfile.rules.base import named
from tidewaiter.lint.finding import Edit
from tidewaiter.lint.rewrite.step import Around, Step, replacement

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pinned(file: Dockerfile, around: Around) -> Step:
    """`FROM IMAGE:TAG@sha256:…` for the images whose digest is known; the others are left."""
    edits: list[Edit] = []
    done, left = [], []
    for stage in file.stages:
        found = named(stage)
        if found is None or found[2]:
            continue
        written = stage.start.args[0]
        if written != stage.base:
            left.append(f"{written} is not pinned: an argument of the build names it")
            continue
        digest = around.digest(stage.base)
        if digest is None or not _DIGEST.fullmatch(digest):
            left.append(f"{stage.base} is not pinned: its digest is not known here (--pin asks its registry)")
            continue
        span = stage.start.find(written)
        end = file.text.offset(span.end_line, span.end_column)
        edits.append(replacement(file.text, end, end, f"@{digest}"))
        done.append(f"{stage.base} is pinned to {digest}")
    return Step(tuple(edits), tuple(done), tuple(dict.fromkeys(left)))

"""What ONBUILD puts off, and no build takes."""

from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile, misses
from tidewaiter.lint.finding import Found
from tidewaiter.lint.rule import rule


@rule("dockerfile/onbuild-broken", "error")
def onbuild_broken(file: Dockerfile) -> Iterator[Found]:
    """ONBUILD puts off what no build takes.

    BuildKit keeps the text as it is and reads it when another image is built FROM this one: this build passes, and
    every build that stands on it fails.
    """
    for stage in file.stages:
        for one in stage.all_of("ONBUILD"):
            problem = "this is no instruction" if one.put_off is None else misses(one.put_off)
            if problem:
                yield Found(
                    span=one.span,
                    message=f"Every build FROM this image fails here: {problem}.",
                    remedy="Write an instruction that a Dockerfile could have in this place, or delete it.",
                )

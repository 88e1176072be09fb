"""What ONBUILD puts off, looked at where it runs: in stages of this file, and other builds, that stand on this one.

BuildKit runs it right behind their FROM. It changes nothing of the stage that it is written in, so rules see it in the
stage above only: in one of the file, or in one that is added for a build in another file (`Stage.outside`).
"""

from collections.abc import Iterator

import msgspec

from tidewaiter.lint.dockerfile.parse import Dockerfile, misses
from tidewaiter.lint.dockerfile.parse import parse as parse_file
from tidewaiter.lint.finding import Found, Span
from tidewaiter.lint.rule import Check
from tidewaiter.lint.text import Text

HERE = "ONBUILD puts it off: it happens in the stages of this file that stand on this one."
OUTSIDE = "ONBUILD puts it off: it happens in each image that is built FROM this one."


def parse(text: Text) -> Dockerfile:
    """The Dockerfile in the text, with what ONBUILD puts off where it runs. Raises `InputError`."""
    return parse_file(text, triggers=True)


def ask(file: Dockerfile, check: Check) -> Iterator[Found]:
    """What a rule finds in the file, also in what is put off; that says where it happens, and is said once."""
    put_off = {
        line
        for stage in file.stages
        for one in stage.all_of("ONBUILD")
        if one.put_off is not None and not misses(one.put_off)
        for line in range(one.lines[0], one.lines[1] + 1)
    }
    if not put_off:
        yield from check(file)
        return
    said: set[Span] = set()
    for view, where in ((file, HERE), *((one, OUTSIDE) for one in file.outside)):
        for found in check(view):
            if found.span.line not in put_off:
                if view is file:
                    yield found
            elif found.span not in said:
                said.add(found.span)
                yield msgspec.structs.replace(found, message=f"{found.message} {where}")

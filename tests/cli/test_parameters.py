"""From a function's signature to its command line."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import tidewaiter
from tidewaiter.cli.parameters import CommandLine, Parameter
from tidewaiter.core.errors import InputError

NOTHING: tuple[list[Any], dict[str, Any]] = ([], {})


def sample(
    source: str,
    target: Path | None = None,
    /,
    *,
    level: Literal["low", "high"],
    count: int = 3,
    dry: bool = False,
    whole: Annotated[bool, Parameter(negative="")] = False,
    key: Annotated[tuple[Path, ...], Parameter(name="--key", negative="")] = (),
    file: Annotated[str | None, Parameter(name=["--output", "-o"], help="where to; 100% of it")] = None,
) -> int:
    """Do a thing.

    More about it,
    over two lines.

    Args:
        source: what is read,
            wherever it is.
        level: how much.
        key: a key.
        file: is replaced.
    """
    raise AssertionError


def runs(image: str, /, *command: Annotated[str, Parameter(allow_leading_hyphen=True)], network: bool = False) -> int:
    """Run a command.

    Args:
        image: the image.
        command: the command.
    """
    raise AssertionError


def parsed(*words: str) -> tuple[list[Any], dict[str, Any]] | None:
    return CommandLine(sample, "program sample").parse(words)


def refused(*words: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parsed(*words)
    assert caught.value.code == "usage"
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    "words",
    [
        ("--level=high", "a", "b"),
        ("--level", "high", "a", "b"),
        ("a", "--level", "high", "b"),
        ("a", "b", "--level", "high"),
        ("a", "--level", "high", "--", "b"),
        ("--level", "high", "--", "a", "b"),
    ],
)
def test_options_stand_anywhere(words: tuple[str, ...]) -> None:
    """Before, between and after the arguments, with `=` or a blank, and never after `--`."""
    assert parsed(*words) == (["a", Path("b")], {"level": "high"})


def test_what_is_not_given_is_left_to_the_function() -> None:
    """Defaults are the function's own, so none is passed on."""
    assert parsed("a", "--level", "low") == (["a"], {"level": "low"})


def test_values_have_the_types_of_the_parameters() -> None:
    """Numbers, paths, flags and their opposites, and options that are repeated."""
    words = ("a", "--level", "low", "--count", "-5", "--dry", "--whole", "--key", "x", "--key=y", "-o", "f")
    assert parsed(*words) == (
        ["a"],
        {"level": "low", "count": -5, "dry": True, "whole": True, "key": (Path("x"), Path("y")), "file": "f"},
    )
    assert parsed("a", "--level", "low", "--no-dry") == (["a"], {"level": "low", "dry": False})
    assert parsed("a", "--level", "low", "--output=-x") == (["a"], {"level": "low", "file": "-x"})


@pytest.mark.parametrize("words", [("-o", "f"), ("-of",), ("-o=f",), ("--output", "f"), ("--output=f",)])
def test_a_value_is_the_next_word_or_in_the_same(words: tuple[str, ...]) -> None:
    """Both spellings of an option, with a blank, with `=`, and a short one with nothing between."""
    assert parsed("a", "--level", "low", *words) == (["a"], {"level": "low", "file": "f"})


def test_the_last_value_counts() -> None:
    """An option that takes one value and is given twice; a flag and its opposite."""
    words = ("a", "--level", "low", "--level", "high", "--dry", "--no-dry", "--output=")
    assert parsed(*words) == (["a"], {"level": "high", "dry": False, "file": ""})


def test_what_follows_two_hyphens_is_an_argument() -> None:
    """Names that begin with a hyphen can be given; a single hyphen is a name."""
    assert parsed("--level", "low", "--", "--whole", "-") == (["--whole", Path("-")], {"level": "low"})
    assert parsed("-", "--level", "low") == (["-"], {"level": "low"})


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("a", "--nonsense", "-h"), ("a", "--level", "low", "-h")])
def test_help_is_answered_before_anything_is_checked(words: tuple[str, ...]) -> None:
    """`--help` asks for no argument."""
    assert parsed(*words) is None


def test_help_says_everything() -> None:
    """Usage, description with its paragraphs, arguments, options, defaults, choices, what is required."""
    page = CommandLine(sample, "program sample").help()
    flat = " ".join(page.split())
    assert page.startswith("usage: program sample --level CHOICE [OPTIONS] SOURCE [TARGET]\n\nDo a thing.\n\n")
    assert "\n\nMore about it, over two lines.\n\n" in page
    for line in (
        "SOURCE what is read, wherever it is. [required]",
        "how much. [choices: low, high] [required]",
        "--count INT [default: 3]",
        "--no-dry",
        "--key PATH a key.",
        "where to; 100% of it",
        "-h, --help",
    ):
        assert line in flat
    assert "--no-whole" not in page
    assert "--no-key" not in page
    assert "Args" not in page


@pytest.mark.parametrize(
    ("words", "message", "next_step"),
    [
        ((), "SOURCE is missing", "Give what is read, wherever it is; see `program sample --help`."),
        (("a",), "--level is missing", "Give low or high; see `program sample --help`."),
        (("a", "--level"), "--level: expected one argument", "See `program sample --help`."),
        (("--level", "--dry", "a"), "--level: expected one argument", "See `program sample --help`."),
        (("a", "--level", "--", "low"), "--level: expected one argument", "See `program sample --help`."),
        (("a", "--level", "hgih"), "--level cannot be 'hgih'", "Did you mean high? Give low or high."),
        (
            ("a", "--lev", "low"),
            "there is no option '--lev'",
            "Did you mean --level? `program sample --help` lists all.",
        ),
        (
            ("a", "--cuont=4"),
            "there is no option '--cuont'",
            "Did you mean --count? `program sample --help` lists all.",
        ),
        (("a", "-x"), "there is no option '-x'", "`program sample --help` lists all."),
        (
            ("a", "--level", "low", "--count", "four"),
            "--count cannot be 'four': it is not a number",
            "See `program sample --help`.",
        ),
        (("a", "b", "c", "--level", "low"), "'c' is one argument too many", "See `program sample --help`."),
    ],
)
def test_wrong_usage_names_the_word_and_what_to_write(words: tuple[str, ...], message: str, next_step: str) -> None:
    """Exit code 2, code `usage`, the nearest match where there is one; an option's beginning is not the option."""
    error = refused(*words)
    assert (error.message, error.next_step) == (message, next_step)


def test_a_flag_takes_no_value() -> None:
    """`--dry=no` is refused, never read as yes."""
    assert refused("a", "--level", "low", "--dry=no").message == "--dry takes no value"


@pytest.mark.parametrize(
    ("words", "positional", "options"),
    [
        (("i",), ["i"], {}),
        (("i", "ls", "-h", "--network"), ["i", "ls", "-h", "--network"], {}),
        (("--network", "i", "ls"), ["i", "ls"], {"network": True}),
        (("i", "--", "ls", "-l"), ["i", "ls", "-l"], {}),
        (("--network", "i", "--", "--network"), ["i", "--network"], {"network": True}),
        (("i", "git", "log", "--", "a"), ["i", "git", "log", "--", "a"], {}),
        (("i", "--", "git", "log", "--", "a"), ["i", "git", "log", "--", "a"], {}),
        (("i", "--help"), ["i", "--help"], {}),
    ],
)
def test_a_command_is_passed_on_as_it_is(
    words: tuple[str, ...], positional: list[str], options: dict[str, bool]
) -> None:
    """What follows the image belongs to the command, options and a second `--` too."""
    assert CommandLine(runs, "program runs").parse(words) == (positional, options)


def test_a_command_without_its_image_is_refused() -> None:
    """Nothing at all, and an unknown option before the image, are wrong usage."""
    with pytest.raises(InputError, match="IMAGE is missing"):
        CommandLine(runs, "program runs").parse(())
    with pytest.raises(InputError, match="no option '--netwrok'"):
        CommandLine(runs, "program runs").parse(("--netwrok", "i", "ls"))


def test_a_function_that_is_no_command_is_found_at_once() -> None:
    """Parameters that could be given both ways, and types that no word can be, are refused when the line is made."""

    def both(name: str) -> None:
        raise AssertionError

    def odd(*, name: dict[str, str]) -> None:
        raise AssertionError

    for function in (both, odd):
        with pytest.raises(TypeError):
            CommandLine(function, "x")


SCRIPT = """
import sys
from typing import *

sys.path.insert(0, {source!r})
from tidewaiter.cli.parameters import CommandLine, Parameter

def pull(a: str, b: str | None = None, /, *, form: Annotated[str, Parameter(name="--form", help="100%")] = "") -> int:
    pass

def run(a: str, /, *b: Annotated[str, Parameter(allow_leading_hyphen=True)], net: bool = False) -> int:
    pass

print([CommandLine(pull, "x").parse(words.split()) for words in ("i --form j n", "--form j -- -i n", "i")])
print([CommandLine(run, "x").parse(words.split()) for words in ("--net i -- l -- a", "i l -- -h", "-- i l")])
assert "100%" in CommandLine(pull, "x").help()
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_supported_python_reads_a_line_alike(version: str) -> None:
    """The same words give the same values in each Python that is installed; nothing but its library is needed."""
    python = _python(version)
    if python is None:
        pytest.skip(f"python{version} is not installed")
    source = Path(tidewaiter.__file__).parents[1]
    script = SCRIPT.format(source=str(source))
    done = subprocess.run(
        [python, "-I", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "[(['i', 'n'], {'form': 'j'}), (['-i', 'n'], {'form': 'j'}), (['i'], {})]",
        "[(['i', 'l', '--', 'a'], {'net': True}), (['i', 'l', '--', '-h'], {}), (['i', 'l'], {})]",
    ]


def _python(version: str) -> str | None:
    """An interpreter that runs; a pyenv shim on PATH may not."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    named = shutil.which(f"python{version}")
    for python in (sys.executable, *map(str, pyenv), *([named] if named else ())):
        asked = subprocess.run(
            [python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0 and asked.stdout.startswith(f"{version}."):
            return str(python)
    return None

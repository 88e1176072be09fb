"""A shell script as rules read it: its commands with their places, and what model servers they start."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from tidewaiter.lint import serving, shell
from tidewaiter.lint.finding import Span
from tidewaiter.lint.shell import Command, Word
from tidewaiter.lint.text import Text

_HEREDOC = re.compile(r"(?<!<)<<-?[ \t]*(?P<quote>['\"]?)(?P<name>\w+)(?P=quote)")
_TENSORFLOW = re.compile(r"tensorflow(?:-cpu|-gpu)?(?:\[[\w,-]*\])?==(?P<version>\d+\.\d+(?:\.\d+)*)")
_METRICS = "/monitoring/prometheus/metrics"
_ENGINES = frozenset({"docker", "podman", "nerdctl"})


class Call(NamedTuple):
    """One call of a program that rules know."""

    arguments: tuple[Word, ...]
    """Behind the program."""
    version: str
    """Of what is called; empty when it is not said."""


class Script:
    """A parsed script. Here-documents are left out: they are data, or scripts for somebody else."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.commands: tuple[Command, ...] = tuple(shell.commands(_without_heredocs(text)))

    def span(self, word: Word) -> Span:
        """The place of a word."""
        return Span(*self.text.place(word.start), *self.text.place(word.end))

    @cached_property
    def reads_metrics(self) -> bool:
        """Whether the script asks a model server for its metrics."""
        return _METRICS in self.text.content

    def servers(self) -> Iterator[Call]:
        """Model servers that it starts, by themselves or as containers of tensorflow/serving."""
        for command in self.commands:
            if command.program == serving.SERVER:
                yield Call(behind(command), "")
            elif command.program in _ENGINES and "run" in command.arguments[:2]:
                yield from _container(command)

    def converters(self) -> Iterator[Call]:
        """Calls of `tflite_convert`; the version when the script installs one TensorFlow alone."""
        said = {found["version"] for found in _TENSORFLOW.finditer(self.text.content)}
        version = said.pop() if len(said) == 1 else ""
        for command in self.commands:
            if command.program == serving.CONVERTER:
                yield Call(behind(command), version)
            elif command.arguments[1:3] == ("-m", "tensorflow.lite.python.tflite_convert"):
                yield Call(behind(command)[2:], version)


def behind(command: Command) -> tuple[Word, ...]:
    """The words behind the program."""
    return command.words[len(command.words) - len(command.arguments) + 1 :]


def _container(command: Command) -> Iterator[Call]:
    """The server in a container, when nobody replaces the image's entry point."""
    words = behind(command)
    at = next((index for index, word in enumerate(words) if serving.is_server(word.value)), None)
    if at is not None and not any(word.value.startswith("--entrypoint") for word in words[:at]):
        arguments = words[at + 1 :]
        if arguments and arguments[0].value.rpartition("/")[2] == serving.SERVER:
            arguments = arguments[1:]
        yield Call(arguments, serving.server_version(words[at].value))


def _without_heredocs(text: Text) -> str:
    """The script with blanks in the place of here-documents, so that all places stay."""
    lines = text.content.split("\n")
    waiting: list[str] = []
    for index, line in enumerate(lines):
        if waiting:
            if line.strip() == waiting[0]:
                waiting.pop(0)
            lines[index] = " " * len(line)
        elif "<<" in line and not line.lstrip().startswith("#"):
            waiting = [found["name"] for found in _HEREDOC.finditer(line)]
    return "\n".join(lines)


def parse(text: Text) -> Script:
    """The script in the text."""
    return Script(text)

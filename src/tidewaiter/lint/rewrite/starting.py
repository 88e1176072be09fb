"""CMD and ENTRYPOINT in exec form, so that signals reach the process."""

import json

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction
from tidewaiter.lint.finding import Edit
from tidewaiter.lint.rewrite.step import Around, Step, has_comment

_NEEDS_SHELL = frozenset("$*?~`<>(){}[]!;&|\\\"'#=%")
_BUILTINS = frozenset(
    {
        *(".", ":", "[", "alias", "cd", "eval", "export", "read", "set", "shift", "source", "test", "trap", "ulimit"),
        *("umask", "unset", "wait", "if", "for", "while", "case", "until"),
    }
)


def exec_form(file: Dockerfile, _around: Around) -> Step:
    """CMD and ENTRYPOINT of the last stage that need no shell, without one."""
    edits: list[Edit] = []
    done, left = [], []
    for one in file.last.all_of("CMD", "ENTRYPOINT"):
        if one.json or not one.args:
            continue
        why = _needs(file, one)
        if why:
            left.append(f"{one.name} keeps its shell: {why}")
            continue
        words = [word.value for word in one.commands[0].words]
        edits.append(Edit(one.span, f"{one.name} {json.dumps(words, ensure_ascii=False)}"))
        done.append(f"{one.name} starts {words[0]} without a shell, so that signals reach it")
    return Step(tuple(edits), tuple(done), tuple(left))


def _needs(file: Dockerfile, one: Instruction) -> str:
    """Why the shell is needed, or may be; empty when it is not."""
    commands = one.commands
    line = " ".join(one.args)
    if file.last.inherited("SHELL") or len(commands) != 1 or commands[0].assignments or commands[0].after:
        return "it is more than one command, or SHELL says what reads it"
    if _NEEDS_SHELL.intersection(line) or has_comment(file.text, one):
        return "the shell fills in variables, patterns or quotes"
    first = commands[0].words[0].value
    if first in _BUILTINS or first == "exec":
        return f"{first} is the shell's own"
    # In shell form ENTRYPOINT ignores CMD; in exec form CMD is handed to it.
    if one.name == "ENTRYPOINT" and file.last.inherited("CMD"):
        return "in exec form it would be given CMD as arguments"
    if one.name == "CMD" and file.last.inherited("ENTRYPOINT"):
        return "it is what ENTRYPOINT is given"
    return ""

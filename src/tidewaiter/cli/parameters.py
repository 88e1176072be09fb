"""From a function to a command line: its signature says which arguments and options there are, its docstring what for.

A command is a plain function. Positional-only parameters are arguments, `*rest` takes what is left, keyword-only
parameters are options. `Annotated[T, Parameter(...)]` says what the signature cannot. The docstring's section `Args:`
describes the parameters, all before it the command. Types: `str`, `int`, `float`, `Path`, `bool`, `Literal`,
`T | None`, and `tuple[T, ...]` for an option that may be given several times.

An option stands before, between or after the arguments, as `--name value`, `--name=value`, `-n value` or `-nvalue`, and
is written out. What follows `--` are arguments.
"""

import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tidewaiter.core.errors import InputError

_METAVARS = {str: "TEXT", int: "INT", float: "NUMBER", Path: "PATH"}
_VARIADIC = 0x04  # CO_VARARGS of a code object: the function takes *rest
_NO_DEFAULT = object()
_HELP = ("--help", "-h")


class Parameter:
    """What a signature cannot say of a parameter.

    `name` replaces the option's name (or names), `help` the text of the docstring. `negative=""` leaves out the
    `--no-NAME` of a flag. `allow_leading_hyphen` lets `*rest` take everything after the arguments, options too.
    """

    def __init__(
        self,
        *,
        name: str | Sequence[str] | None = None,
        help: str = "",  # noqa: A002  # reads as what it is, and lives in this signature only
        negative: str | None = None,
        allow_leading_hyphen: bool = False,
    ) -> None:
        self.names: tuple[str, ...] = (name,) if isinstance(name, str) else tuple(name or ())
        self.help = help
        self.negative = negative
        self.allow_leading_hyphen = allow_leading_hyphen


# Plain classes: this is loaded for every command, and making a named tuple takes longer than all its use.


class _Kind:
    """What a value may be: one of `choices`, or whatever `convert` takes; several of them when `repeated`."""

    __slots__ = ("choices", "convert", "repeated")

    def __init__(self, convert: type, choices: tuple[str, ...], *, repeated: bool) -> None:
        self.convert = convert
        self.choices = choices
        self.repeated = repeated

    @property
    def metavar(self) -> str:
        return "CHOICE" if self.choices else _METAVARS[self.convert]


class Described:
    """One parameter of the function."""

    __slots__ = ("default", "help", "kind", "name", "negative", "options")

    def __init__(
        self,
        name: str,
        kind: _Kind,
        default: Any,  # noqa: ANN401  # whatever the parameter's type is
        *,
        options: tuple[str, ...],
        negative: str,
        help: str,  # noqa: A002  # as in `Parameter`
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        """`_NO_DEFAULT` when it must be given."""
        self.options = options
        """How an option is spelled; empty for an argument."""
        self.negative = negative
        self.help = help

    @property
    def label(self) -> str:
        return self.options[0] if self.options else self.name.upper()

    @property
    def required(self) -> bool:
        return self.default is _NO_DEFAULT

    @property
    def full_help(self) -> str:
        parts = [self.help]
        if self.kind.choices:
            parts.append(f"[choices: {', '.join(self.kind.choices)}]")
        if self.required:
            parts.append("[required]")
        elif self.default is not False and self.default not in (None, "", ()):
            parts.append(f"[default: {self.default}]")
        return " ".join(part for part in parts if part)


class _HelpWanted(Exception):  # noqa: N818  # not an error
    """`--help` was met."""


def _usage(message: str, next_step: str) -> InputError:
    return InputError(message, next_step=next_step, code="usage")


def _either(words: Sequence[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def _nearest(word: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(word, known, n=1)
    return f"Did you mean {found[0]}?" if found else ""


def unknown(what: str, word: str, known: Sequence[str], help_call: str) -> InputError:
    """The error for a word that is none of those known: names the nearest, and where all are listed."""
    hint = _nearest(word, known)
    return _usage(f"there is no {what} {word!r}", f"{hint} `{help_call}` lists all.".lstrip())


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _kind(hint: Any) -> _Kind:  # noqa: ANN401  # any annotation
    if get_origin(hint) in {Union, types.UnionType}:
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        inner, ellipsis = get_args(hint)
        if ellipsis is ...:
            one = _kind(inner)
            return _Kind(one.convert, one.choices, repeated=True)
    if get_origin(hint) is Literal:
        return _Kind(str, get_args(hint), repeated=False)
    if hint is not bool and hint not in _METAVARS:
        raise TypeError(f"no option or argument can be {hint}")
    return _Kind(hint, (), repeated=False)


def _documented(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """The description and the parameters' texts, by name, of a docstring."""
    text, _, section = (function.__doc__ or "").partition("\n    Args:\n")
    parameters: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        depth = len(line) - len(line.lstrip())
        if depth == 8:
            name, _, described = line.strip().partition(": ")
            parameters[name] = described
        elif depth > 8:
            parameters[name] += f" {line.strip()}"
    return "\n".join(line.strip() for line in text.strip().splitlines()), parameters


class CommandLine:
    """The command line of `function`, called `call` (as `tidewaiter build`)."""

    def __init__(self, function: Callable[..., object], call: str) -> None:
        self._call, self._help_call = call, f"{call} --help"
        code = function.__code__
        positional_only, keyword_only = code.co_posonlyargcount, code.co_kwonlyargcount
        if code.co_argcount != positional_only:
            raise TypeError(f"{function.__qualname__}: parameters must be positional-only or keyword-only")
        self._description, self._texts = _documented(function)
        self._hints = get_type_hints(function, include_extras=True)
        names, defaults = code.co_varnames, function.__defaults__ or ()
        self._arguments = [
            self._described(name, default)
            for name, default in zip(
                names[:positional_only],
                (*([_NO_DEFAULT] * (positional_only - len(defaults))), *defaults),
                strict=True,
            )
        ]
        self._options = [
            self._described(name, (function.__kwdefaults__ or {}).get(name, _NO_DEFAULT), option=True)
            for name in names[positional_only : positional_only + keyword_only]
        ]
        self._rest: Described | None = None
        self._rest_takes_all = False
        if code.co_flags & _VARIADIC:
            name = names[positional_only + keyword_only]
            self._rest = self._described(name, ())
            self._rest_takes_all = self._extra(name).allow_leading_hyphen
        self._spelled: dict[str, tuple[Described, bool | None]] = {}
        """Each way to write an option; with the value of a flag, None for others."""
        for one in self._options:
            flag = True if one.kind.convert is bool else None
            self._spelled |= dict.fromkeys(one.options, (one, flag))
            if one.negative:
                self._spelled[one.negative] = (one, False)

    def _extra(self, name: str) -> Parameter:
        hint = self._hints[name]
        if get_origin(hint) is Annotated:
            for extra in get_args(hint)[1:]:
                if isinstance(extra, Parameter):
                    return extra
        return Parameter()

    def _described(self, name: str, default: object, *, option: bool = False) -> Described:
        hint, extra = self._hints[name], self._extra(name)
        kind = _kind(get_args(hint)[0] if get_origin(hint) is Annotated else hint)
        spelled = name.strip("_").replace("_", "-")
        options = (extra.names or (f"--{spelled}",)) if option else ()
        negative = ""
        if kind.convert is bool:
            negative = f"--no-{options[0].lstrip('-')}" if extra.negative is None else extra.negative
        described = extra.help or self._texts.get(name, "")
        return Described(name, kind, default, options=options, negative=negative, help=described)

    def help(self) -> str:
        """The help page."""
        from tidewaiter.cli.help_page import page

        arguments = (*self._arguments, *((self._rest,) if self._rest else ()))
        words = [one.label if one.required else f"[{one.label}]" for one in self._arguments]
        words += [f"[{self._rest.label}...]"] if self._rest else []
        return page(self._call, words, self._description, arguments, self._options)

    def parse(self, words: Sequence[str]) -> tuple[list[Any], dict[str, Any]] | None:
        """Positional and keyword arguments for the function; None when `--help` is among the words.

        Raises:
            InputError: the words do not fit, with the code `usage`.
        """
        cut = words.index("--") if "--" in words else len(words)
        tail = list(words[cut + 1 :])
        try:
            found, given = self._sorted(words[:cut])
        except _HelpWanted:
            return None
        if self._rest_takes_all and len(found) > len(self._arguments) and cut < len(words):
            tail.insert(0, "--")  # it belongs to the command that has begun already
        return self._positional([*found, *tail]), self._keywords(given)

    def _sorted(self, words: Sequence[str]) -> tuple[list[str], dict[str, list[str | bool]]]:
        """The words that are no options, and what each option is given, by the name of its parameter."""
        found: list[str] = []
        given: dict[str, list[str | bool]] = {}
        strange = ""
        left = iter(words)
        for word in left:
            if found and self._rest_takes_all:
                found += [word, *left]
            elif word in _HELP:
                raise _HelpWanted
            elif not _is_option(word):
                found.append(word)
            else:
                option, value = self._split(word)
                if option in self._spelled:
                    one, flag = self._spelled[option]
                    given.setdefault(one.name, []).append(self._given(option, value, left, flag=flag))
                else:
                    strange = strange or option  # not said yet: `--help` may follow
        if strange:
            raise unknown("option", strange, [*self._spelled, "--help"], self._help_call)
        return found, given

    def _split(self, word: str) -> tuple[str, str | None]:
        """The option in `word`, and the value when it is in there too."""
        if not word.startswith("--") and word[:2] in self._spelled:
            return word[:2], word[2:].removeprefix("=") or None
        option, equals, value = word.partition("=")
        return option, value if equals else None

    def _given(self, option: str, value: str | None, left: Iterator[str], *, flag: bool | None) -> str | bool:
        if flag is not None:
            if value is not None:
                raise _usage(f"{option} takes no value", f"See `{self._help_call}`.")
            return flag
        if value is None:
            value = next(left, None)
            if value is None or (_is_option(value) and not value[1:].replace(".", "", 1).isdecimal()):
                raise _usage(f"{option}: expected one argument", f"See `{self._help_call}`.")
        return value

    def _positional(self, words: list[str]) -> list[Any]:
        described = list(self._arguments)
        for one in described[len(words) :]:
            if one.required:
                raise self._missing(one)
        if self._rest:
            described += [self._rest] * (len(words) - len(described))
        elif len(words) > len(described):
            raise _usage(f"{words[len(described)]!r} is one argument too many", f"See `{self._help_call}`.")
        return [self._value(one, word) for one, word in zip(described, words, strict=False)]

    def _keywords(self, given: dict[str, list[str | bool]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for one in self._options:
            if one.name in given:
                taken = [raw if isinstance(raw, bool) else self._value(one, raw) for raw in given[one.name]]
                values[one.name] = tuple(taken) if one.kind.repeated else taken[-1]
            elif one.required:
                raise self._missing(one)
        return values

    def _missing(self, one: Described) -> InputError:
        wanted = _either(one.kind.choices) if one.kind.choices else one.help.rstrip(".")
        return _usage(f"{one.label} is missing", f"Give {wanted or one.label}; see `{self._help_call}`.")

    def _value(self, one: Described, text: str) -> Any:  # noqa: ANN401  # whatever the parameter's type is
        if one.kind.choices:
            if text not in one.kind.choices:
                hint = _nearest(text, one.kind.choices)
                raise _usage(f"{one.label} cannot be {text!r}", f"{hint} Give {_either(one.kind.choices)}.".lstrip())
            return text
        try:
            return one.kind.convert(text)
        except ValueError as error:
            raise _usage(f"{one.label} cannot be {text!r}: it is not a number", f"See `{self._help_call}`.") from error

"""What a maintainer script would do when its package is installed for the first time, found out without running it.

The script is followed as a shell would, with the arguments that dpkg gives on a first installation
(`preinst install`, `postinst configure ""`; Debian Policy 6.5). Conditions on these arguments have an answer; where
a condition asks for something else, both ways are followed. Commands count as known when they change nothing in an
image, or when their work is done here (`update-alternatives`). Anything else makes the script unknown. So scripts
that debhelper generates, and those written like them, are known whatever their package.
"""

import fnmatch
import re

import msgspec

from tidewaiter.assembly.debian import shell
from tidewaiter.assembly.debian.shell import Case, Chain, Function, If, Loop, Negation, Node, Simple, Unreadable
from tidewaiter.core import limits


class Alternative(msgspec.Struct, frozen=True):
    """`update-alternatives --install`: paths in the image without the leading slash; `slaves` as (link, name, path)."""

    link: str
    name: str
    path: str
    priority: int
    slaves: tuple[tuple[str, str, str], ...] = ()


class Unknown(Exception):  # noqa: N818  # an answer, caught by `effects`, no error of the program
    """A statement does something that is not known."""


class _Exit(Exception):  # noqa: N818  # ends the script that is followed
    pass


class _Return(Exception):  # noqa: N818  # ends the function that is followed
    pass


ARGUMENTS = {"preinst": ("install",), "postinst": ("configure", "")}

# Programs of service managers, menus and byte compilers. An image has none of them: nothing is started in it by a
# package, and bytecode is made by its own interpreter.
_ABSENT = frozenset({
    "deb-systemd-helper", "deb-systemd-invoke", "gtk-update-icon-cache", "install-info", "invoke-rc.d", "py3clean",
    "py3compile", "pyclean", "pycompile", "pypy3clean", "pypy3compile", "systemctl", "systemd-sysusers",
    "systemd-tmpfiles", "udevadm", "update-desktop-database", "update-icon-caches", "update-initramfs",
    "update-menus", "update-mime", "update-rc.d",
})  # fmt: skip
# Change nothing that lasts, or only caches that are made again when they are missing.
_HARMLESS = _ABSENT | {
    ":", "dpkg-maintscript-helper", "echo", "false", "fc-cache", "ldconfig", "printf", "set", "true"
}  # fmt: skip
_ASKING = ("basename", "command", "dirname", "dpkg-architecture", "readlink", "uname", "which")
_ABSENT_PATHS = ("/run/systemd/*", "/var/lib/systemd/*", "/var/lib/dpkg/*", "/etc/init.d/*", "/usr/sbin/invoke-rc.d")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}$]*))?\}|(\w+)|([@*#?$!]))")
_QUIET = re.compile(r"(?:\d*>>?|&>|>&|\d*<)[ \t]*(?:/dev/null|&\d+|&-)|\d*>&\d+")
_FLAGS = frozenset({"--quiet", "--force", "--verbose", "--skip-auto"})


def _sets_options(words: list[str]) -> bool:
    """Whether `set` with these words changes options, not the arguments of the script."""
    return all(word.startswith(("-", "+")) and word != "--" for word in words)


class _Follower:
    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._arguments = arguments
        self._variables: dict[str, str | None] = {"DPKG_ROOT": ""}
        self._functions: dict[str, Node] = {}
        self._steps = 0
        self.alternatives: list[Alternative] = []

    def _value(self, word: str) -> str | None:
        """What a word expands to; None when that depends on what is not known."""
        if "$(" in word or "`" in word:
            return None
        unknown = False

        def expand(match: re.Match[str]) -> str:
            nonlocal unknown
            name = match[1] or match[3] or match[4]
            if name.isdigit() and name != "0":
                return self._arguments[int(name) - 1] if 0 < int(name) <= len(self._arguments) else match[2] or ""
            if name == "@":
                return " ".join(self._arguments)
            found = self._variables.get(name)
            if found is None:
                # A variable that is not set here may come from the environment.
                unknown = True
            return found or match[2] or ""

        def expanded(text: str) -> str:
            nonlocal unknown
            # An expansion of another kind (`${1%x}`) is not worked out.
            unknown = unknown or "$" in _VARIABLE.sub("", text)
            return _VARIABLE.sub(expand, text)

        parts = re.findall(r"""'([^']*)'|"((?:\\.|[^"\\])*)"|((?:\\.|[^'"\\])+)""", word, re.DOTALL)
        text = "".join(single or expanded(double or bare) for single, double, bare in parts)
        return None if unknown else text.replace("\\", "")

    # Each returns the exit status as true or false, or None when it is not known.

    def follow(self, node: Node) -> bool | None:  # noqa: PLR0911  # one line for each kind of command
        self._steps += 1
        if self._steps > limits.SCRIPT_STEPS:
            raise Unknown("a script without an end")
        match node:
            case Simple():
                return self._simple(node)
            case Negation():
                status = self.follow(node.node)
                return None if status is None else not status
            case Chain():
                return self._chain(node)
            case If():
                return self._if(list(node.branches))
            case Case():
                return self._case(node)
            case Loop():
                return self._loop(node)
            case Function():
                self._functions[node.name] = node.body
                return True

    def _chain(self, node: Chain) -> bool | None:
        piped = any(operator == "|" for operator, _ in node.rest)
        status = self._maybe(node.first) if piped else self.follow(node.first)
        for operator, following in node.rest:
            if operator == ";":
                status = self.follow(following)
            elif operator == "|":
                # Both sides run, whatever the first says, and each in a shell of its own.
                status = self._maybe(following)
            elif status is None:
                self._maybe(following)
            elif status is (operator == "&&"):
                status = self.follow(following)
        return status

    def _maybe(self, node: Node) -> bool | None:
        """Follow what may run or not: that must not make a difference."""
        before = (list(self.alternatives), dict(self._functions), self._arguments)
        variables = dict(self._variables)
        try:
            status = self.follow(node)
        except (_Exit, _Return) as error:
            raise Unknown("an exit that depends on what is not known") from error
        if (self.alternatives, self._functions, self._arguments) != before:
            raise Unknown("alternatives that depend on what is not known")
        for name in variables.keys() | self._variables.keys():
            if variables.get(name) != self._variables.get(name):
                self._variables[name] = None
        return status

    def _loop(self, node: Loop) -> bool | None:
        if node.condition is not None:
            self._maybe(node.condition)
        # The second time round sees what the first one has set.
        for _ in range(2):
            self._variables[node.name] = None
            self._maybe(node.body)
        return None

    def _if(self, branches: list[tuple[Node | None, Node]]) -> bool | None:
        for position, (condition, body) in enumerate(branches):
            status = True if condition is None else self.follow(condition)
            if status is None:
                for following, other in branches[position:]:
                    if following is not None and following is not condition:
                        self._maybe(following)
                    self._maybe(other)
                return None
            if status:
                return self.follow(body)
        return True

    def _case(self, node: Case) -> bool | None:
        if "`" in node.word or "$(" in node.word:
            self._substituted(node.word)
        value = self._value(node.word)
        for patterns, body in node.branches:
            if value is None:
                self._maybe(body)
                continue
            for pattern in patterns:
                wanted = self._value(pattern)
                if wanted is None:
                    raise Unknown(f"case {pattern}")
                if fnmatch.fnmatchcase(value, wanted):
                    return self.follow(body)
        return None if value is None else True

    def _simple(self, node: Simple) -> bool | None:
        if not all(_QUIET.fullmatch(redirect) for redirect in node.redirects):
            raise Unknown(" ".join((*node.words, *node.redirects)))
        for word in node.words:
            if "`" in word or "$(" in word:
                self._substituted(word)
        words = list(node.words)
        assigned: dict[str, str | None] = {}
        while words and (assignment := _ASSIGNMENT.fullmatch(words[0])):
            assigned[assignment[1]] = self._value(assignment[2])
            words.pop(0)
        if words:
            return self._run(words)  # what stands in front of a command is set for it alone
        self._variables |= assigned
        return True

    def _substituted(self, text: str) -> None:
        # What a program prints is not known; that it changes nothing must be.
        inner = re.fullmatch(r'(?:\w+=)?"?(?:\$\(([^`$;&|<>()\n]*)\)|`([^`$;&|<>()\n]*)`)"?', text)
        if not inner or (inner[1] or inner[2] or "").split()[:1] not in [[name] for name in _ASKING]:
            raise Unknown(text)

    def _run(self, words: list[str]) -> bool | None:  # noqa: PLR0911  # one line for each known command
        name = (
            words[0].rpartition("/")[2]
            if words[0].startswith(("/usr/bin/", "/usr/sbin/", "/sbin/", "/bin/"))
            else words[0]
        )
        shown = " ".join(words)
        if name in self._functions:
            return self._call(name, words[1:])
        if name in {"[", "test"}:
            return self._test(words[1:-1] if name == "[" else words[1:])
        if name == "dpkg" and words[1:2] == ["--compare-versions"]:
            return self._compare(words[2:])
        if name in {"command", "which", "type"}:
            wanted = [word for word in words[1:] if not word.startswith("-")]
            return False if wanted and wanted[0].rpartition("/")[2] in _ABSENT else None
        if name == "update-alternatives":
            return self._alternative(words[1:], shown)
        if name == "exit" and words[1:] in ([], ["0"]):
            raise _Exit
        if name == "return" and words[1:] in ([], ["0"]):
            raise _Return
        if name in {"export", "local", "unset"}:
            self._declare(words[1:])
            return True
        if name in _HARMLESS and (name != "set" or _sets_options(words[1:])):
            return name != "false"
        raise Unknown(shown)

    def _declare(self, words: list[str]) -> None:
        for word in words:
            assigned = _ASSIGNMENT.fullmatch(word)
            self._variables[assigned[1] if assigned else word] = self._value(assigned[2]) if assigned else None

    def _call(self, name: str, words: list[str]) -> bool | None:
        values = [self._value(word) for word in words if word not in {'"$@"', "$@"}]
        given = self._arguments if {'"$@"', "$@"} & set(words) else ()
        if None in values:
            raise Unknown(f"{name} {' '.join(words)}")
        before, self._arguments = self._arguments, (*(value or "" for value in values), *given)
        try:
            return self.follow(self._functions[name])
        except _Return:
            return True
        finally:
            self._arguments = before

    def _test(self, words: list[str]) -> bool | None:
        for operator in ("-o", "-a"):  # `-a` binds more tightly
            if operator in words:
                at = words.index(operator)
                first, rest = self._test(words[:at]), self._test(words[at + 1 :])
                decided = operator == "-o"
                if decided in {first, rest}:
                    return decided
                return None if None in {first, rest} else not decided
        if words[:1] == ["!"]:
            status = self._test(words[1:])
            return None if status is None else not status
        return self._primary(words, [self._value(word) for word in words])

    def _primary(self, words: list[str], values: list[str | None]) -> bool | None:
        match words, values:
            case [[_], [str(value)]]:
                return bool(value)
            case [["-n" | "-z" as operator, _], [_, str(value)]]:
                return bool(value) == (operator == "-n")
            case [[_, "=" | "==" | "!=" as operator, _], [str(left), _, str(right)]]:
                return (left == right) == (operator != "!=")
            case [[operator, _], [_, path]] if operator in {"-x", "-e", "-d", "-f", "-h", "-L", "-r", "-s", "-w"}:
                return self._there(path)
        return None

    @staticmethod
    def _there(path: str | None) -> bool | None:
        absent = path is not None and (
            path.rpartition("/")[2] in _ABSENT or any(fnmatch.fnmatchcase(path, one) for one in _ABSENT_PATHS)
        )
        return False if absent else None

    def _compare(self, words: list[str]) -> bool | None:
        """`dpkg --compare-versions`: no version is before any, with `-nl` after any (dpkg(1))."""
        if len(words) != 3 or self._value(words[0]) != "" or not self._value(words[2]):
            return None
        return words[1] in {"lt", "le", "gt-nl", "ge-nl", "<<", "<="}

    def _alternative(self, words: list[str], shown: str) -> bool | None:
        values = [self._value(word) for word in words if word not in _FLAGS]
        given = [value for value in values if value is not None]
        if len(given) != len(values) or not given:
            raise Unknown(shown)
        if given[0] in {"--remove", "--remove-all", "--auto"}:
            return True  # of versions before this one
        head, slaves = given[1:5], given[5:]
        if given[0] != "--install" or len(head) != 4 or not re.fullmatch(r"-?\d{1,9}", head[3]) or len(slaves) % 4:
            raise Unknown(shown)
        groups = [slaves[at : at + 4] for at in range(0, len(slaves), 4)]
        paths = [head[0], head[2], *(path for group in groups for path in (group[1], group[3]))]
        names = [head[1], *(group[2] for group in groups)]
        if any(group[0] != "--slave" for group in groups) or not all(path.startswith("/") for path in paths):
            raise Unknown(shown)
        if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._-]*", name) for name in names):
            raise Unknown(shown)
        self.alternatives.append(
            Alternative(
                link=head[0].strip("/"),
                name=head[1],
                path=head[2].strip("/"),
                priority=int(head[3]),
                slaves=tuple((link.strip("/"), name, path.strip("/")) for _, link, name, path in groups),
            )
        )
        return True


def effects(name: str, script: bytes) -> tuple[Alternative, ...]:
    """What the script `name` (preinst or postinst) would do on a first installation: alternatives, nothing else.

    Raises:
        Unknown: it would do something else, or cannot be followed; the message is the statement.
    """
    lines = script.decode(errors="replace")
    if not re.match(r"#! ?/bin/(?:sh|dash|bash)(?: -\w+)*\s*\n", lines):
        raise Unknown(lines.partition("\n")[0][:80])
    follower = _Follower(ARGUMENTS[name])
    try:
        follower.follow(shell.parse(lines))
    except _Exit:
        pass
    except _Return as error:
        raise Unknown("return outside a function") from error
    except (Unreadable, RecursionError) as error:
        raise Unknown(str(error)[:200]) from error
    return tuple(follower.alternatives)

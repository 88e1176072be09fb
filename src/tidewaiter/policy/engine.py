"""Rego engines: each a pool of child processes that hold one pack.

A pool serves one pack, so that a rule without end delays nobody whose rules are others. The parent never parses Rego.
A child that dies, is late or answers oddly gives an `Evaluation` that says so; what decides with it must deny.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol, Self

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.policy.input import PolicyInput, shipped_schema
from tidewaiter.policy.mentions import Needs
from tidewaiter.policy.pack import Module, Pack
from tidewaiter.policy.process import COMMAND, ENVIRONMENT, Child, ChildError


class PackageAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What one Rego package gave for `results`, unchecked; or why there is nothing."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


class Evaluation(msgspec.Struct, frozen=True):
    """What an engine answered: each package by name; `failure` says why there is no answer at all."""

    packages: dict[str, PackageAnswer]
    failure: str = ""


class TestCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test rule: its file and its full name."""

    __test__ = False

    file: str
    name: str


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a rule gives its result, and the fields of `input` that it may read, as paths from `input`."""

    file: str
    line: int
    reads: tuple[tuple[str, ...], ...]


class Engine(Protocol):
    """Evaluates one pack."""

    @property
    def pack(self) -> Pack:
        """The pack that this engine holds."""

    def evaluate(self, document: PolicyInput) -> Evaluation:
        """What the pack's rules say of `document`. Does not raise for what rules or children do."""


class PartEngine(Engine, Protocol):
    """An engine that can be asked some packages only."""

    def evaluate(self, document: PolicyInput, packages: Collection[str] | None = None) -> Evaluation:
        """As an engine; of `packages` alone (None: all of them), but it may answer for others, too."""


class WaitingEngine:
    """An engine that is started when it is first asked: where every answer is known, none is needed.

    Use as a context manager; one thread at a time. What `start` raises, `evaluate` raises.
    """

    def __init__(self, pack: Pack, start: Callable[[], AbstractContextManager[PartEngine]]) -> None:
        self.pack = pack
        self._start = start
        self._stack = ExitStack()
        self._engine: PartEngine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def started(self) -> bool:
        """Whether something was asked."""
        return self._engine is not None

    def start(self) -> PartEngine:
        """The engine, which runs now. Raises what its start raises."""
        if self._engine is None:
            self._engine = self._stack.enter_context(self._start())
        return self._engine

    def evaluate(self, document: PolicyInput, packages: Collection[str] | None = None) -> Evaluation:
        """As the engine."""
        return self.start().evaluate(document, packages)


class _Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.file else self.message


class _LoadAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    packages: tuple[str, ...] = ()
    tests: tuple[TestCase, ...] = ()
    refused: tuple[_Refusal, ...] = ()


class PooledEngine(ABC):
    """Evaluates `pack` in up to `children` processes; safe from many threads. Use as a context manager.

    Args:
        pack: read by `pack.load` or `layers.effective`; it is loaded into the first child at once.
        request: what a child is told to load.
        children: how many evaluations may run at the same time.
        seconds: deadline of one evaluation.

    Raises:
        InputError: the engine refuses the pack; the message starts with file and line.
        ChildError: no child could load the pack in time.
    """

    def __init__(self, pack: Pack, request: bytes, *, children: int, seconds: float) -> None:
        if len(request) >= limits.POLICY_INPUT_BYTES:
            raise LimitError(
                f"policy pack {pack.name} is over {limits.POLICY_INPUT_BYTES} bytes", next_step="Split the pack."
            )
        self._pack = pack
        self._needs = Needs(pack)
        self._seconds = seconds
        self._request = request
        self._free = threading.Semaphore(children)
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._closed = False
        self.packages: tuple[str, ...] = ()
        """Rego packages that give results."""
        self.tests: tuple[TestCase, ...] = ()
        """Test rules of the pack, when they were loaded."""
        self._idle.append(self._start())

    @abstractmethod
    def _child(self) -> Child:
        """A new child without a pack."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pack(self) -> Pack:
        """The pack that this engine holds."""
        return self._pack

    @property
    def networkless(self) -> bool:
        """Whether the idle children have left the network."""
        with self._lock:
            return all(child.networkless for child in self._idle)

    def close(self) -> None:
        """End all idle children; one that is at work ends after it."""
        with self._lock:
            self._closed = True
            children, self._idle = self._idle, []
        for child in children:
            child.close()

    def evaluate(self, document: PolicyInput, packages: Collection[str] | None = None) -> Evaluation:
        """What the rules of these packages (None: of all) say of `document`; others may answer, too.

        Does not raise for what rules or children do.
        """
        data = msgspec.json.encode(self._needs.of(document))
        if len(data) >= limits.POLICY_INPUT_BYTES:
            return Evaluation({}, f"the input is over {limits.POLICY_INPUT_BYTES} bytes")
        kind, data = (b"E", data) if packages is None else self._of_some(data, packages)
        try:
            return Evaluation(msgspec.json.decode(self._ask(kind, data), type=dict[str, PackageAnswer]))
        except ChildError as error:
            return Evaluation({}, error.message)
        except (InputError, ValueError, RecursionError) as error:
            return Evaluation({}, f"the policy engine's process answered something odd: {error}")

    def _of_some(self, document: bytes, packages: Collection[str]) -> tuple[bytes, bytes]:  # noqa: ARG002 - for those that can
        """Kind and body of a request about some packages; here all of them are asked."""
        return b"E", document

    def _ask(self, kind: bytes, body: bytes) -> bytes:
        with self._free:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            child = child or self._start()
            try:
                answer = child.ask(kind, body, seconds=self._seconds)
            except BaseException:
                child.close()
                raise
            with self._lock:
                if not self._closed:
                    self._idle.append(child)
                    return answer
            child.close()
            return answer

    def _start(self) -> Child:
        child = self._child()
        try:
            data = child.ask(b"L", self._request, seconds=limits.POLICY_LOAD_SECONDS)
            answer = msgspec.json.decode(data, type=_LoadAnswer)
        except BaseException:
            child.close()
            raise
        if answer.refused:
            child.close()
            raise InputError(
                "\n".join(str(problem) for problem in answer.refused),
                next_step="Mend the lines named; policy-input.schema.json lists every field of `input`.",
                code="bad_pack",
            )
        self.packages = answer.packages
        self.tests = answer.tests
        return child


class EmbeddedEngine(PooledEngine):
    """The engine that comes with the product; its children also check a pack before they load it.

    Args:
        pack: read by `pack.load` or `layers.effective`; it is parsed and checked in the first child at once.
        children: how many evaluations may run at the same time.
        seconds: deadline of one evaluation.
        with_tests: also load the pack's tests.

    Raises:
        InputError: the pack does not parse, names a field or function that does not exist, or uses a built-in that is
            not allowed; the message starts with file and line.
        ChildError: no child could load the pack in time.
    """

    def __init__(
        self, pack: Pack, *, children: int = 1, seconds: float = limits.POLICY_SECONDS, with_tests: bool = False
    ) -> None:
        request = _load_request(pack, pack.tests if with_tests else ())
        super().__init__(pack, request, children=children, seconds=seconds)

    def _child(self) -> Child:
        return Child(COMMAND, environment=ENVIRONMENT, seconds=self._seconds)

    def _of_some(self, document: bytes, packages: Collection[str]) -> tuple[bytes, bytes]:
        return b"P", b"%s\n%s" % (msgspec.json.encode(sorted(packages)), document)

    def run_test(self, name: str) -> PackageAnswer:
        """Value of one test rule.

        Raises:
            ChildError: the child died or was late.
        """
        return msgspec.json.decode(self._ask(b"T", name.encode()), type=PackageAnswer)

    def readings(self) -> dict[str, Reading]:
        """Where each rule stands and what of `input` it reads, by rule; without those whose place cannot be told.

        Raises:
            ChildError: the child died or was late.
        """
        names = msgspec.json.encode([rule.id for rule in self.pack.rules])
        return msgspec.json.decode(self._ask(b"R", names), type=dict[str, Reading])


def _load_request(pack: Pack, tests: tuple[Module, ...]) -> bytes:
    return msgspec.json.encode(
        {
            "modules": [(module.path, module.text) for module in (*pack.modules, *tests)],
            "tests": [module.path for module in tests],
            "data": msgspec.Raw(pack.data),
            "schema": msgspec.Raw(shipped_schema()),
        }
    )

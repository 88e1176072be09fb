"""The process between the engine and an OPA server: it starts the server, asks it, and takes it along when it ends.

Frames, requests and answers are those of `policy.child`: `L` loads a pack, `E` evaluates a document. Parent and OPA are
trusted to speak first and last; a rule is not, and its deadline is the parent's, who kills this process.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tidewaiter.core import confined, limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.policy import question
from tidewaiter.transport.local import LocalClient

_PAUSE = 0.01
_MESSAGE = 500


class _Server:
    """A running OPA that holds the pack, and the packages that are asked."""

    def __init__(self, request: dict[str, object]) -> None:
        modules, packages = request["modules"], request["packages"]
        if not (isinstance(modules, list) and isinstance(packages, list)):
            raise TypeError("malformed request")
        folder = Path(tempfile.mkdtemp(dir=str(request["folder"])))
        self.packages: list[str] = packages
        self.question = question.Question(packages, json.dumps(request))
        pack = folder / "pack"
        for path, text in [*modules, ("question.rego", self.question.module)]:
            file = pack / ("rego" if path != "question.rego" else "question") / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="")
        (pack / "data.json").write_text(json.dumps(request["data"]))
        self._pack, self._log, socket = pack, folder / "log", folder / "socket"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(request["program"]),
                    "run",
                    "--server",
                    *("--addr", f"unix://{socket}"),
                    *("--unix-socket-perm", "600"),
                    *("--log-level", "error"),
                    "--skip-version-check",
                    "--bundle",
                    pack,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},
                cwd=folder,
                preexec_fn=confined.end_with_parent,  # noqa: PLW1509  this process has one thread
            )
        self.client = LocalClient(socket)

    def trouble(self) -> str:
        """Why there is no server; empty once it answers. Waits for one or the other."""
        while self._process.poll() is None:
            try:
                self.client.ask("GET", "/health", seconds=limits.POLICY_LOAD_SECONDS, limit=limits.POLICY_ANSWER_BYTES)
            except UndeterminedError:
                time.sleep(_PAUSE)
            else:
                return ""
        said = self._log.read_text(errors="replace").replace(f"{self._pack}/rego/", "")
        return f"OPA ended with status {self._process.returncode}: {said.strip()[-_MESSAGE:]}"

    def evaluate(self, document: bytes | bytearray) -> bytes:
        """All packages in one question; one by one when that fails, to know which did."""
        body = b'{"input":' + document + b"}"
        status, data = self._ask(self.question.target, body)
        if status == 200:
            return self.question.answer(data)
        answers = {}
        for package in self.packages:
            status, data = self._ask(question.target(package), body)
            answers[package] = question.answer(status, data, f"{self._pack}/rego/")
        return json.dumps(answers).encode()

    def _ask(self, target: str, body: bytes) -> tuple[int, bytes]:
        # The parent's deadline is shorter than this.
        return self.client.ask("POST", target, body, seconds=3600, limit=limits.POLICY_ANSWER_BYTES)


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    memory, largest = int(sys.argv[1]), int(sys.argv[2])
    out = confined.answers()
    kept = confined.confine_program(memory=memory)
    confined.send(out, json.dumps({"ready": True, "network": kept.network}).encode())
    server: _Server | None = None
    while request := confined.receive(largest):
        kind, body = request[:1], request[1:]
        if kind == b"L" and server is None:
            server = _Server(json.loads(body))
            trouble = server.trouble()
            answer = {"refused": [{"file": "", "line": 0, "message": trouble}]} if trouble else {}
            confined.send(out, json.dumps({"packages": server.packages, **answer}).encode())
        elif kind == b"E" and server is not None:
            confined.send(out, server.evaluate(body))
        else:
            return


if __name__ == "__main__":
    main()

"""A real Git server over HTTP (`git http-backend`) with users and tokens, and repositories to fetch from it."""

import base64
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

_GIT = ("git", "-c", "user.name=Anna", "-c", "user.email=anna@example.com", "-c", "protocol.file.allow=always")
_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "HOME": "/nonexistent",
    "GIT_AUTHOR_DATE": "1767225600 +0000",
    "GIT_COMMITTER_DATE": "1767225600 +0000",
}


def git(folder: Path, *words: str, given: bytes | None = None) -> str:
    """What git answers in `folder`."""
    done = subprocess.run(
        [*_GIT, "-C", str(folder), *words], capture_output=True, input=given, env=_ENVIRONMENT, check=False
    )
    assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout.decode().strip()


def commit(folder: Path, files: dict[str, str | bytes], message: str = "a change") -> str:
    """Write the files, commit everything; the commit's hash."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "-q", "-b", "main")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


class Request(NamedTuple):
    """What a client asked."""

    path: str
    authorization: str


class GitServer:
    """Serves every repository below a folder; `token` None lets everybody in."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.token: str | None = None
        self.old = False
        """Whether it speaks the first version of the protocol, which gives no commits by their hash."""
        self.asked: list[Request] = []
        self.before: Callable[[BaseHTTPRequestHandler], bool] = lambda _: False
        """Answers instead of Git when it returns true."""

    @property
    def host(self) -> str:
        """HOST:PORT."""
        return self.url.partition("://")[2]

    def lets_in(self, authorization: str) -> bool:
        """Whether that is the token, as any user's password."""
        if self.token is None:
            return True
        kind, _, rest = authorization.partition(" ")
        return kind == "Basic" and base64.b64decode(rest).decode().partition(":")[2] == self.token


def _answer(server: GitServer, request: BaseHTTPRequestHandler) -> None:
    authorization = request.headers.get("Authorization", "")
    path, _, query = request.path.partition("?")
    server.asked.append(Request(path, authorization))
    if server.before(request):
        return
    if not server.lets_in(authorization):
        request.send_response(401)
        request.send_header("WWW-Authenticate", 'Basic realm="git"')
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    if request.headers.get("Transfer-Encoding") == "chunked":
        while size := int(request.rfile.readline(), 16):
            body += request.rfile.read(size)
            request.rfile.readline()
        request.rfile.readline()
    done = subprocess.run(
        ["git", "http-backend"],
        input=body,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        env={
            **_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": "" if server.old else request.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        },
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    fields = [line.split(": ", 1) for line in head.decode().splitlines()]
    status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
    request.send_response(status)
    for name, value in fields:
        if name != "Status":
            request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    """A server of the repositories below `root`, on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(made, self)

        do_POST = do_GET  # noqa: N815  # a name that http.server looks for

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients of these tests hang up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        made = GitServer(root, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()

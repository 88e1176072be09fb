"""Requests to one registry host: where they go, who we are there, and the errors when it refuses."""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlencode

from tidewaiter.core import limits
from tidewaiter.core.errors import NetworkError, NotFoundError
from tidewaiter.distribution.authorization import Authorizer
from tidewaiter.distribution.credentials import Credentials
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.transport import address, retry
from tidewaiter.transport.client import Client, Content, Response, StreamedResponse

Answer = TypeVar("Answer", Response, StreamedResponse)


class Api:
    """The API of one host. TLS always, but for hosts that the user has listed. Safe from many threads."""

    def __init__(self, client: Client, host: str, plain_http: frozenset[str], credentials: Credentials) -> None:
        self.host = host
        self.client = client
        api_host = RegistryReference(host=host, repository="any").api_host
        self._base = f"{'http' if host.lower() in plain_http else 'https'}://{api_host}"
        self._authorizer = Authorizer(client, host, credentials, plain_http)

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Absolute URL of an API path."""
        return self._base + path + (f"?{urlencode(query)}" if query else "")

    def headers(self, scope: str) -> Mapping[str, str]:
        """What authorises a request of `scope`, as far as the registry has asked for it."""
        return self._authorizer.header(scope)

    def call(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Content] | bytes | None = None,
        limit: int = limits.JSON_BODY_BYTES,
        repeat: bool = False,
        patient: bool = False,
    ) -> Response:
        """The answer to one API request, whatever its status; a challenge is answered once.

        `path` is a path of this host, or an absolute URL that the registry has given; credentials go only to
        this host. `repeat` and `patient` as in `Client.request`.
        """
        url = self.url(path) if path.startswith("/") else path
        budget = self.client.budget()

        def send(authorization: Mapping[str, str]) -> Response:
            while True:
                body = content() if callable(content) else content
                response = self.client.request(
                    method,
                    url,
                    headers={**(headers or {}), **authorization},
                    content=body,
                    limit=limit,
                    repeat=repeat,
                    patient=patient,
                )
                # The client itself can only repeat a body that it has.
                busy = callable(content) and retry.server_busy(response.status)
                if not busy or not budget.again(retry.requested_wait(response.headers)):
                    return response

        return self._authorized(url, scope, send, lambda response: response)

    def stream(
        self, path: str, *, scope: str, headers: Mapping[str, str] | None = None, limit: int
    ) -> StreamedResponse:
        """The answer to a GET, whatever its status, with its body unread; otherwise like `call`."""
        url = self.url(path)

        def send(authorization: Mapping[str, str]) -> StreamedResponse:
            return self.client.stream(url, limit=limit, headers={**(headers or {}), **authorization})

        def close(answer: StreamedResponse) -> None:
            answer.body.close()

        return self._authorized(url, scope, send, close)

    def _authorized(
        self,
        url: str,
        scope: str,
        send: Callable[[Mapping[str, str]], Answer],
        discard: Callable[[Answer], object],
    ) -> Answer:
        if address.origin(url) != address.origin(self._base):
            return send({})
        authorization = self._authorizer.header(scope)
        answer = send(authorization)
        if answer.status != 401:
            return answer
        from tidewaiter.distribution.challenge import parse_challenge

        challenge = parse_challenge(answer.headers.get("www-authenticate", ""))
        if challenge is None:
            return answer
        better = self._authorizer.answer(scope, challenge, authorization.get("Authorization"))
        if better is None:
            return answer
        discard(answer)
        return send(better)

    def refusal(self, response: Response, what: str) -> NetworkError | NotFoundError:
        """The error that says why the registry did not do what was asked."""
        from tidewaiter.distribution import refusals

        return refusals.refusal(self.host, response, what)

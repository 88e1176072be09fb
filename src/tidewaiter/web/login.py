"""Logging in and out, and choosing a password. Works without scripts.

A login always begins a new session: what the browser had before ends with it.
"""

import re

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from tidewaiter.access import sessions, users
from tidewaiter.access.sessions import Session
from tidewaiter.access.users import Logins, TooManyLoginsError
from tidewaiter.catalog.access.users import User
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, RefusedError, TidewaiterError, UnauthenticatedError
from tidewaiter.core.settings import Settings
from tidewaiter.web import forms, pages
from tidewaiter.web.forms import Form
from tidewaiter.web.identify import LOGIN, LOGOUT, PASSWORD
from tidewaiter.web.origin import Origin
from tidewaiter.web.source import Source, TheSource

router = APIRouter(include_in_schema=False)

_METHODS = ["GET", "HEAD"]
_HERE = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of this server: `//host` and `/\\host` are another one's, and so is what a browser makes of a tab in it."""


class Entrance:
    """What logging in needs beside the catalog; one for the application."""

    def __init__(self, settings: Settings) -> None:
        self.origin = Origin(settings.access)
        self.logins = Logins()
        self.token_days = settings.access.token_days
        self.provider = settings.access.oidc_issuer


def entrance(request: Request) -> Entrance:
    """That of the application."""
    found: Entrance = request.app.state.entrance
    return found


def onward(text: str) -> str:
    """Where a login leads: `text` when that is a path here, else the list of images."""
    return text if len(text) <= limits.FORM_NEXT_CHARACTERS and _HERE.fullmatch(text) else "/"


def secret_of(request: Request, name: str) -> str:
    """What the browser keeps under that name, when it has the form of what this server gives."""
    found = request.cookies.get(name, "")
    return found if re.fullmatch(r"[A-Za-z0-9_-]{43}", found) else ""


def unstored(answer: Response) -> Response:
    """The answer, which no cache keeps."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


def logged_in(request: Request, source: Source, user: User, target: str) -> Response:
    """Begin a session in this browser, in the place of any other, and lead on."""
    door = entrance(request)
    before = secret_of(request, door.origin.session_cookie)
    if before:
        sessions.end(source.catalog, before)
    answer = RedirectResponse(PASSWORD if user.one_time_until else target, status_code=303)
    door.origin.give(answer, door.origin.session_cookie, sessions.begin(source.catalog, user))
    door.origin.forget(answer, door.origin.form_cookie)
    return unstored(answer)


def show_login(request: Request, target: str, *, wrong: TidewaiterError | None = None) -> Response:
    """The form, and what was wrong with the last try."""
    door = entrance(request)
    secret = secret_of(request, door.origin.form_cookie) or sessions.new_secret()
    status = 200
    if wrong is not None:
        status = 429 if isinstance(wrong, TooManyLoginsError) else 403
    answer = pages.render(
        request,
        "login.html",
        status,
        search="",
        next=target,
        token=forms.token(secret),
        wrong=wrong,
        provider=door.provider,
    )
    if isinstance(wrong, TooManyLoginsError):
        answer.headers["Retry-After"] = str(wrong.seconds)
    door.origin.give(answer, door.origin.form_cookie, secret)
    return unstored(answer)


@router.api_route(LOGIN, methods=_METHODS)
def login_page(request: Request) -> Response:
    """The form; whoever is logged in goes on."""
    target = onward(request.query_params.get("next", "/"))
    session: Session | None = request.state.session
    if session is not None:
        return unstored(RedirectResponse(PASSWORD if session.must_change else target, status_code=303))
    return show_login(request, target)


@router.post(LOGIN)
async def login(request: Request, source: TheSource) -> Response:
    """Log in with name and password."""
    form = await forms.read(request)
    return await run_in_threadpool(_login, request, source, form)


def _login(request: Request, source: Source, form: Form) -> Response:
    door = entrance(request)
    target = onward(form.one("next"))
    try:
        # A site that logs somebody in as somebody else would see what they then do.
        door.origin.require_ours(request)
        forms.require_ours(form, secret_of(request, door.origin.form_cookie))
        name, password = form.one("user").strip().lower(), form.one("password")
        user = door.logins.login(source.catalog, name, password, door.origin.address(request))
    except (RefusedError, UnauthenticatedError) as error:
        return show_login(request, target, wrong=error)
    return logged_in(request, source, user, target)


@router.post(LOGOUT)
async def logout(request: Request, source: TheSource) -> Response:
    """End the session of this browser."""
    form = await forms.read(request)
    return await run_in_threadpool(_logout, request, source, form)


def _logout(request: Request, source: Source, form: Form) -> Response:
    door = entrance(request)
    answer = RedirectResponse(LOGIN, status_code=303)
    session: Session | None = request.state.session
    if session is not None:
        forms.require_ours(form, session.secret)
        sessions.end(source.catalog, session.secret)
    door.origin.forget(answer, door.origin.session_cookie)
    return unstored(answer)


def session_of(request: Request) -> Session:
    """The session that a request comes with; raises `UnauthenticatedError`."""
    found: Session | None = request.state.session
    if found is None:
        raise UnauthenticatedError("this page is for people who are logged in", next_step="Log in.")
    return found


def _password_page(request: Request, session: Session, wrong: TidewaiterError | None = None) -> Response:
    return unstored(
        pages.render(
            request,
            "password.html",
            200 if wrong is None else 400,
            search="",
            token=forms.token(session.secret),
            must_change=session.must_change,
            elsewhere=session.user.issuer,
            least=limits.PASSWORD_CHARACTERS_LEAST,
            wrong=wrong,
        )
    )


@router.api_route(PASSWORD, methods=_METHODS)
def password_page(request: Request) -> Response:
    """The form."""
    return _password_page(request, session_of(request))


@router.post(PASSWORD)
async def change_password(request: Request, source: TheSource) -> Response:
    """Choose another password: ends all sessions, and begins one here."""
    form = await forms.read(request)
    return await run_in_threadpool(_change_password, request, source, form)


def _change_password(request: Request, source: Source, form: Form) -> Response:
    door, session = entrance(request), session_of(request)
    forms.require_ours(form, session.secret)
    name = session.user.name
    try:
        user = door.logins.login(source.catalog, name, form.one("password"), door.origin.address(request))
        users.set_password(source.catalog, name, _new_password(form), actor=name)
    except (InputError, RefusedError) as error:
        return _password_page(request, session, error)
    return logged_in(request, source, users.named(source.catalog, user.name), "/account")


def _new_password(form: Form) -> str:
    if form.one("new") != form.one("again"):
        raise InputError("the two new passwords are not the same", next_step="Write the same one twice.")
    if form.one("new") == form.one("password"):
        raise InputError("the new password is the old one", next_step="Choose another one.")
    return form.one("new")

"""The page of whoever is logged in: roles, and tokens of their own."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from tidewaiter.access import tokens
from tidewaiter.access.roles import Permission
from tidewaiter.access.tokens import Made
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError, TidewaiterError
from tidewaiter.web import forms, pages
from tidewaiter.web.forms import Form
from tidewaiter.web.login import entrance, session_of, unstored
from tidewaiter.web.source import Source, TheSource

router = APIRouter(include_in_schema=False)


@router.api_route("/account", methods=["GET", "HEAD"])
def account(request: Request, source: TheSource) -> Response:
    """The page."""
    return _page(request, source)


@router.post("/account/tokens")
async def make_token(request: Request, source: TheSource) -> Response:
    """Make a token; the page shows it this once."""
    form = await forms.read(request)
    return await run_in_threadpool(_make, request, source, form)


@router.post("/account/tokens/revoke")
async def revoke_token(request: Request, source: TheSource) -> Response:
    """Revoke a token of one's own."""
    form = await forms.read(request)
    return await run_in_threadpool(_revoke, request, source, form)


def _page(
    request: Request, source: Source, *, made: Made | None = None, wrong: TidewaiterError | None = None
) -> Response:
    session = session_of(request)
    return unstored(
        pages.render(
            request,
            "account.html",
            200 if wrong is None else 400,
            search="",
            user=session.user,
            token=forms.token(session.secret),
            tokens=tokens.listed(source.catalog, session.user.name),
            made=made,
            wrong=wrong,
            most_days=entrance(request).token_days,
            permissions=[str(one) for one in Permission],
        )
    )


def _make(request: Request, source: Source, form: Form) -> Response:
    session = session_of(request)
    forms.require_ours(form, session.secret)
    try:
        days = form.one("days")
        made = tokens.create(
            source.catalog,
            form.one("name").strip(),
            days=int(days) if days.isascii() and days.isdigit() and len(days) < 6 else 0,
            most_days=entrance(request).token_days,
            user=session.user.name,
            projects=[one.strip() for one in form.one("projects").split(",") if one.strip()],
            permissions=form.all("permission") or None,
            actor=session.user.name,
        )
    except (InputError, RefusedError) as error:
        return _page(request, source, wrong=error)
    return _page(request, source, made=made)


def _revoke(request: Request, source: Source, form: Form) -> Response:
    session = session_of(request)
    forms.require_ours(form, session.secret)
    name = form.one("name")
    if not name.startswith(f"{session.user.name}/"):
        raise NotFoundError(f"you have no token {name[:60]!r}", next_step="The account page names yours.")
    tokens.revoke(source.catalog, name, actor=session.user.name)
    return RedirectResponse("/account", status_code=303)

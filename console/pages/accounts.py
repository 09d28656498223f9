"""Logging in and out, accounts, sessions and what a person is told."""

from typing import Final

from aiohttp import web

from console.api import Answer, passed_on
from console.pages.view import APPEARANCE, APPEARANCES, Route, View

APPEARANCE_KEPT_S: Final = 365 * 86400


async def show_login(view: View) -> web.StreamResponse:
    """GET /login."""
    return view.go("/") if view.session is not None else view.show("login.html", email="")


async def log_in(view: View) -> web.StreamResponse:
    """POST /login."""
    form = await view.form()
    email = form.get("email", "")
    found = await view.sessions.log_in(
        email, form.get("password", ""), headers=passed_on(view.request)
    )
    if isinstance(found, Answer):
        return view.show("login.html", status=found.status, email=email, trouble=found.trouble)
    return view.enter(view.go("/"), found)


async def log_out(view: View) -> web.StreamResponse:
    """POST /logout."""
    if view.session is not None:
        await view.sessions.log_out(view.session, headers=passed_on(view.request))
    return view.leave(view.go("/login"))


async def show_registration(view: View) -> web.StreamResponse:
    """GET /register."""
    return view.show("register.html", email="", name="")


async def register(view: View) -> web.StreamResponse:
    """POST /register."""
    form = await view.form()
    email, name = form.get("email", ""), form.get("name", "")
    body = {"email": email, "password": form.get("password", ""), "name": name or None}
    answer = await view.try_to("POST", "/v1/auth/register", json=body)
    if not answer.is_well:
        return view.show(
            "register.html", status=answer.status, email=email, name=name, trouble=answer.trouble
        )
    return view.show("confirm.html", done="A mail with a token is on its way to you.")


async def show_confirmation(view: View) -> web.StreamResponse:
    """GET /confirm."""
    return view.show("confirm.html")


async def confirm(view: View) -> web.StreamResponse:
    """POST /confirm."""
    form = await view.form()
    answer = await view.try_to("POST", "/v1/auth/confirm", json={"token": form.get("token", "")})
    if not answer.is_well:
        return view.show("confirm.html", status=answer.status, trouble=answer.trouble)
    return view.show("login.html", email="", done="Your address is confirmed: you can log in.")


async def show_forgotten(view: View) -> web.StreamResponse:
    """GET /forgot."""
    return view.show("forgot.html")


async def ask_for_reset(view: View) -> web.StreamResponse:
    """POST /forgot."""
    form = await view.form()
    answer = await view.try_to(
        "POST", "/v1/auth/password/forgot", json={"email": form.get("email", "")}
    )
    if not answer.is_well:
        return view.show("forgot.html", status=answer.status, trouble=answer.trouble)
    return view.show("reset.html", done="If there is such an account, a token is on its way.")


async def show_reset(view: View) -> web.StreamResponse:
    """GET /reset."""
    return view.show("reset.html")


async def reset(view: View) -> web.StreamResponse:
    """POST /reset."""
    form = await view.form()
    body = {"token": form.get("token", ""), "password": form.get("password", "")}
    answer = await view.try_to("POST", "/v1/auth/password/reset", json=body)
    if not answer.is_well:
        return view.show("reset.html", status=answer.status, trouble=answer.trouble)
    return view.show("login.html", email="", done="Your password is set: log in with it.")


async def show_account(view: View) -> web.StreamResponse:
    """GET /account."""
    return await _account(view)


async def change_password(view: View) -> web.StreamResponse:
    """POST /account/password."""
    form = await view.form()
    body = {"password": form.get("password", ""), "new_password": form.get("new_password", "")}
    answer = await view.try_to("POST", "/v1/auth/password/change", json=body)
    if not answer.is_well:
        return await _account(view, status=answer.status, trouble=answer.trouble)
    return await _account(view, done="Your password is changed.")


async def choose_appearance(view: View) -> web.StreamResponse:
    """POST /account/appearance: light, dark, or as the system has it."""
    chosen = (await view.form()).get("appearance", "")
    response = view.go("/account")
    if chosen in APPEARANCES:
        response.set_cookie(
            APPEARANCE, chosen, max_age=APPEARANCE_KEPT_S, httponly=True, samesite="Strict"
        )
    else:
        response.del_cookie(APPEARANCE)
    return response


async def end_session(view: View) -> web.StreamResponse:
    """POST /account/sessions/{session_id}."""
    session_id = view.segment("session_id")
    answer = await view.try_to("DELETE", f"/v1/auth/sessions/{session_id}")
    if not answer.is_well:
        return await _account(view, status=answer.status, trouble=answer.trouble)
    return view.go("/account")


async def _account(
    view: View, *, status: int = 200, trouble: str | None = None, done: str | None = None
) -> web.StreamResponse:
    return view.show(
        "account.html",
        status=status,
        trouble=trouble,
        done=done,
        me=await view.get("/v1/users/me"),
        sessions=(await view.get("/v1/auth/sessions"))["items"],
        logins=(await view.get("/v1/users/me/logins", limit="10"))["items"],
        notifications=(await view.get("/v1/users/me/notifications", limit="10"))["items"],
    )


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/login", show_login),
    ("POST", "/login", log_in),
    ("POST", "/logout", log_out),
    ("GET", "/register", show_registration),
    ("POST", "/register", register),
    ("GET", "/confirm", show_confirmation),
    ("POST", "/confirm", confirm),
    ("GET", "/forgot", show_forgotten),
    ("POST", "/forgot", ask_for_reset),
    ("GET", "/reset", show_reset),
    ("POST", "/reset", reset),
    ("GET", "/account", show_account),
    ("POST", "/account/password", change_password),
    ("POST", "/account/appearance", choose_appearance),
    ("POST", "/account/sessions/{session_id}", end_session),
)

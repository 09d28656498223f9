"""RabbitMQ's management API: the few calls that make users and virtual hosts. They block."""

import base64
import http.client
import json
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from cli.failures import RefusedError
from contracts.broker_permissions import Permissions

_TIMEOUT_S: Final = 10.0
_NOT_FOUND: Final = 404
_REFUSED: Final = 400
_UNAUTHORIZED: Final = 401

UNREACHABLE: Final[tuple[type[Exception], ...]] = (OSError, http.client.HTTPException)
"""Errors that mean: the API did not answer now, and may later."""


class ManagementError(RefusedError):
    """RabbitMQ's management API said no; the message says to what, and why."""


class Management:
    """The API behind a URL that holds user and password. No proxy is ever asked."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._base = parts.path.rstrip("/")
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()

    def answers(self) -> bool:
        """Whether the API serves this user."""
        try:
            self.call("GET", "/api/overview")
        except (OSError, http.client.HTTPException, ManagementError):
            return False
        return True

    def refuses_login(self) -> bool:
        """Whether the API is up but does not accept user and password."""
        try:
            return self._ask("GET", "/api/overview", None)[0] == _UNAUTHORIZED
        except UNREACHABLE:
            return False

    def put_user(self, name: str, *, password: str, tags: str = "") -> None:
        """Make the user or set its password."""
        self.call("PUT", f"/api/users/{_part(name)}", {"password": password, "tags": tags})

    def tags_of(self, name: str) -> frozenset[str] | None:
        """Return the user's tags, such as `administrator`; None when there is no such user."""
        status, answer = self._ask("GET", f"/api/users/{_part(name)}", None)
        if status == _NOT_FOUND:
            return None
        tags = _decoded("GET user", status, answer)["tags"]
        # A list from 3.9 on; before, and in some answers since, one text with commas.
        words = tags.split(",") if isinstance(tags, str) else tags
        return frozenset(filter(None, words))

    def delete_user(self, name: str) -> None:
        """Remove the user; its connections are closed. Nothing if it is gone."""
        self.call("DELETE", f"/api/users/{_part(name)}")

    def put_permissions(self, name: str, *, vhost: str, permissions: Permissions) -> None:
        """Give the user these permissions, and no others, in the virtual host."""
        self.call("PUT", f"/api/permissions/{_part(vhost)}/{_part(name)}", permissions._asdict())

    def put_vhost(self, name: str) -> None:
        """Make the virtual host; nothing if it is there."""
        self.call("PUT", f"/api/vhosts/{_part(name)}")

    def delete_vhost(self, name: str) -> None:
        """Remove the virtual host with all in it; nothing if it is gone."""
        self.call("DELETE", f"/api/vhosts/{_part(name)}")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer, or None; 404 on DELETE is fine.

        Raises ManagementError, and one of UNREACHABLE.
        """
        status, answer = self._ask(method, path, body)
        if status == _NOT_FOUND and method == "DELETE":
            return None
        return _decoded(f"{method} {path}", status, answer)

    def _ask(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_TIMEOUT_S)
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        try:
            connection.request(method, self._base + path, body=text, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _decoded(asked: str, status: int, answer: bytes) -> Any:
    if status >= _REFUSED:
        detail = answer[:300].decode(errors="replace")
        raise ManagementError(f"RabbitMQ refused {asked}: {status} {detail}")
    return json.loads(answer) if answer else None


def _part(text: str) -> str:
    return quote(text, safe="")

"""A small client of the HTTP door: one session, answers as values, passing failures tried again."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson
from multidict import CIMultiDictProxy

from cli.clients.errors import DoorRefusedError, DoorUnreachableError
from runtime.service.backoff import Backoff

Json = dict[str, Any]

OK: Final = 200
CREATED: Final = 201
ACCEPTED: Final = 202
NOT_FOUND: Final = 404
PASSING: Final = frozenset({429, 502, 503, 504})
"""Statuses that say 'later': the same request under the same key is sent again."""

REQUEST_TIMEOUT_S: Final = 60.0
"""Longer than the longest `Prefer: wait`, and than the answer to a full batch on a busy machine."""
GIVE_UP_AFTER_S: Final = 60.0
FIRST_CONTACT_S: Final = 5.0
"""A service that has not answered yet is given less time: the address may be wrong."""
_RETRY_AFTER_MOST_S: Final = 30.0
_LOST: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered: the status, the decoded body, the headers."""

    status: int
    body: Any
    headers: CIMultiDictProxy[str]

    @property
    def is_replay(self) -> bool:
        """Whether the request had been made before under this key."""
        return self.headers.get("Idempotency-Replayed", "").lower() == "true"

    @property
    def problem_code(self) -> str | None:
        """The code of a problem; None when it is none."""
        if self.status < 400 or not isinstance(self.body, dict):  # noqa: PLR2004  # RFC 9110
            return None
        return str(self.body.get("code"))

    def expect(self, *statuses: int) -> Any:
        """Return the body of an answer with one of these statuses; raises DoorRefusedError."""
        if self.status in statuses:
            return self.body
        detail = self.body.get("detail") if isinstance(self.body, dict) else self.body
        raise DoorRefusedError(f"HTTP {self.status} {self.problem_code or ''}: {detail}")


class ApiClient:
    """Calls of the HTTP door. Every POST carries a key, so trying again is safe.

    A connection loss, 429 and 502 to 504 are tried again until `give_up_after_s` without any
    success; then DoorUnreachableError. All else is an Answer, problems included.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        connections: int = 16,
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._connections = connections
        self._give_up_after_s = give_up_after_s
        self._last_success = 0.0
        self._session: aiohttp.ClientSession | None = None
        self.retries = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to one request; `data` sends bytes as they are instead of `body`."""
        sent = dict(self._headers)
        if body is not None or data is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        content = data if body is None else orjson.dumps(body)
        backoff = Backoff(first_s=0.1, most_s=5.0)
        started = time.monotonic()
        while True:
            answer, trouble = await self._try(method, path, content, sent, parameters)
            if answer is not None and answer.status not in PASSING:
                self._last_success = time.monotonic()
                return answer
            # What others of this client achieve meanwhile counts: the door is slow, not gone.
            if time.monotonic() - max(self._last_success, started) >= self._patience_s:
                raise DoorUnreachableError(f"{self._url}{path}: {trouble}")
            self.retries += 1
            await asyncio.sleep(max(backoff.next_delay_s(), _retry_after_s(answer)))

    @property
    def _patience_s(self) -> float:
        if self._last_success:
            return self._give_up_after_s
        return min(FIRST_CONTACT_S, self._give_up_after_s)

    async def create_wallet(self, body: Json, *, key: str) -> Answer:
        """Create a wallet, or find the one that this key made before."""
        return await self.call("POST", "/v1/wallets", body=body, headers={"Idempotency-Key": key})

    async def change_wallet(self, wallet_id: str, body: Json) -> Answer:
        """Change a wallet."""
        return await self.call("PATCH", f"/v1/wallets/{wallet_id}", body=body)

    async def read_wallet(self, wallet_id: str) -> Json:
        """Return a wallet."""
        answer = await self.call("GET", f"/v1/wallets/{wallet_id}")
        wallet: Json = answer.expect(OK)
        return wallet

    async def submit(self, body: Json, *, wait_s: int = 0) -> Answer:
        """Submit one transaction; its key is in the body."""
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else None
        return await self.call("POST", "/v1/transactions", body=body, headers=headers)

    async def submit_batch(self, bodies: Sequence[Json]) -> list[Json]:
        """Submit up to a thousand; return an item with `status_code` for each, in their order."""
        answer = await self.call(
            "POST", "/v1/transactions/batch", body={"transactions": list(bodies)}
        )
        items: list[Json] = answer.expect(ACCEPTED)["items"]
        return items

    async def read_transaction(self, transaction_id: str, *, wait_s: int = 0) -> Json:
        """Return a transaction, waiting up to `wait_s` for its final state."""
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else None
        answer = await self.call("GET", f"/v1/transactions/{transaction_id}", headers=headers)
        transaction: Json = answer.expect(OK)
        return transaction

    async def list_page(self, path: str, parameters: Mapping[str, str]) -> Json:
        """Return one page of a list: `items` and `next_cursor`."""
        answer = await self.call("GET", path, parameters=parameters)
        page: Json = answer.expect(OK)
        return page

    async def _try(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        parameters: Mapping[str, str] | None,
    ) -> tuple[Answer | None, str]:
        """Return the answer if there is one, and what to say if it stays the last one."""
        if self._session is None:
            raise RuntimeError("use it as a context manager")
        try:
            async with self._session.request(
                method, self._url + path, data=content, headers=headers, params=parameters
            ) as response:
                raw = await response.read()
                answer = Answer(response.status, _decoded(raw), response.headers)
                return answer, f"HTTP {response.status} {answer.problem_code or ''}".rstrip()
        except _LOST as error:
            return None, str(error) or type(error).__name__


def _decoded(raw: bytes) -> Any:
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")


def _retry_after_s(answer: Answer | None) -> float:
    text = "" if answer is None else answer.headers.get("Retry-After", "")
    return min(float(text), _RETRY_AFTER_MOST_S) if re.fullmatch(r"[0-9]{1,6}", text) else 0.0

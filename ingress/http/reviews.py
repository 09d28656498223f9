"""The calls on reviews: list, approve, refuse; for operators."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from aiohttp import web

from contracts.problems import ContractError, ProblemCode
from contracts.requests.review import reason_of
from ingress.http.middleware import Call, json_response, page_response
from ingress.parsing import uuid_of
from ledger.words import ReviewState
from runtime.screening.reviews import ReviewDecidedError, ReviewNotFoundError, Reviews

Decide: TypeAlias = Callable[..., Awaitable[Mapping[str, Any]]]


class ReviewCalls:
    """Reviews over HTTP; the actor in the audit log is the caller's name."""

    def __init__(self, reviews: Reviews) -> None:
        self._reviews = reviews

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/reviews."""
        query = call.query
        page = await self._reviews.page(
            query.word("state", ReviewState),
            before=query.id_position("reviews"),
            limit=query.limit(),
        )
        return page_response(page.items, query.cursor("reviews", page.next_cursor))

    async def approve(self, call: Call) -> web.Response:
        """POST /v1/reviews/{review_id}/approve."""
        return await self._decide(call, self._reviews.approve)

    async def refuse(self, call: Call) -> web.Response:
        """POST /v1/reviews/{review_id}/refuse."""
        return await self._decide(call, self._reviews.refuse)

    async def _decide(self, call: Call, decide: Decide) -> web.Response:
        review_id = uuid_of("review_id", call.request.match_info["review_id"])
        reason = reason_of(await call.json())
        try:
            review = await decide(review_id, reason=reason, trail=call.trail)
        except ReviewNotFoundError as error:
            raise ContractError(ProblemCode.REVIEW_NOT_FOUND, str(error)) from None
        except ReviewDecidedError as error:
            raise ContractError(ProblemCode.REVIEW_DECIDED, str(error)) from None
        return json_response(review)

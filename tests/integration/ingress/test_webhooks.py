"""Making webhooks: where they may lead, what they may name, and how many there may be."""

import asyncio
from typing import Any

import pytest

from contracts.scopes import Reach, Scope
from contracts.webhooks import WEBHOOKS_MAX
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient

_BODY: dict[str, Any] = {"url": "https://shop.example/in", "event_types": ["*"]}


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"url": "http://shop.example/in"}, "/url"),
        ({"url": "https://10.0.0.7/in"}, "/url"),
        ({"url": "https://127.1/in"}, "/url"),
        ({"url": "https://[fec0::1]/in"}, "/url"),
        ({"event_types": ["transaction.nothing"]}, "/event_types/0"),
        ({"event_types": ["*", "*"]}, "/event_types"),
        ({"event_types": []}, "/event_types"),
        ({"wallet_ids": []}, "/wallet_ids"),
        ({"status": "BROKEN"}, "/status"),
        ({"secret": "whsec_mine"}, "/secret"),
    ],
)
async def test_what_does_not_fit_is_refused_by_its_field(
    api: CheckedApi, changed: dict[str, Any], pointer: str
) -> None:
    answer = await api.call("POST", "/v1/webhooks", json={**_BODY, **changed})

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [one["pointer"] for one in answer.json["errors"]] == [pointer]


async def test_a_submitter_has_so_many_and_pages_them(make_client: MakeClient) -> None:
    api = await make_client(reach=Reach.OWN)
    made = [
        (await api.call("POST", "/v1/webhooks", json=_BODY)).json["id"] for _ in range(WEBHOOKS_MAX)
    ]
    refused = await api.call("POST", "/v1/webhooks", json=_BODY)
    assert (refused.status, refused.code) == (409, "webhook_limit_reached")

    first = (await api.get("/v1/webhooks", limit="15")).json
    rest = (await api.get("/v1/webhooks", limit="15", cursor=first["next_cursor"])).json
    assert [one["id"] for one in first["items"] + rest["items"]] == made
    assert rest["next_cursor"] is None

    path = f"/v1/webhooks/{made[0]}"
    changed = await api.call("PATCH", path, json={"event_types": ["transaction.failed"]})
    assert changed.json["event_types"] == ["transaction.failed"]
    assert changed.json["url"] == _BODY["url"]
    nothing = await api.call("PATCH", path, json={})
    assert (nothing.status, nothing.code) == (422, "validation_failed")
    assert (await api.call("DELETE", path)).status == 204
    assert (await api.call("POST", "/v1/webhooks", json=_BODY)).status == 201


async def test_those_that_are_made_at_once_are_counted_too(make_client: MakeClient) -> None:
    api = await make_client(reach=Reach.OWN)
    answers = await asyncio.gather(
        *(api.call("POST", "/v1/webhooks", json=_BODY) for _ in range(2 * WEBHOOKS_MAX))
    )
    made = (await api.get("/v1/webhooks", limit="200")).json["items"]

    assert sorted(one.status for one in answers) == [201] * WEBHOOKS_MAX + [409] * WEBHOOKS_MAX
    assert len(made) == WEBHOOKS_MAX


async def test_a_reader_makes_none(make_client: MakeClient) -> None:
    api = await make_client(scopes=[Scope.WEBHOOKS_READ], reach=Reach.OWN)

    assert (await api.get("/v1/webhooks")).json == {"items": [], "next_cursor": None}
    answer = await api.call("POST", "/v1/webhooks", json=_BODY)
    assert (answer.status, answer.code) == (403, "insufficient_scope")

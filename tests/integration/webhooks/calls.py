"""What tests of webhooks ask the API for."""

from typing import Any

from tests.integration.ingress.document import CheckedApi


async def make_webhook(api: CheckedApi, url: str, **fields: Any) -> dict[str, Any]:
    """Make a webhook of all events; return it, with its secret."""
    body = {"url": url, "event_types": ["*"], **fields}
    answer = await api.call("POST", "/v1/webhooks", json=body)
    assert answer.status == 201, answer.body
    assert answer.headers["Location"] == f"/v1/webhooks/{answer.json['id']}"
    return dict(answer.json)


async def deliveries_of(api: CheckedApi, webhook_id: str, **query: str) -> list[Any]:
    """Return a page of a webhook's deliveries, the newest first."""
    return list((await api.get(f"/v1/webhooks/{webhook_id}/deliveries", **query)).json["items"])

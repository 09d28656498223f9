"""The call on assets."""

import hashlib

import orjson
from aiohttp import web

from contracts.representations.asset import render_assets
from ingress.http.middleware import Call

# Asked for at each use and answered with 304: a new asset shows as soon as requests may name it.
_CACHE_CONTROL = "private, no-cache"


async def list_assets(call: Call) -> web.Response:
    """GET /v1/assets, or 304 for a client whose copy is current."""
    body = orjson.dumps(render_assets())
    # As an ETag, half a digest is plenty.
    etag = hashlib.sha256(body).hexdigest()[:32]
    known = call.request.if_none_match or ()
    headers = {"Cache-Control": _CACHE_CONTROL}
    if any(tag.value in (etag, "*") for tag in known):
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=body, content_type="application/json", headers=headers)
    response.etag = etag
    return response

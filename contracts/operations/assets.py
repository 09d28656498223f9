"""The call on assets."""

from typing import Final

from contracts.money import ISO_4217_EDITION, Asset, AssetSource
from contracts.operations import parameters
from contracts.operations.shapes import READ_PROBLEMS, Operation, Response, ResponseHeader, Tag
from contracts.representations.asset import AssetList, render_asset
from contracts.scopes import Scope

_CACHED: Final = (ResponseHeader.ETAG, ResponseHeader.CACHE_CONTROL)
_SHOWN: Final = (
    Asset("HRK", 2, AssetSource.ISO_4217, 2023),
    Asset("POINTS8", 8, AssetSource.REGISTERED, None),
    Asset("USD", 2, AssetSource.ISO_4217, None),
)

_LIST: Final = Operation(
    operation_id="list_assets",
    method="GET",
    path="/v1/assets",
    tag=Tag.ASSETS,
    summary="List currencies and registered assets",
    description=(
        f"The currencies of ISO 4217 as it was published on {ISO_4217_EDITION}, those that left it "
        "since 2001, and the assets that operators registered (`ackledger assets add`), by their "
        "codes. What is `active` may be named by new requests. A `withdrawn` currency stays "
        "readable; no wallet is made in it, and only withdrawals from the wallets that hold it are "
        "taken. An asset is never changed and never leaves."
    ),
    scope=Scope.WALLETS_READ,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(
        Response(
            200,
            "All of them",
            model=AssetList,
            headers=_CACHED,
            example={
                "items": [render_asset(one) for one in _SHOWN],
                "edition": ISO_4217_EDITION,
            },
        ),
        Response(304, "Your copy is current", headers=_CACHED),
    ),
    problems=READ_PROBLEMS,
)

ASSET_OPERATIONS: Final = (_LIST,)

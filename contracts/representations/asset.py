"""Assets as JSON: the currencies of ISO 4217 and what operators registered; pure."""

from typing import Any

from pydantic import BaseModel, Field

from contracts.money import (
    CODE_PATTERN,
    EXPONENT_MAX,
    ISO_4217_EDITION,
    Asset,
    AssetSource,
    AssetStatus,
    known_assets,
)

Json = dict[str, Any]


class AssetView(BaseModel):
    """A currency of ISO 4217, or an asset that operators registered."""

    code: str = Field(pattern=CODE_PATTERN, examples=["USD"])
    exponent: int = Field(ge=0, le=EXPONENT_MAX, description="Decimals of its minor unit")
    source: AssetSource
    status: AssetStatus = Field(
        description="Of a `withdrawn` one only withdrawals from the wallets that hold it are taken"
    )
    withdrawn_in: int | None = Field(description="The year in which it left ISO 4217")


class AssetList(BaseModel):
    """All assets, by their codes."""

    items: list[AssetView]
    edition: str = Field(
        description="The date on which this list of ISO 4217 was published",
        json_schema_extra={"format": "date"},
        examples=[ISO_4217_EDITION],
    )


def render_assets() -> Json:
    """Return all that this process knows, as `AssetList` has it."""
    return {"items": [render_asset(one) for one in known_assets()], "edition": ISO_4217_EDITION}


def render_asset(asset: Asset) -> Json:
    """Return one as `AssetView` has it."""
    return {
        "code": asset.code,
        "exponent": asset.exponent,
        "source": asset.source,
        "status": asset.status,
        "withdrawn_in": asset.withdrawn_in,
    }

"""What every sample that submits or publishes has to bring about."""

from pathlib import Path
from uuid import uuid4

from tests.conftest import Doors
from tests.end_to_end.client.programs import output_of
from tests.support import eventually


async def check_submitting(doors: Doors, *command: str | Path) -> None:
    """Run a program that deposits 10.00 EUR into the wallet that it is given, and says the end."""
    wallet = await doors.api.create_wallet("EUR")

    assert "COMPLETED" in await output_of(doors, *command, wallet)
    assert await doors.api.balance(wallet) == "10.00"


async def check_publishing(doors: Doors, *command: str | Path, **environment: str) -> None:
    """Run a program that publishes such a deposit under the key that it is given, twice."""
    wallet, key = await doors.api.create_wallet("EUR"), str(uuid4())
    for _ in range(2):
        assert f"confirmed {key}" in await output_of(doors, *command, wallet, key, **environment)

    async def is_posted() -> bool:
        items = (await doors.api.get("/v1/transactions", idempotency_key=key)).json["items"]
        return [one["status"] for one in items] == ["COMPLETED"]

    await eventually(is_posted, what="the deposit is posted")
    # Both were sent by now; the second one is no other deposit.
    assert await doors.api.balance(wallet) == "10.00"

"""Messages whose properties our library cannot decode: they must not stop the queue.

They come on a system of their own: a queue that stands still would fail every test behind it.
"""

import pytest

from cli.clients.management import Management
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import Octets, good_one_is_posted
from tests.support import deposit, requested


@pytest.mark.parametrize("name", ["type", "content_type", "correlation_id", "reply_to", "app_id"])
async def test_a_property_that_is_no_utf_8_harms_no_neighbour(
    own_doors: CheckedDoors, name: str
) -> None:
    wallet = await own_doors.api.create_wallet()
    message = requested(deposit(wallet, "1.00"))
    await own_doors.upstream.publish(message, **{name: Octets("xx")})

    await good_one_is_posted(own_doors, wallet)


async def test_a_header_whose_name_is_no_utf_8_harms_no_neighbour(
    own_doors: CheckedDoors,
) -> None:
    wallet = await own_doors.api.create_wallet()
    message = requested(deposit(wallet, "1.00"))
    await own_doors.upstream.publish(message, headers={Octets("xx"): 1})

    await good_one_is_posted(own_doors, wallet)


async def test_a_timestamp_beyond_all_years_harms_no_neighbour(
    own_doors: CheckedDoors,
) -> None:
    wallet = await own_doors.api.create_wallet()
    management = Management(own_doors.stack.rabbitmq.management_url or "")
    management.call(
        "POST",
        f"/api/exchanges/{own_doors.vhost}/ackledger.transactions/publish",
        {
            "properties": {"timestamp": 2**63 - 1, "delivery_mode": 2},
            "routing_key": "any",
            "payload": "not JSON",
            "payload_encoding": "string",
        },
    )

    await good_one_is_posted(own_doors, wallet)

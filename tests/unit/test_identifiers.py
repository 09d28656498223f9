"""Identifiers that are written out for speed are the ones that the standard library makes."""

import base64
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from contracts.identifiers import event_id, id_of_reference, reference_of


@given(st.uuids())
def test_a_reference_is_the_id_in_base32_and_leads_back_to_it(transaction_id: UUID) -> None:
    reference = reference_of(transaction_id)

    digits = base64.b32encode(transaction_id.bytes).decode().rstrip("=")
    assert reference == f"TXN-{digits}"
    assert id_of_reference(reference) == transaction_id


@given(st.uuids(), st.uuids())
def test_an_event_id_is_the_version_5_id_of_its_transaction(
    outbox_id: UUID, transaction_id: UUID
) -> None:
    assert event_id(outbox_id, transaction_id) == str(uuid5(outbox_id, str(transaction_id)))

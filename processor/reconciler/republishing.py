"""The messages that ask for posting, which a replayed dead letter needs as well."""

from runtime.republishing import PendingTransaction, RecordedGroup, recorded_messages

__all__ = ["PendingTransaction", "RecordedGroup", "recorded_messages"]

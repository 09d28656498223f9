"""What programs of others import of Ackledger: the client, `ackledger.client`."""

"""The shared words of Ackledger: pure values, no input or output, no clock."""

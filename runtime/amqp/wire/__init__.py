"""AMQP's frames, where the libraries' way costs too much."""

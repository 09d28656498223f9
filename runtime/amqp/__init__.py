"""RabbitMQ: consuming a queue."""

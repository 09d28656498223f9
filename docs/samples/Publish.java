// Publish a deposit with amqp-client: ACKLEDGER_UPSTREAM_AMQP_URL, the wallet's id and a key.
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicBoolean;

public final class Publish {
    private static final long CONFIRM_TIMEOUT_MS = 30_000;

    public static void main(String[] arguments) throws Exception {
        String walletId = arguments[0];
        String key = arguments[1];
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("ACKLEDGER_UPSTREAM_AMQP_URL"));
        String body = """
            {"version": 1, "idempotency_key": "%s", "type": "deposit",
             "destination_wallet_id": "%s", "amount": "10.00", "currency": "EUR"}"""
            .formatted(key, walletId);
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
            .contentType("application/json")
            .deliveryMode(2)
            .type("transaction.requested.v1")
            .userId(factory.getUsername())
            .build();
        AtomicBoolean returned = new AtomicBoolean();
        try (Connection connection = factory.newConnection();
                Channel channel = connection.createChannel()) {
            channel.addReturnListener(message -> returned.set(true));
            channel.confirmSelect();
            // The wallet that is credited (of all but deposits: debited) keeps its order.
            channel.basicPublish("ackledger.transactions", walletId, true, properties,
                body.getBytes(StandardCharsets.UTF_8));
            channel.waitForConfirmsOrDie(CONFIRM_TIMEOUT_MS);
        }
        // The broker returns what no queue takes before it confirms it.
        if (returned.get()) {
            throw new IllegalStateException("no queue is bound to ackledger.transactions");
        }
        System.out.println("confirmed " + key);
    }
}

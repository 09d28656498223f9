-- migrate:up

-- How many partitions the queues are laid out for. `ackledger migrate` writes it, and changes it only
-- while the queues are drained; a process that is set to another number does not run.
CREATE TABLE partition_layout (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions integer NOT NULL CHECK (partitions >= 1)
);

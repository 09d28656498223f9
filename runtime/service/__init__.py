"""What every process is made of: settings, logs, loops, status port, batches."""

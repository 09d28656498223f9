"""The notifier: mails against a real SMTP server, notifications against a real broker."""

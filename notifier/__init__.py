"""The notifier: sends mails that others wrote down, and notes for people what their money did."""

"""What people are told by mail; pure."""

from typing import Final, NamedTuple

CONFIRM_S: Final = 86_400.0
"""How long an address can be confirmed; then it is registered again."""
RESET_S: Final = 3_600.0
"""How long a password can be set anew: whoever reads the mailbox later must not be able to."""


class Mail(NamedTuple):
    """A mail in plain text."""

    subject: str
    text: str


def confirmation(token: str) -> Mail:
    """Return the mail that confirms an address."""
    return Mail(
        "Confirm your address",
        "Somebody, probably you, registered this address with Ackledger. To confirm it, use this "
        f"token within {CONFIRM_S / 3600:g} hours:\n\n{token}\n\n"
        "If you did not register, ignore this mail: without the token nothing happens. Use only "
        "the mail that you expect: the token brings the password of the registration that sent it."
        "\n",
    )


def known_address(token: str) -> Mail:
    """Return the mail to somebody who registers an address a second time."""
    return Mail(
        "You have an account already",
        "Somebody, probably you, registered this address with Ackledger again. It has an account "
        "already: log in with your password. If you forgot it, set another one with this token "
        f"within {RESET_S / 60:g} minutes:\n\n{token}\n\n"
        "If it was not you, ignore this mail: nothing was changed.\n",
    )


def reset(token: str) -> Mail:
    """Return the mail by which a password is set anew."""
    return Mail(
        "Set your password",
        "Somebody, probably you, asked for a new password of your Ackledger account. Set one with "
        f"this token within {RESET_S / 60:g} minutes:\n\n{token}\n\n"
        "If it was not you, ignore this mail: nothing was changed.\n",
    )


PASSWORD_CHANGED: Final = Mail(
    "Your password was changed",
    "The password of your Ackledger account was changed, and other sessions were ended. If it was "
    "not you, ask for a new password at once, and tell whoever runs the service.\n",
)
ACCOUNT_DELETED: Final = Mail(
    "Your account was deleted",
    "Your Ackledger account was deleted, as you asked. If it was not you, tell whoever runs the "
    "service at once.\n",
)


def webhook_led(url: str) -> Mail:
    """Return the mail that tells of a webhook that was made, or led elsewhere."""
    return Mail(
        "A webhook sends what happens in your account",
        f"A webhook of your Ackledger account sends its events to\n\n{url}\n\n"
        "from now on, and goes on after you log out or change your password. If it was not you, "
        "delete it, change your password, and tell whoever runs the service.\n",
    )


def new_login(*, address: str | None, agent: str | None) -> Mail:
    """Return the mail that tells of a login."""
    return Mail(
        "New login",
        f"Somebody logged in to your Ackledger account from {address or 'an unknown address'} "
        f"with {agent or 'an unknown program'}. If it was not you, change your password.\n",
    )

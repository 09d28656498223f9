"""`ackledger users`: people's accounts."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands import personal
from cli.failures import UsageError
from cli.invocation import on_database
from cli.output import AsJson, print_json, print_line, print_table, say
from contracts.people import PASSWORD_MAX, UserStatus
from contracts.scopes import Role

if TYPE_CHECKING:
    from cli.dependencies import Connection
    from cli.users import User

LISTED_DEFAULT = 100
LISTED_MAX = 10_000

Who = Annotated[str, typer.Argument(help="The account's id or its address.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make, list and change people's accounts.", no_args_is_help=True)
    group.command("create")(_create)
    group.command("list")(_list)
    group.command("set-role")(_set_role)
    group.command("disable")(_disable)
    group.command("enable")(_enable)
    personal.add_to(group)
    app.add_typer(group, name="users")


def _create(
    context: typer.Context,
    email: Annotated[str, typer.Argument(help="The address, which counts as confirmed.")],
    *,
    role: Annotated[Role, typer.Option(help="What the person is to the service.")],
    name: Annotated[str | None, typer.Option(help="The person's name.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make a password; it is shown only once.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an account that can be used at once. Its password is asked for unless told otherwise."""
    from cli.actor import login_actor
    from cli.users import create_user, new_password

    if password_stdin and generate:
        raise UsageError("give --password-stdin or --generate, not both")
    password = new_password() if generate else _read_password(from_pipe=password_stdin)
    made = on_database(
        context,
        "users",
        lambda connection: create_user(
            connection, email=email, name=name, role=role, password=password, actor=login_actor()
        ),
    )
    if as_json:
        print_json({**made, "password": password} if generate else made)
        return
    say(f"account {made['id']} of {made['email']}, {made['role']}")
    if generate:
        say("its password, shown only this once:")
        print_line(password)


def _list(
    context: typer.Context,
    role: Annotated[Role | None, typer.Option(help="Only this role.")] = None,
    status: Annotated[UserStatus | None, typer.Option(help="Only this status.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=LISTED_MAX, help="The most accounts.")
    ] = LISTED_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List accounts, the newest first; deleted ones only with --status DELETED."""
    from cli.users import list_users

    users = on_database(
        context,
        "users",
        lambda connection: list_users(connection, role=role, status=status, limit=limit),
    )
    if as_json:
        print_json({"items": users})
        return
    rows = [
        tuple(str(user[column] or "") for column in ("id", "email", "role", "status", "name"))
        for user in users
    ]
    print_table(("id", "address", "role", "status", "name"), rows)


def _set_role(context: typer.Context, who: Who, role: Role, as_json: AsJson = False) -> None:
    """Change what a person is to the service; felt within a second."""
    _change(context, who, role=role, status=None, as_json=as_json)


def _disable(context: typer.Context, who: Who, as_json: AsJson = False) -> None:
    """Let a person in no more, and end their sessions."""
    _change(context, who, role=None, status=UserStatus.DISABLED, as_json=as_json)


def _enable(context: typer.Context, who: Who, as_json: AsJson = False) -> None:
    """Let a person in again."""
    _change(context, who, role=None, status=UserStatus.ACTIVE, as_json=as_json)


def _change(
    context: typer.Context,
    who: str,
    *,
    role: Role | None,
    status: UserStatus | None,
    as_json: bool,
) -> None:
    from cli.actor import login_actor
    from cli.users import change_user

    async def change(connection: "Connection") -> "User":
        return await change_user(connection, who, role=role, status=status, actor=login_actor())

    user = on_database(context, "users", change)
    if as_json:
        print_json(user)
        return
    print_line(f"{user['email']}: {user['role']}, {user['status']}")


def _read_password(*, from_pipe: bool) -> str:
    """Return the password: a line of standard input, or what is typed twice and not shown."""
    if from_pipe:
        return sys.stdin.readline(PASSWORD_MAX + 2).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for a password; give --password-stdin or --generate")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password

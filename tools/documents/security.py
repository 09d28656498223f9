"""The generated part of docs/security.md: the permission table, between two markers."""

from pathlib import Path
from typing import Final

from contracts.permissions import Permission, permissions
from contracts.scopes import IMPLIED_SCOPES, ROLE_REACH, ROLE_SCOPES, Role, Scope

PAGE: Final = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN: Final = "<!-- permissions: written by `make documents` -->"
END: Final = "<!-- permissions end -->"


def page_with_table(page: str) -> str:
    """Return the page with the table as it is now; raises ValueError where a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{permission_table()}\n{END}{after}"


def permission_table() -> str:
    """Return the tables as Markdown: routes by role, and what each role is."""
    roles = list(Role)
    lines = [
        f"| call | scope | {' | '.join(roles)} |",
        f"|---|---|{'---|' * len(roles)}",
        *(_line(one, roles) for one in permissions()),
        "",
        "| role | sees and moves | scopes |",
        "|---|---|---|",
        *(f"| {role} | {ROLE_REACH[role]} | {_scopes(ROLE_SCOPES[role])} |" for role in roles),
        "",
        *(f"`{scope}` implies {_scopes(implied)}." for scope, implied in IMPLIED_SCOPES.items()),
    ]
    return "\n".join(lines)


def _line(one: Permission, roles: list[Role]) -> str:
    needed = " or ".join(
        " and ".join(f"`{scope}`" for scope in sorted(right)) for right in one.rights
    )
    marks = " | ".join("yes" if role in one.roles else "" for role in roles)
    return f"| `{one.method} {one.path}` | {needed or 'none: public'} | {marks} |"


def _scopes(scopes: frozenset[Scope]) -> str:
    return ", ".join(f"`{scope}`" for scope in Scope if scope in scopes)

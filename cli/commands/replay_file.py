"""`ackledger replay-file`: a file of transactions through one of the doors."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.failures import CommandError, UsageError
from cli.invocation import invocation_of
from cli.output import AsJson, console, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.clients.addresses import Addresses
    from cli.replay.mapping import ColumnMapping
    from cli.replay.options import ReplayOptions
    from cli.replay.reading import FileFormat
    from cli.replay.tally import Tally

INTERRUPTED: Final = 130
"""What shells see of a program that Ctrl-C ended."""

_HELP = """\
Send the transactions of a CSV or JSON lines file (also .gz; - is standard input) through a door.

Each field comes from the column of its name, or of the one that --map names. The fields:
idempotency_key, type, amount, currency, source_wallet_id, destination_wallet_id, wallet (the
customer's side of deposits and withdrawals), description, metadata.

Every wallet that a row names, debited or credited, gets the file's order. Running it again changes
nothing: the keys are the same. A bad row is listed and left out. Exit code: 0 when every row is
accepted (with --wait: COMPLETED), 1 when one is not, 2 for wrong usage (a required column is
missing, say), 3 when a door does not answer.
"""


class DoorName(StrEnum):
    """The doors."""

    HTTP = "http"
    AMQP = "amqp"


class WalletsFrom(StrEnum):
    """What the file's wallet columns hold."""

    IDS = "ids"
    CREATE = "create"


class FormatName(StrEnum):
    """The formats."""

    CSV = "csv"
    JSONL = "jsonl"


class PresetName(StrEnum):
    """The presets."""

    BERKA = "berka"


Via = Annotated[DoorName, typer.Option(help="The door.")]
Preset = Annotated[
    PresetName | None,
    typer.Option(help="A ready mapping (berka: the PKDD'99 Czech bank); options win over it."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="The column of a field; repeatable."),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type-map", metavar="WORD=TYPE", help="The file's word for a type; repeatable."),
]
Currency = Annotated[str | None, typer.Option(help="The currency of rows that name none.")]
Wallets = Annotated[
    WalletsFrom | None,
    typer.Option(
        help="ids: the columns hold wallet ids (the default). create: they hold accounts; each "
        "becomes a wallet, and finds the same one in the next run."
    ),
]
KeyPrefix = Annotated[
    str | None, typer.Option(help="Before every key: another prefix is another world.")
]
Format = Annotated[
    FormatName | None, typer.Option("--format", help="Told by the file's name if left out.")
]
Delimiter = Annotated[str, typer.Option(help="One character between the columns of a CSV.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many rows.")]
Rate = Annotated[float | None, typer.Option(min=0.01, help="At most so many rows a second.")]
Batch = Annotated[
    int, typer.Option(min=1, max=1000, help="Transactions in one request or message.")
]
Connections = Annotated[int, typer.Option(min=1, max=500, help="HTTP requests at once.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until all are final, and count the outcomes.")
]
WaitTimeout = Annotated[
    float, typer.Option(min=1, help="Give up waiting after so many seconds without progress.")
]
AllowRefusals = Annotated[
    bool, typer.Option("--allow-refusals", help="FAILED transactions do not make it exit 1.")
]
Url = Annotated[str | None, typer.Option(help="The HTTP door (or ACKLEDGER_URL).")]
ApiKey = Annotated[
    str | None, typer.Option(help="Its key; better in ACKLEDGER_API_KEY, which no `ps` shows.")
]
AmqpUrl = Annotated[
    str | None, typer.Option(help="The AMQP door (or ACKLEDGER_UPSTREAM_AMQP_URL).")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay-file", help=_HELP)(_replay_file)


def _replay_file(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; - is standard input.")],
    *,
    via: Via = DoorName.HTTP,
    preset: Preset = None,
    columns: Columns = None,
    types: Types = None,
    currency: Currency = None,
    wallets: Wallets = None,
    key_prefix: KeyPrefix = None,
    file_format: Format = None,
    delimiter: Delimiter = ",",
    limit: Limit = None,
    rate: Rate = None,
    batch: Batch = 100,
    connections: Connections = 8,
    wait: Wait = False,
    wait_timeout: WaitTimeout = 120.0,
    allow_refusals: AllowRefusals = False,
    url: Url = None,
    api_key: ApiKey = None,
    amqp_url: AmqpUrl = None,
    as_json: AsJson = False,
) -> None:
    from cli.replay.options import ReplayOptions

    options = ReplayOptions(
        file=file,
        via=via.value,
        mapping=_mapping((preset, currency, wallets, key_prefix), columns or (), types or ()),
        addresses=_addresses(context, url=url, api_key=api_key, amqp_url=amqp_url),
        file_format=_file_format(file_format),
        delimiter=_one_character(delimiter),
        limit=limit,
        rate_per_s=rate,
        batch=batch,
        connections=connections,
        waits=wait,
        wait_timeout_s=wait_timeout,
    )
    raise typer.Exit(_replay(options, allow_refusals=allow_refusals, as_json=as_json))


def _mapping(
    options: tuple[PresetName | None, str | None, WalletsFrom | None, str | None],
    columns: "Sequence[str]",
    types: "Sequence[str]",
) -> "ColumnMapping":
    from cli.replay.options import mapping_of

    preset, currency, wallets, key_prefix = options
    return mapping_of(
        preset=preset,
        columns=columns,
        types=types,
        currency=currency,
        makes_wallets=None if wallets is None else wallets is WalletsFrom.CREATE,
        key_prefix=key_prefix,
    )


def _addresses(
    context: typer.Context, *, url: str | None, api_key: str | None, amqp_url: str | None
) -> "Addresses":
    from cli.clients.addresses import addresses_of

    variables = {
        "ACKLEDGER_URL": url,
        "ACKLEDGER_API_KEY": api_key,
        "ACKLEDGER_UPSTREAM_AMQP_URL": amqp_url,
    }
    return addresses_of(invocation_of(context), variables)


def _file_format(name: FormatName | None) -> "FileFormat | None":
    from cli.replay.reading import FileFormat

    return None if name is None else FileFormat(name.value)


def _one_character(delimiter: str) -> str:
    character = "\t" if delimiter == "\\t" else delimiter
    if len(character) != 1 or character in '"\r\n':
        raise UsageError("--delimiter: one character that is no quote is expected (or \\t)")
    return character


def _replay(options: "ReplayOptions", *, allow_refusals: bool, as_json: bool) -> int:
    """Run it, print what it came to, even when it was cut short, and return the exit code."""
    import uvloop

    from ackledger.client.errors import AckledgerError
    from cli.replay.session import run_replay
    from cli.replay.tally import Tally

    tally = Tally()
    exit_code = None
    try:
        uvloop.run(run_replay(options, tally))
    except KeyboardInterrupt:
        say("interrupted; run it again to go on: what was sent is not sent twice")
        exit_code = INTERRUPTED
    except (AckledgerError, CommandError):
        if tally.sent:
            _print(tally, options, as_json=as_json)
        raise
    _print(tally, options, as_json=as_json)
    if exit_code is None:
        exit_code = 0 if tally.is_well(allow_refusals=allow_refusals) else 1
    return exit_code


def _print(tally: "Tally", options: "ReplayOptions", *, as_json: bool) -> None:
    from cli.replay.report import print_summary, summary_of

    if as_json:
        print_json(summary_of(tally, file=options.file, via=options.via))
    else:
        print_summary(tally, console(), via=options.via)

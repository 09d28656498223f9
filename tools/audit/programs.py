"""The programs that recompute, and what each says of a file: its verdict and its balances."""

import csv
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from cli.export.exporting import ExportFormat

MADE_BY: Final = "deploy/make-auditors"
_BOUND_S: Final = 600.0
"""Of one program over one file: a hundred thousand transactions take it a minute."""
_REASON_LINES: Final = 3


class ProgramMissingError(Exception):
    """A program is not on this machine; the message says how to have it."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What a program made of a file. `balances`: of every account; None where it has no way."""

    is_accepted: bool
    reason: str
    balances: Mapping[str, Decimal] | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Ran:
    """A child that ended."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Program:
    """One of the three."""

    name: ExportFormat
    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def version(self) -> str:
        """Return the version that it names itself."""
        option = "-V" if self.name is ExportFormat.HLEDGER else "--version"
        if self.name is ExportFormat.BEANCOUNT:
            code = "from importlib.metadata import version; print(version('beancount'))"
            return self._run([str(self.path.parent / "python"), "-c", code]).out.strip()
        words = self._run([str(self.path), option]).out.replace(",", " ").split()
        return next((word for word in words if word[0].isdigit()), "unknown")

    def recompute(self, file: Path) -> Recomputed:
        """Return what it makes of a file; slow, and bounded in time."""
        return _RECOMPUTING[self.name](self, file)

    def check(self, *options: str) -> _Ran:
        """Run it to its end."""
        return self._run([str(self.path), *options])

    def _run(self, command: Sequence[str]) -> _Ran:
        # Haskell's programs refuse all that is no ASCII unless the locale says UTF-8, and it is
        # installed.
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **self.environment}
        began = time.monotonic()
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                out, err = process.communicate(timeout=_BOUND_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return _Ran(process.returncode, out.decode(), err.decode(), time.monotonic() - began)


def find_programs(root: Path, *, search_path: str) -> list[Program]:
    """Return all three, from a folder of `deploy/make-auditors` or installed.

    Raises ProgramMissingError.
    """
    debian, beancount = root / "debian", root / "beancount/bin/bean-check"
    libraries = [debian / "usr/lib/ledger", *sorted((debian / "usr/lib").glob("*-linux-gnu*"))]
    found = []
    for name in (ExportFormat.HLEDGER, ExportFormat.LEDGER):
        unpacked = debian / "usr/bin" / name
        if unpacked.exists():
            environment = {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
            found.append(Program(name, unpacked, environment))
        elif installed := shutil.which(name, path=search_path):
            found.append(Program(name, Path(installed)))
        else:
            raise ProgramMissingError(f"{name} is not here; make it: {MADE_BY}")
    if not beancount.exists():
        raise ProgramMissingError(f"beancount is not in {root}; make it: {MADE_BY}")
    return [*found, Program(ExportFormat.BEANCOUNT, beancount)]


def _by_hledger(program: Program, file: Path) -> Recomputed:
    checked = program.check("--file", str(file), "check", "--strict")
    if checked.code != 0:
        return _refused(checked)
    # Never its JSON: that has ten decimals and exponents.
    read = program.check(
        *("--file", str(file), "balance", "--flat", "--empty", "--no-total"),
        *("--output-format", "csv"),
    )
    rows = list(csv.reader(io.StringIO(read.out)))[1:]
    balances = {account: _decimal(amount) for account, amount in rows}
    return _accepted(balances, checked, read)


def _by_ledger(program: Program, file: Path) -> Recomputed:
    read = program.check(
        *("--pedantic", "--file", str(file), "balance", "--flat", "--empty", "--no-total"),
        *("--format", "%(account)\t%(quantity(amount))\n"),
    )
    # Its status is the number of errors modulo 256: alone it proves nothing.
    if read.code != 0 or read.err:
        return _refused(read)
    lines = (line.split("\t") for line in read.out.splitlines())
    balances = {account: _decimal(amount) for account, amount in lines}
    return _accepted(balances, read)


def _by_beancount(program: Program, file: Path) -> Recomputed:
    # Its queries stop at 13 digits before the point; the assertions in the file do not.
    checked = program.check("--no-cache", str(file))
    if checked.code != 0 or checked.err:
        return _refused(checked)
    return _accepted(None, checked)


_RECOMPUTING: Final[Mapping[ExportFormat, Callable[[Program, Path], Recomputed]]] = {
    ExportFormat.HLEDGER: _by_hledger,
    ExportFormat.LEDGER: _by_ledger,
    ExportFormat.BEANCOUNT: _by_beancount,
}


def _decimal(amount: str) -> Decimal:
    """Return the number of an amount such as `-12.00 USD`."""
    return Decimal(amount.split(" ", maxsplit=1)[0])


def _accepted(balances: Mapping[str, Decimal] | None, *ran: _Ran) -> Recomputed:
    return Recomputed(
        is_accepted=True, reason="", balances=balances, seconds=sum(one.seconds for one in ran)
    )


def _refused(ran: _Ran) -> Recomputed:
    lines = [line for line in (ran.err or ran.out).splitlines() if line.strip()]
    reason = " / ".join(lines[-_REASON_LINES:]) or f"exit code {ran.code}"
    return Recomputed(is_accepted=False, reason=reason, balances=None, seconds=ran.seconds)

"""The workbench for dead letters: groups, what differs from the contract, and acts on many.

Every act is tried first, says what it would do to each, and is asked for once more. What is for
many goes in steps, each a request of its own that the page sends: nothing is kept here between
them, so whoever leaves the page has stopped it, and a step that is sent twice changes nothing more.
"""

import asyncio
import base64
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import orjson
from aiohttp import web

from console.api import ApiError
from console.pages.view import Route, View
from contracts.dead_letters import NOTE_MAX, DeadLetterFate, DeadLetterState
from contracts.differences import Comparison, Difference, DifferenceKind, compared
from contracts.messages import EVENT_REASONS
from contracts.representations.transaction import format_moment
from contracts.requests.transaction import json_pointer

LINES_MAX: Final = 400
"""Shown of a body: its beginning. What differs is listed beside it, wherever it stands."""
VALUE_MAX: Final = 200
"""Characters of a value in a line."""
_INDENT: Final = "  "
ACTS: Final = ("replay", "discard")
LISTED: Final = 50
SELECTED_MAX: Final = 200
"""Dead letters that are selected one by one; a group may have any number."""
TRIED: Final = 100
"""Dead letters of a group of which one page says what would happen to each."""
SINGLE_STEP: Final = 25
"""Selected ones that one step ends, each by a call of its own."""
_FILTERS: Final = ("reason", "submitter", "fingerprint", "until")
_NAMING: Final = ("reason", "submitter", "fingerprint")
_COUNT_DIGITS: Final = 9
_NOT_DONE: Final = frozenset({404, 409})
_REFUSED: Final = "dead_letter_refused"
Items = list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `kind` says how its place differs from the contract, `note` what is wanted."""

    text: str
    kind: DifferenceKind | None = None
    note: str = ""


def lines_of(content: Any, differences: Sequence[Difference]) -> list[Line]:
    """Return decoded JSON in lines, LINES_MAX at most, and what is missing where it would stand."""
    by_pointer = {one.pointer: one for one in reversed(differences)}
    missing: dict[str, list[Difference]] = defaultdict(list)
    for one in differences:
        if one.kind is DifferenceKind.MISSING:
            missing[one.pointer.rpartition("/")[0]].append(one)
    shown: list[Line] = []
    for line in _lines("", content, (), _Notes(by_pointer, missing)):
        if len(shown) == LINES_MAX:
            return [*shown, Line("…")]
        shown.append(line)
    return shown


@dataclass(frozen=True, slots=True)
class _Notes:
    by_pointer: Mapping[str, Difference]
    missing: Mapping[str, Sequence[Difference]]


def _lines(name: str, value: Any, place: tuple[str | int, ...], notes: _Notes) -> Iterator[Line]:
    """Yield a value's lines; `name` is what stands before it, a field's name or nothing."""
    indent = _INDENT * len(place)
    difference = notes.by_pointer.get(json_pointer(*place))
    kind, note = (difference.kind, difference.detail) if difference else (None, "")
    if not isinstance(value, dict | list) or (not value and not notes.missing.get(_at(place))):
        yield Line(f"{indent}{name}{_written(value)}", kind, note)
        return
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    yield Line(f"{indent}{name}{opening}", kind, note)
    if isinstance(value, dict):
        for field, inner in value.items():
            yield from _lines(f"{_written(field)}: ", inner, (*place, field), notes)
    else:
        for index, inner in enumerate(value):
            yield from _lines("", inner, (*place, index), notes)
    for one in notes.missing.get(_at(place), ()):
        field = one.pointer.rpartition("/")[2]
        if not (isinstance(value, dict) and field in value):
            yield Line(f'{indent}{_INDENT}"{field}": …', one.kind, one.detail)
    yield Line(f"{indent}{closing}")


def _at(place: tuple[str | int, ...]) -> str:
    return json_pointer(*place)


def _written(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}…"


@dataclass(frozen=True, slots=True)
class Meant:
    """What is to be done, and with which dead letters: the selected ones, or all of a group."""

    act: str
    ids: Sequence[str] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    cursor: str = ""
    """Where a group goes on."""

    @property
    def parameters(self) -> dict[str, str]:
        """What the API's calls take beside the ids."""
        return {"note": self.note} if self.note and self.act == "discard" else {}


@dataclass(frozen=True, slots=True)
class Step:
    """What became of some, and what is left; `rest` is None at the end."""

    items: Items
    rest: Meant | None


async def show_workbench(view: View) -> web.StreamResponse:
    """GET /dead-letters."""
    return await _workbench(view)


async def show_dead_letter(view: View) -> web.StreamResponse:
    """GET /dead-letters/{dead_letter_id}."""
    letter = await view.get(f"/v1/dead-letters/{view.segment('dead_letter_id')}")
    comparison = _comparison(letter)
    return view.show(
        "dead_letter.html",
        letter=letter,
        comparison=comparison,
        lines=[] if comparison is None else lines_of(comparison.content, comparison.differences),
    )


async def try_act(view: View) -> web.StreamResponse:
    """POST /dead-letters/check: say what would become of each; nothing is changed."""
    meant = await _meant(view)
    if meant is None:
        return await _workbench(view, status=400, trouble="Select at least one.")
    form = await view.form()
    step = await _step(view, meant, limit=TRIED, is_trial=True)
    total = _count(form, "total") or len(meant.ids)
    return view.show(
        "dead_letters_check.html",
        meant=meant,
        items=step.items,
        counts=Counter(one["outcome"] for one in step.items),
        rest=step.rest,
        total=max(total, len(step.items)),
        seen=_count(form, "seen") + len(step.items),
        note_max=NOTE_MAX,
    )


async def act_on_many(view: View) -> web.StreamResponse:
    """POST /dead-letters/work: one step, and how far it is."""
    meant, form = await _meant(view), await view.form()
    if meant is None:
        return await _workbench(view, status=400, trouble="Select at least one.")
    counts = Counter({fate.value: _count(form, fate.value) for fate in DeadLetterFate})
    asked = form.get("step", "")
    limit = int(asked) if asked in _STEPS else max(map(int, _STEPS))
    try:
        step = await _step(view, meant, limit=limit, is_trial=False)
    except ApiError as error:
        # Nobody knows how much of it was done, and to do it again changes nothing more.
        return view.show(
            "dead_letters_work.html",
            status=error.answer.status,
            trouble=error.answer.trouble,
            meant=meant,
            items=[],
            rest=meant,
            **_progress(counts, form),
        )
    counts.update(one["outcome"] for one in step.items)
    return view.show(
        "dead_letters_work.html",
        meant=meant,
        items=[one for one in step.items if one["outcome"] == DeadLetterFate.REFUSED],
        rest=step.rest,
        is_live=step.rest is not None,
        done=None if step.rest else "All of them were looked at.",
        **_progress(counts, form),
    )


_STEPS: Final = ("100", "1000")
"""Of a group by one request: with a script, which goes on by itself, and by hand."""


def _progress(counts: Counter[str], form: Mapping[str, str]) -> dict[str, Any]:
    ended = sum(counts.values())
    return {"counts": counts, "ended": ended, "total": max(_count(form, "total"), ended)}


def _count(form: Mapping[str, str], name: str) -> int:
    """Return a number that a form carries on; 0 for what is none."""
    text = form.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS else 0


async def _meant(view: View) -> Meant | None:
    """Return what a form asks for; None where it names no dead letter."""
    form, ids = await view.form(), await view.chosen("id")
    act = form.get("act", "")
    if act not in ACTS:
        raise web.HTTPNotFound
    filters = {name: form[name] for name in _FILTERS if form.get(name)}
    if form.get("scope") != "group":
        chosen = tuple(dict.fromkeys(ids))[:SELECTED_MAX]
        return Meant(act, ids=chosen, note=form.get("note", "")) if chosen else None
    if not any(name in filters for name in _NAMING):
        return None
    return Meant(act, filters=filters, note=form.get("note", ""), cursor=form.get("cursor", ""))


async def _step(view: View, meant: Meant, *, limit: int, is_trial: bool) -> Step:
    """Try or do so many; raises ApiError where the API does not take part."""
    trial = {"dry_run": "true"} if is_trial else {}
    if meant.ids:
        return await _step_of_ids(view, meant, trial)
    wanted = {**meant.filters, **meant.parameters, **trial, "limit": str(limit)}
    if meant.cursor:
        wanted["cursor"] = meant.cursor
    answer = await view.try_to("POST", f"/v1/dead-letters/{meant.act}", query=wanted)
    if not answer.is_well:
        raise ApiError(answer)
    following = answer.json["next_cursor"]
    rest = (
        None
        if following is None
        else Meant(meant.act, filters=meant.filters, note=meant.note, cursor=following)
    )
    return Step(answer.json["items"], rest)


async def _step_of_ids(view: View, meant: Meant, trial: Mapping[str, str]) -> Step:
    count = SELECTED_MAX if trial else SINGLE_STEP
    items = [await _end(view, meant, one, trial) for one in meant.ids[:count]]
    left = meant.ids[count:]
    return Step(items, Meant(meant.act, ids=left, note=meant.note) if left else None)


async def _end(
    view: View, meant: Meant, dead_letter_id: str, trial: Mapping[str, str]
) -> Mapping[str, Any]:
    """Try or do one; what stands in the way of it alone is its outcome."""
    path = f"/v1/dead-letters/{quote(dead_letter_id, safe='')}/{meant.act}"
    answer = await view.try_to("POST", path, query={**meant.parameters, **trial})
    if answer.is_well:
        outcome: Mapping[str, Any] = answer.json
        return outcome
    if answer.status not in _NOT_DONE:
        raise ApiError(answer)
    is_refused = answer.code == _REFUSED
    fate = DeadLetterFate.REFUSED if is_refused else DeadLetterFate.UNCHANGED
    return {"id": dead_letter_id, "outcome": fate.value, "detail": answer.json.get("detail", "")}


def _comparison(letter: Mapping[str, Any]) -> Comparison | None:
    """Return a request beside the contract; None for what is no request, or not all of it."""
    if letter["reason"] in EVENT_REASONS or not letter["is_body_whole"]:
        return None
    is_text = letter["body_encoding"] == "text"
    body = letter["body"].encode() if is_text else base64.b64decode(letter["body"])
    comparison = compared(body, submitter=letter["submitter"])
    content = comparison.content
    is_our_own = isinstance(content, dict) and "transaction_ids" in content
    return None if is_our_own else comparison


async def _workbench(
    view: View, *, status: int = 200, trouble: str | None = None
) -> web.StreamResponse:
    asked = {name: view.asked(name) for name in _NAMING}
    state = view.asked("state") or DeadLetterState.OPEN.value
    cursor, limit = view.asked("cursor"), str(LISTED)
    groups, page = await asyncio.gather(
        view.get("/v1/dead-letters/groups", state=state, **asked),
        view.get("/v1/dead-letters", state=state, cursor=cursor, limit=limit, **asked),
    )
    return view.show(
        "dead_letters.html",
        status=status,
        trouble=trouble,
        groups=groups["items"],
        is_complete=groups["is_complete"],
        letters=page["items"],
        next_cursor=page["next_cursor"],
        asked={**asked, "state": state},
        states=[one.value for one in DeadLetterState],
        # What comes after the page was looked at is not meant by its buttons.
        now=format_moment(datetime.now(UTC)),
    )


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/dead-letters", show_workbench),
    ("POST", "/dead-letters/check", try_act),
    ("POST", "/dead-letters/work", act_on_many),
    ("GET", "/dead-letters/{dead_letter_id}", show_dead_letter),
)

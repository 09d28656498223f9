"""Which versions a client names in If-Match and If-None-Match (RFC 9110)."""

import time

import pytest

from contracts.problems import ContractError, ProblemCode
from ingress.parsing import tag_condition_of

TAG = '"18-5d41"'


@pytest.mark.parametrize(
    ("lines", "is_strong", "is_weak"),
    [
        (["*"], True, True),
        ([" * "], True, True),
        ([TAG], True, True),
        ([f'"a", {TAG}'], True, True),
        ([f'"a,b" ,{TAG},'], True, True),
        ([f',, {TAG} ,\t"b"'], True, True),
        (['"a"', TAG], True, True),
        ([f"W/{TAG}"], False, True),
        ([f'"a", W/{TAG}'], False, True),
        (['"18-5d4"'], False, False),
        (['"18-5D41"'], False, False),
        (['""'], False, False),
        (['"é"'], False, False),
    ],
)
def test_a_tag_is_named_strongly_or_weakly(
    *, lines: list[str], is_strong: bool, is_weak: bool
) -> None:
    condition = tag_condition_of("If-Match", lines)

    assert condition is not None
    assert condition.holds_strongly(TAG) is is_strong
    assert condition.holds_weakly(TAG) is is_weak


def test_without_the_header_there_is_no_condition() -> None:
    assert tag_condition_of("If-Match", []) is None


@pytest.mark.parametrize(
    "text",
    ["", " ", ",", "18-5d41", '"18', f"w/{TAG}", f"W/ {TAG}", f"*, {TAG}", f"{TAG} {TAG}", '"a b"'],
)
def test_what_is_no_list_of_tags_is_refused_and_never_overlooked(text: str) -> None:
    with pytest.raises(ContractError, match="If-Match") as refused:
        tag_condition_of("If-Match", [text])

    assert refused.value.code is ProblemCode.INVALID_PARAMETER


@pytest.mark.parametrize("text", ["," + " \t," * 4000 + "x", '"' * 8001, f"{TAG}," * 900 + "x"])
def test_a_long_header_costs_no_more_than_its_length(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ContractError):
        tag_condition_of("If-None-Match", [text])

    assert time.process_time() - started < 0.5

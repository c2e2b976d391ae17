from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core import errors
from chamelaion_watch.core.advice import ADVICE, Advice, advice_for, remote_code
from chamelaion_watch.core.model import RootState
from chamelaion_watch.core.preflight import DEFAULT_RULES

PROMISED = [
    "input_changed",
    "rejected",
    "transient",
    "rate_limited",
    "quota_exhausted",
    "unauthorized",
    "unreachable",
    "unknown_request",
    "output",
    "full",
    "read_only",
    "denied",
    "unreadable",
    "no_picture",
    "no_sound",
    "duration_mismatch",
    "remote_failed",
    "no_face",
    "media_problem",
    "stuck",
    "connection_reset",
    "timed_out",
    "stalled",
    "server_error",
    "not_the_service",
    "odd_answer",
    "redirect",
    "link_expired",
    "not_a_video",
    "no_output",
    "output_url_refused",
    "output_too_large",
    "doubtful",
    "internal",
    "poisonous",
    "two_videos",
    "two_audios",
    "twins",
    "stray",
    "daily_limit",
]
JARGON = re.compile(
    r"\b(http|https|api|url|json|ledger|daemon|socket|tcp|dns|tls|timeout|[45]\d\d|ftyp|moov)\b", re.IGNORECASE
)


@pytest.mark.parametrize("code", PROMISED)
def test_every_promised_code_has_advice_of_its_own(code: str) -> None:
    assert code in ADVICE


def test_every_error_class_has_advice() -> None:
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.WatchError)
    ]
    assert {cls.code for cls in classes} - set(ADVICE) <= {"config", "root"}  # never about a pair


def test_every_root_state_and_preflight_rule_has_advice() -> None:
    assert {str(state) for state in RootState} - {"ok"} <= set(ADVICE)
    assert set(DEFAULT_RULES) <= set(ADVICE)


@pytest.mark.parametrize("code", ADVICE)
def test_advice_is_in_whole_plain_sentences(code: str) -> None:
    advice = ADVICE[code]
    assert 3 <= len(advice.title) <= 40
    assert advice.title[0].islower()
    for text in (advice.what_happened, advice.what_to_do):
        assert text[0].isupper()
        assert text.endswith(".")
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", text)) <= 2, text
        assert len(text) <= 260
        assert not JARGON.search(text), text


@pytest.mark.parametrize(
    ("code", "same_as"), [("dns", "unreachable"), ("tls", "unreachable"), ("no_length", "media_host")]
)
def test_related_codes_share_their_advice(code: str, same_as: str) -> None:
    assert advice_for(code) == ADVICE[same_as]


def test_an_unknown_code_still_gets_an_answer() -> None:
    assert advice_for("brand_new").title == "brand new"
    assert advice_for("").title == "trouble"
    assert "\x1b" not in advice_for("\x1b[31m").title


def test_a_remote_failure_is_refined_by_its_message() -> None:
    assert advice_for("remote_failed", "No face detected") == ADVICE["no_face"]
    assert advice_for("remote_failed", "who knows") == ADVICE["remote_failed"]


@given(st.text(), st.text())
def test_advice_never_fails(code: str, message: str) -> None:
    assert isinstance(advice_for(code, message), Advice)
    assert remote_code(message) in ADVICE

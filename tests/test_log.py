from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from chamelaion_watch import log

KEY = "ck_live_Zq81+xyz/7"
SIGNED = "https://storage.chamelaion.com/out/6f82.mp4?X-Sig=abcdef123&Expires=99"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hooks = list(root.handlers), root.level, (sys.excepthook, threading.excepthook)
    yield
    logger.remove()
    logger.configure(patcher=lambda record: None)
    root.handlers, root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks
    log._secrets.clear()


def configured(
    form: str = "text",
    level: str = "info",
    *,
    stream: io.StringIO | None = None,
    env: Mapping[str, str] | None = None,
) -> io.StringIO:
    stream = stream or io.StringIO()
    log.configure(level, form, stream=stream, env=env or {})
    return stream


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail_with_secrets(key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    try:
        raise ValueError(f"cannot GET {SIGNED} with {headers}")
    except ValueError as error:
        raise RuntimeError(f"gave up on key {key}") from error


# -- forms --------------------------------------------------------------------------------------------


def test_text_is_time_level_message_and_fields() -> None:
    stream = configured()
    logger.bind(job=12, root="lipsync").info("uploading scene01.mp4")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO     uploading scene01\.mp4 job=12 root=lipsync\n",
        stream.getvalue(),
    )


def test_json_is_one_object_a_line() -> None:
    stream = configured("json")
    logger.bind(job=12, note=None, message="not mine", path=Path("/srv/x")).warning('say "hi"\nthere')
    (event,) = events(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("at"))
    assert event == {"level": "warning", "message": 'say "hi"\\nthere', "job": 12, "note": None, "path": "/srv/x"}


def test_a_terminal_gets_colours() -> None:
    stream = configured("auto", stream=Terminal(), env={"TERM": "xterm"})
    logger.error("no")
    assert "\x1b[31mERROR   \x1b[0m no" in stream.getvalue()


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(env: dict[str, str]) -> None:
    stream = configured("auto", stream=Terminal(), env=env)
    logger.error("no")
    assert "\x1b" not in stream.getvalue()


def test_an_empty_no_color_refuses_nothing() -> None:
    stream = configured("auto", stream=Terminal(), env={"NO_COLOR": ""})
    logger.info("yes")
    assert "\x1b" in stream.getvalue()


@pytest.mark.parametrize("form", ["auto", "text"])
def test_a_pipe_gets_plain_text(form: str) -> None:
    stream = configured(form)
    logger.error("no")
    assert "\x1b" not in stream.getvalue()
    assert "ERROR" in stream.getvalue()


def test_the_journal_gets_a_priority_on_each_line(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        log.configure("debug", "auto", stream=stream, env={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        logger.debug("a")
        logger.info("b")
        logger.warning("c")
        logger.critical("d")
        try:
            raise ValueError("line one\n<0>forged")
        except ValueError:
            logger.exception("e")
        lines = (tmp_path / "journal").read_text().splitlines()
    assert lines[:5] == ["<7>a", "<6>b", "<4>c", "<2>d", "<3>e"]
    assert all(line.startswith("<3>    ") for line in lines[5:])
    assert lines[-2:] == ["<3>    ValueError: line one", "<3>    <0>forged"]


def test_another_journal_stream_is_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as stream:
        log.configure("info", "auto", stream=stream, env={"JOURNAL_STREAM": "8:12345"})
        logger.info("b")
        assert "INFO" in (tmp_path / "file").read_text()


def test_the_level_is_kept() -> None:
    stream = configured(level="warning")
    logger.info("quiet")
    logger.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_configuring_again_replaces_the_former_stream() -> None:
    first, second = configured(), configured()
    logger.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


# -- one line per event -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_threat_38_a_hostile_name_stays_on_its_line(form: str) -> None:
    stream = configured(form)
    name = "a\r\n2026-01-01 INFO forged\x1b[2J\u202e" + os.fsdecode(b"\xff")
    logger.bind(file=name).info("taking {}", name)
    assert len(stream.getvalue().splitlines()) == 1
    stream.getvalue().encode("utf-8")
    assert "\x1b" not in stream.getvalue()
    assert "\\xff" in stream.getvalue()


def test_a_traceback_is_indented_in_text_and_one_field_in_json() -> None:
    text, forged = configured("text"), "ValueError: first\n    2026-01-01 00:00:00.000 INFO     forged\\x07"
    try:
        raise ValueError("first\n2026-01-01 00:00:00.000 INFO     forged\x07")
    except ValueError:
        logger.exception("it broke")
        assert forged in text.getvalue()
        stream = configured("json")
        logger.exception("it broke")
    (event,) = events(stream)
    assert event["message"] == "it broke"
    assert event["exception"].startswith("Traceback")
    assert "forged\\x07" in event["exception"]


def test_threat_82_a_traceback_shows_no_values_of_variables() -> None:
    stream = configured("text", "trace")
    opaque = "value-of-a-variable"
    try:
        len(opaque) / 0
    except ZeroDivisionError:
        logger.exception("it broke")
    assert "len(opaque) / 0" in stream.getvalue()
    assert "value-of-a-variable" not in stream.getvalue()


def test_an_endless_traceback_is_cut_in_the_middle() -> None:
    stream = configured()
    try:
        raise ValueError("x\n" * 5000 + "end")
    except ValueError:
        logger.exception("it broke")
    lines = stream.getvalue().splitlines()
    assert len(lines) <= log.TRACEBACK_LINES + 2
    assert lines[-1] == "    end"


# -- secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("level", ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_threat_81_82_the_key_is_shown_nowhere_at_any_level(form: str, level: str) -> None:
    stream = configured(form, "trace")
    log.hide(KEY)
    try:
        fail_with_secrets(KEY)
    except RuntimeError as error:
        logger.bind(header=f"Bearer {KEY}", nested={"key": KEY}, error=error).opt(exception=True).log(
            level, "key {} and {}", KEY, "ck_live_Zq81%2Bxyz%2F7"
        )
    shown = stream.getvalue()
    assert "gave up on key ***" in shown
    assert "Zq81" not in shown
    assert "abcdef123" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("[(b'authorization', b'Bearer abc123')]", "[(b'authorization', b'Bearer ***')]"),
        ("x-api-key: abc123", "x-api-key: ***"),
        ("{'x-api-key': 'abc123'}", "{'x-api-key': '***'}"),
        (f"for url '{SIGNED}'", "for url 'https://storage.chamelaion.com/out/6f82.mp4?***'"),
        ("http://user:pass@proxy:3128/", "http://***@proxy:3128/"),
        ('"GET /a/b?token=1 HTTP/1.1" 200', '"GET /a/b?*** HTTP/1.1" 200'),
        ("taking /srv/share/really?.mp4", "taking /srv/share/really?.mp4"),
        ("https://api.chamelaion.com/api/v1", "https://api.chamelaion.com/api/v1"),
    ],
)
def test_threat_82_tokens_and_queries_are_hidden_without_being_registered(text: str, shown: str) -> None:
    assert log.redacted(text) == shown


def test_a_secret_within_a_secret_leaves_no_rest() -> None:
    log.hide("abcdef")
    log.hide("abcdef-long-tail")
    assert log.redacted("key abcdef-long-tail") == "key ***"


def test_an_empty_secret_hides_nothing() -> None:
    log.hide("")
    assert log.redacted("all is well") == "all is well"


# -- other people's logging ---------------------------------------------------------------------------


def test_threat_82_libraries_are_heard_from_warning_on_and_redacted() -> None:
    stream = configured("json", "trace")
    log.hide(KEY)
    logging.getLogger("httpx").info("HTTP Request: GET %s", SIGNED)
    logging.getLogger("watchdog").warning("odd {braces} %s", KEY)
    logging.getLogger("uvicorn").error("GET %s failed", SIGNED)
    first, second = events(stream)
    assert (first["level"], first["logger"], first["message"]) == ("warning", "watchdog", "odd {braces} ***")
    assert second["message"] == "GET https://storage.chamelaion.com/out/6f82.mp4?*** failed"


def test_a_librarys_broken_format_is_logged_as_it_is() -> None:
    stream = configured()
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if isinstance(handler, log._Interceptor)]  # not pytest's
    logging.getLogger("lib").error("100% %d", "x")
    assert "100% %d" in stream.getvalue()


def test_a_librarys_exception_is_logged() -> None:
    stream = configured()
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("lib").exception("it broke")
    assert "    ValueError: inside" in stream.getvalue()


def test_configuring_twice_does_not_double_the_libraries_lines() -> None:
    configured()
    stream = configured()
    logging.getLogger("lib").warning("once")
    assert stream.getvalue().count("once") == 1


def test_what_nobody_caught_in_a_thread_ends_in_the_log() -> None:
    stream = configured()
    log.hide(KEY)
    log.log_uncaught()
    thread = threading.Thread(target=fail_with_secrets, args=(KEY,), name="upload-1")
    thread.start()
    thread.join()
    assert "CRITICAL bug: uncaught RuntimeError in upload-1" in stream.getvalue()
    assert "gave up on key ***" in stream.getvalue()
    assert "Zq81" not in stream.getvalue()


# -- a stream that fails ------------------------------------------------------------------------------


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    stream = configured()
    stream.close()
    logger.error("into the void")


def test_a_full_disk_stops_nothing() -> None:
    with Path("/dev/full").open("w") as stream:
        log.configure("info", "text", stream=stream, env={})
        logger.error("no room")
        logger.remove()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # so that closing can flush the rest


def test_a_stream_without_unicode_still_gets_the_line(tmp_path: Path) -> None:
    with (tmp_path / "ascii").open("w", encoding="ascii", errors="backslashreplace") as stream:
        log.configure("info", "text", stream=stream, env={})
        logger.info("Größe")
    assert "Gr\\xf6\\xdfe" in (tmp_path / "ascii").read_text()

"""The stand-in service on real sockets: early answers, faults, the media origin, control, start and end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from chamelaion_watch.sandbox.media import MediaError, describe, dub, make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.support import eventually

UPLOAD = "/v1/lipsync/generate-with-media"
REQUESTS = "/v1/lipsync/requests"
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}  # no proxies; and loading authorities takes 40 ms
JUNK = {"video": ("v.mp4", b"not a video"), "audio": ("a.wav", b"not a sound")}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clip")
    make_video(folder / "v.mp4", seconds=0.4)
    make_video(folder / "blank.mp4", seconds=0.4, blank=True)
    make_audio(folder / "a.wav", seconds=1.0)
    return {"video": folder / "v.mp4", "audio": folder / "a.wav", "blank": folder / "blank.mp4"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxOptions(speed=100.0, rpm=None, seed=1)) as running:
        yield running
        assert running.state()["bugs"] == []


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {sandbox.key}", "user-agent": "test/1"}
    with httpx.Client(base_url=sandbox.base_url, headers=headers, **PLAIN, timeout=5.0) as opened:
        yield opened


def files(clip: dict[str, Path], video: str = "video") -> dict[str, tuple[str, bytes]]:
    return {"video": ("v.mp4", clip[video].read_bytes()), "audio": ("a.wav", clip["audio"].read_bytes())}


def submit(client: httpx.Client, **fields: str) -> httpx.Response:
    return client.post(UPLOAD, files=JUNK, data=fields)


def ended(client: httpx.Client, handle: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        request: dict[str, Any] = client.get(f"{REQUESTS}/{handle}").json()
        return request if request["status"] in {"completed", "failed"} else None

    found = eventually(look)
    assert found is not None
    return found


def output_url(client: httpx.Client, clip: dict[str, Path], reference_id: str = "r") -> str:
    answer = client.post(UPLOAD, files=files(clip), data={"reference_id": reference_id})
    assert answer.status_code == 200, answer.text
    return str(ended(client, reference_id)["output_url"])


def connected(sandbox: Sandbox) -> socket.socket:
    parts = urlsplit(sandbox.base_url)
    return socket.create_connection((parts.hostname, parts.port), timeout=5.0)


def head(sandbox: Sandbox, length: int, *, key: str = "sandbox-key", more: str = "") -> bytes:
    return (
        f"POST /api{UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\n{more}\r\n"
    ).encode()


# -- the work -----------------------------------------------------------------------------------------


def test_the_output_is_the_picture_with_the_new_sound(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path], tmp_path: Path
) -> None:
    answer = httpx.get(output_url(client, clip), **PLAIN)
    target = tmp_path / "out.mp4"
    target.write_bytes(answer.content)
    assert answer.headers["content-type"] == "video/mp4"
    facts = describe(target)
    assert facts.has_video
    assert facts.has_audio
    assert facts.duration_s == pytest.approx(0.4, abs=0.05)  # the sound was 1 s
    assert answer.content.index(b"moov") < answer.content.index(b"mdat")
    submission = sandbox.state()["submissions"][0]
    assert submission["output_sha256"] == hashlib.sha256(answer.content).hexdigest()


def test_an_upload_is_recorded_with_hash_size_name_and_fields(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path]
) -> None:
    sent, before = files(clip), time.time()
    data = {"reference_id": "r", "disable_active_speaker_detection": "true", "model": "lipsync-2"}
    request_id = client.post(UPLOAD, files=sent, data=data).json()["request_id"]
    submission = sandbox.state()["submissions"][0]
    assert submission["id"] == request_id
    assert submission["reference_id"] == "r"
    assert submission["video_sha256"] == hashlib.sha256(sent["video"][1]).hexdigest()
    assert submission["audio_sha256"] == hashlib.sha256(sent["audio"][1]).hexdigest()
    assert (submission["video_bytes"], submission["video_filename"]) == (len(sent["video"][1]), "v.mp4")
    assert submission["fields"] == {"disable_active_speaker_detection": "true", "model": "lipsync-2"}
    assert before <= submission["accepted_at"] <= time.time()


def test_a_picture_of_one_colour_fails_for_want_of_a_face(client: httpx.Client, clip: dict[str, Path]) -> None:
    client.post(UPLOAD, files=files(clip, "blank"), data={"reference_id": "r"})
    assert ended(client, "r")["error_message"] == "No face detected in the video"


def test_broken_media_fails_the_request(client: httpx.Client) -> None:
    submit(client, reference_id="r")
    request = ended(client, "r")
    assert (request["status"], request["error_message"]) == ("failed", "the video file could not be read as media")


def test_a_truncated_video_does_not_pass_for_a_short_one(clip: dict[str, Path], tmp_path: Path) -> None:
    whole = clip["video"].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError):
        dub(tmp_path / "cut.mp4", clip["audio"], tmp_path / "out.mp4")


def test_made_media_differs_by_seed_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_video(tmp_path / f"{name}.mp4", seconds=0.2, seed=seed)
        make_audio(tmp_path / f"{name}.mp3", seconds=0.2, seed=seed)
    for suffix in (".mp4", ".mp3"):
        a, b, c = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "abc")
        assert a == b != c
    assert describe(tmp_path / "a.mp3").has_audio


def test_short_sound_is_continued_with_silence(clip: dict[str, Path], tmp_path: Path) -> None:
    make_audio(tmp_path / "short.mp3", seconds=0.1)
    dub(clip["video"], tmp_path / "short.mp3", tmp_path / "out.mp4")
    assert describe(tmp_path / "out.mp4").duration_s == pytest.approx(0.4, abs=0.05)


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "data", "text"),
    [
        ({"audio": JUNK["audio"]}, {}, "video file is required"),
        ({"video": JUNK["video"]}, {}, "audio file is required"),
        ({"video": ("v.mp4", b""), "audio": JUNK["audio"]}, {}, "video file is required"),
        ([("video", JUNK["video"]), ("video", JUNK["video"])], {}, "expected exactly one video input"),
        (JUNK, {"model": "lipsync-1"}, 'model must be "lipsync-2"'),
        (JUNK, {"disable_active_speaker_detection": "maybe"}, "invalid request body"),
        (JUNK, {"reference_id": "x" * 100_000}, "invalid request body"),
    ],
)
def test_a_bad_upload_is_told_what_is_bad(
    client: httpx.Client, sandbox: Sandbox, sent: Any, data: dict[str, str], text: str
) -> None:
    answer = client.post(UPLOAD, files=sent, data=data)
    assert (answer.status_code, answer.json()) == (400, {"error": text})
    assert sandbox.state()["submissions"] == []


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("application/json", "content-type must be multipart/form-data"),
        ("multipart/form-data", "invalid request body"),
        ("multipart/form-data; boundary=b", "invalid request body"),
    ],
)
def test_a_body_that_is_no_multipart_is_refused(client: httpx.Client, content_type: str, text: str) -> None:
    answer = client.post(UPLOAD, content=b"--b\r\nnonsense", headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]) == (400, text)


def test_a_url_submission_needs_its_content_type(client: httpx.Client) -> None:
    answer = client.post("/v1/lipsync/generate", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]) == (400, "content-type must be application/json")


def test_account_checks_come_before_validation(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(quota=0)
    assert client.post(UPLOAD, content=b"nonsense").status_code == 412
    sandbox.control(rpm=0)
    assert client.post(UPLOAD, content=b"nonsense").status_code == 429
    assert client.post(UPLOAD, content=b"nonsense", headers={"authorization": "Bearer x"}).status_code == 401


@pytest.mark.parametrize(
    ("refused", "key", "status"),
    [({}, "wrong", 401), ({"rpm": 0}, "sandbox-key", 429), ({"quota": 0}, "sandbox-key", 412)],
)
def test_an_early_refusal_is_heard_before_the_body_is_sent(
    sandbox: Sandbox, refused: dict[str, int], key: str, status: int
) -> None:
    sandbox.control(**refused)
    with connected(sandbox) as wire:
        wire.sendall(head(sandbox, 10_000_000, key=key) + b"x" * 1000)
        answer = b""
        while not answer.endswith(b"}"):
            answer += wire.recv(65536)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"connection: close" in answer.lower()
        wire.sendall(b"x" * 3_000_000)  # the rest is read and thrown away, so that nothing resets us
        wire.shutdown(socket.SHUT_WR)
        assert wire.recv(10) == b""
    entry = refused_upload(sandbox)
    assert (entry["status"], entry["received_bytes"]) == (status, 3_001_000)


def refused_upload(sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = eventually(lambda: [e for e in sandbox.state()["refused_uploads"] if e["is_over"]])[0]
    return found


def test_an_early_refusal_sends_no_continue(sandbox: Sandbox) -> None:
    with connected(sandbox) as wire:
        wire.sendall(head(sandbox, 10_000, key="wrong", more="Expect: 100-continue\r\n"))
        assert wire.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_welcome_upload_is_told_to_continue(sandbox: Sandbox) -> None:
    with connected(sandbox) as wire:
        wire.sendall(head(sandbox, 10_000, more="Expect: 100-continue\r\n"))
        assert wire.recv(65536).startswith(b"HTTP/1.1 100 ")


def test_a_refused_upload_that_is_sent_to_its_end_still_gets_its_answer(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(quota=0)
    answer = client.post(UPLOAD, files=JUNK | {"video": ("v.mp4", b"x" * 5_000_000)})
    assert (answer.status_code, answer.json()) == (412, {"error": "token limit reached"})
    assert refused_upload(sandbox)["received_bytes"] > 5_000_000


def test_a_client_that_goes_in_mid_upload_gives_its_place_back(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(cap=1, rpm=2)
    with connected(sandbox) as wire:
        wire.sendall(head(sandbox, 10_000))
        eventually(lambda: len(sandbox.state()["log"]) == 1)
        assert submit(client).status_code == 429
    eventually(lambda: sandbox.state()["log"][0]["is_over"])
    assert submit(client).status_code == 200
    assert len(sandbox.state()["submissions"]) == 1


def test_retry_after_is_in_the_clients_seconds(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(rpm=1, window_s=1000.0)
    submit(client)
    assert 1 <= int(submit(client).headers["retry-after"]) <= 10
    sandbox.control(retry_after="banana")
    assert submit(client).headers["retry-after"] == "banana"


def test_a_rotated_key_stops_the_old_one(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(key="new")
    assert client.get("/v1/users/me").json() == {"error": "unauthorized"}
    assert client.get("/v1/users/me", headers={"authorization": f"Bearer {sandbox.key}"}).status_code == 200


def test_unknown_paths_and_methods_answer_in_the_same_form(client: httpx.Client) -> None:
    assert client.get("/v2/nothing").json() == {"error": "not found"}
    assert client.get(UPLOAD).json() == {"error": "method not allowed"}
    assert client.get(REQUESTS, params={"limit": "0"}).status_code == 400


# -- faults on the API --------------------------------------------------------------------------------


def test_lost_answers_leave_a_request_behind(client: httpx.Client, sandbox: Sandbox) -> None:
    for kind in ("lost", "reset_late"):
        sandbox.control(faults=[{"on": "submit", "kind": kind}])
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            submit(client, reference_id=kind)
        assert client.get(f"{REQUESTS}/{kind}").status_code == 200


def test_lost_before_and_reset_early_leave_nothing_behind(client: httpx.Client, sandbox: Sandbox) -> None:
    for kind in ("lost_before", "reset_early"):
        sandbox.control(faults=[{"on": "submit", "kind": kind}])
        with pytest.raises(httpx.TransportError):
            submit(client, reference_id=kind)
        assert client.get(f"{REQUESTS}/{kind}").status_code == 404
    assert sandbox.state()["submissions"] == []


def test_a_late_request_appears_after_its_delay_only(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "submit", "kind": "late", "delay_s": 0.3}])
    began = time.monotonic()
    with pytest.raises(httpx.RemoteProtocolError):
        submit(client, reference_id="r")
    assert client.get(f"{REQUESTS}/r").status_code == 404
    eventually(lambda: client.get(f"{REQUESTS}/r").status_code == 200, every=0.05)
    assert time.monotonic() - began >= 0.3


def test_created_500_and_an_html_answer_leave_a_request_behind(client: httpx.Client, sandbox: Sandbox) -> None:
    orders: list[dict[str, Any]] = [
        {"kind": "created_500"},
        {"kind": "html", "create": True},
        {"kind": "status", "status": 504, "create": True},
    ]
    sandbox.control(faults=[{"on": "submit"} | order for order in orders])
    answers = [submit(client, reference_id=name) for name in "abc"]
    assert [answer.status_code for answer in answers] == [500, 200, 504]
    assert answers[0].json() == {"error": "internal error"}
    assert "Please log in" in answers[1].text
    assert [client.get(f"{REQUESTS}/{name}").status_code for name in "abc"] == [200, 200, 200]


def test_lost_and_lag_strike_the_same_request(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "submit", "kind": "lag", "delay_s": 0.3}, {"on": "submit", "kind": "lost"}])
    with pytest.raises(httpx.RemoteProtocolError):
        submit(client, reference_id="r")
    assert client.get(f"{REQUESTS}/r").status_code == 404
    assert client.get(REQUESTS).json()["data"] == []
    eventually(lambda: client.get(f"{REQUESTS}/r").status_code == 200, every=0.05)


def test_fail_and_never_decide_how_a_request_ends(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(
        faults=[
            {"on": "submit", "kind": "fail", "message": "no luck", "reference_id": "f"},
            {"on": "submit", "kind": "never", "reference_id": "n"},
        ]
    )
    for name in ("x", "n", "f"):
        submit(client, reference_id=name)
    assert ended(client, "f")["error_message"] == "no luck"
    assert ended(client, "x")["error_message"] != "no luck"
    assert client.get(f"{REQUESTS}/n").json()["status"] == "processing"


def test_a_fault_by_reference_waits_for_that_submission(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "submit", "kind": "status", "status": 400, "body": "no", "reference_id": "b"}])
    assert [submit(client, reference_id=name).status_code for name in "abb"] == [200, 400, 200]
    assert [s["reference_id"] for s in sandbox.state()["submissions"]] == ["a", "b"]


@pytest.mark.parametrize("then", ["drain", "reset", "stop"])
def test_an_early_status_ends_the_upload_in_three_ways(sandbox: Sandbox, then: str) -> None:
    order = {"on": "submit", "kind": "status", "status": 413, "then": then, "seconds": 0.2, "headers": {"x-own": "1"}}
    sandbox.control(faults=[order])
    with connected(sandbox) as wire:
        wire.sendall(head(sandbox, 100_000_000))
        answer = wire.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"x-own: 1" in answer
        if then != "drain":
            with pytest.raises(ConnectionError):
                wire.sendall(b"x" * 100_000_000)


def test_a_stall_on_submit_reads_nothing_and_then_hangs_up(sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "submit", "kind": "stall", "seconds": 0.2}])
    with connected(sandbox) as wire:
        wire.sendall(head(sandbox, 10_000))
        with contextlib.suppress(ConnectionError):
            assert wire.recv(10) == b""
    assert sandbox.state()["log"][0]["received_bytes"] == 0


def test_a_stall_may_read_and_create_first(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "submit", "kind": "stall", "seconds": 60, "create": True}])
    with pytest.raises(httpx.ReadTimeout):
        client.post(UPLOAD, files=JUNK, data={"reference_id": "r"}, timeout=0.3)
    assert client.get(f"{REQUESTS}/r").status_code == 200


def test_a_delay_comes_before_the_usual_answer(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": on, "kind": "delay", "seconds": 0.2} for on in ("submit", "health")])
    began = time.monotonic()
    assert submit(client).status_code == 200
    assert client.get("/health").json() == {"status": "ok"}
    assert time.monotonic() - began >= 0.4


def test_patch_overwrites_and_removes(client: httpx.Client, sandbox: Sandbox) -> None:
    for name in "ab":
        submit(client, reference_id=name)
    patch = {"kind": "patch", "set": {"status": "strange", "output_url": None}, "remove": ["created_at"]}
    sandbox.control(faults=[{"on": "get"} | patch, {"on": "list", "reference_id": "a"} | patch])
    request = client.get(f"{REQUESTS}/a").json()
    assert (request["status"], request["output_url"]) == ("strange", None)
    assert "created_at" not in request
    listed = client.get(REQUESTS).json()
    assert [item["status"] == "strange" for item in listed["data"]] == [False, True]
    assert listed["pagination"]["total"] == 2


def test_patch_on_a_list_reaches_the_answer_itself(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "list", "kind": "patch", "set": {"data": None}, "remove": ["pagination"]}])
    assert client.get(REQUESTS).json() == {"data": None}


def test_forget_denies_a_known_request(client: httpx.Client, sandbox: Sandbox) -> None:
    for name in "ab":
        submit(client, reference_id=name)
    sandbox.control(faults=[{"on": on, "kind": "forget", "reference_id": "a"} for on in ("get", "list")])
    assert client.get(f"{REQUESTS}/b").status_code == 200
    assert client.get(f"{REQUESTS}/a").json() == {"error": "lipsync request not found"}
    assert [item["reference_id"] for item in client.get(REQUESTS).json()["data"]] == ["b"]
    assert client.get(f"{REQUESTS}/a").status_code == 200


@pytest.mark.parametrize(
    ("order", "status", "start"),
    [
        ({"kind": "html"}, 200, "<!DOCTYPE html>"),
        ({"kind": "broken_json"}, 200, '{"status"'),
        ({"kind": "json", "body": [None, 1]}, 200, "[null, 1]"),
        ({"kind": "deep_json", "depth": 1000}, 200, "[" * 1000 + "]"),
        ({"kind": "huge", "megabytes": 2}, 200, '{"padding":"000'),
        ({"kind": "gzip_bomb", "megabytes": 2}, 200, '{"padding":"000'),
        ({"kind": "drip", "every_s": 0}, 200, '{"name"'),
        ({"kind": "redirect", "location": "http://127.0.0.1:9/", "status": 302}, 302, ""),
        ({"kind": "status", "status": 599}, 599, '{"error":'),
        ({"kind": "status", "status": 503, "body": "<h1>", "content_type": "text/html"}, 503, "<h1>"),
    ],
)
def test_answers_in_place_of_the_usual_one(
    client: httpx.Client, sandbox: Sandbox, order: dict[str, Any], status: int, start: str
) -> None:
    sandbox.control(faults=[{"on": "me"} | order])
    answer = client.get("/v1/users/me")
    assert answer.status_code == status
    assert answer.text.startswith(start)
    assert client.get("/v1/users/me").json() == {"name": "My API Token"}


def test_a_gzip_bomb_is_small_on_the_wire(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "me", "kind": "gzip_bomb", "megabytes": 20}])
    with client.stream("GET", "/v1/users/me") as answer:
        assert sum(map(len, answer.iter_raw())) < 200_000


def test_a_get_can_be_reset_or_left_without_an_answer(client: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "get", "kind": kind} for kind in ("reset_early", "lost")])
    with pytest.raises(httpx.ReadError):
        client.get(f"{REQUESTS}/r")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"{REQUESTS}/r")
    assert sandbox.state()["counters"]["get"] == {"none": 2}


# -- media --------------------------------------------------------------------------------------------


def test_media_is_another_origin_and_sees_who_sends_the_key(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path]
) -> None:
    url = output_url(client, clip)
    assert url.startswith(sandbox.media_origin + "/")
    assert urlsplit(url).netloc != urlsplit(sandbox.base_url).netloc
    httpx.get(url, **PLAIN)
    assert sandbox.state()["media_requests_with_credentials"] == 0
    for header in ("authorization", "x-api-key", "cookie"):
        httpx.get(url, headers={header: "k"}, **PLAIN)
    assert sandbox.state()["media_requests_with_credentials"] == 3


def test_ranges_and_tags_are_honoured(client: httpx.Client, clip: dict[str, Path]) -> None:
    url = output_url(client, clip)
    with httpx.Client(**PLAIN) as media:
        whole = media.get(url)
        size, etag = len(whole.content), whole.headers["etag"]
        assert whole.headers["accept-ranges"] == "bytes"
        assert int(whole.headers["content-length"]) == size
        for asked, first, last in (("100-199", 100, 199), ("100-", 100, size - 1), ("-5", size - 5, size - 1)):
            part = media.get(url, headers={"range": f"bytes={asked}", "if-range": etag})
            assert (part.status_code, part.content) == (206, whole.content[first : last + 1])
            assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert media.get(url, headers={"range": "bytes=5-", "if-range": '"old"'}).status_code == 200
        beyond = media.get(url, headers={"range": f"bytes={size}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        assert media.head(url).headers["content-length"] == str(size)


def test_an_old_or_forged_link_is_denied_in_xml_and_a_fresh_one_works(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path]
) -> None:
    sandbox.control(link_ttl_s=10.0)  # 0.1 s of ours
    url = output_url(client, clip)
    denied = eventually(lambda: answer if (answer := httpx.get(url, **PLAIN)).status_code == 403 else None)
    assert denied is not None
    assert denied.headers["content-type"].startswith("application/xml")
    assert "Request has expired" in denied.text
    assert httpx.get(url.replace("sig=", "sig=0"), **PLAIN).status_code == 403
    sandbox.control(link_ttl_s=3600.0)
    assert httpx.get(ended(client, "r")["output_url"], **PLAIN).status_code == 200


@pytest.mark.parametrize("kind", ["truncate", "cut_chunked"])
def test_a_cut_download_is_an_error(client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path], kind: str) -> None:
    url = output_url(client, clip)
    sandbox.control(faults=[{"on": "media", "kind": kind, "reference_id": "r"}])
    with httpx.stream("GET", url, **PLAIN) as answer:
        assert ("content-length" in answer.headers) is (kind == "truncate")
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            answer.read()
        got = answer.num_bytes_downloaded
    assert got == sandbox.state()["submissions"][0]["output_bytes"] // 2


@pytest.mark.parametrize("kind", ["short", "cut_close", "empty", "html"])
def test_a_wrong_download_looks_whole_to_http(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path], kind: str
) -> None:
    url = output_url(client, clip)
    sandbox.control(faults=[{"on": "media", "kind": kind}])
    wrong, right = (httpx.get(url, **PLAIN) for _ in range(2))
    assert wrong.status_code == right.status_code == 200
    assert wrong.content != right.content
    if kind in {"short", "cut_close"}:
        assert wrong.content == right.content[: len(right.content) // 2]
    assert sandbox.state()["counters"]["media"] == {"200": 2}


def test_ranges_can_be_ignored_or_wrong_and_tags_can_change(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path]
) -> None:
    url, asked = output_url(client, clip), {"range": "bytes=10-"}
    sandbox.control(faults=[{"on": "media", "kind": kind} for kind in ("ignore_range", "wrong_range", "etag_change")])
    ignored, wrong, changed, usual = (httpx.get(url, headers=asked, **PLAIN) for _ in range(4))
    assert ignored.status_code == 200
    assert wrong.headers["content-range"].startswith("bytes 0-")
    assert changed.headers["etag"] != usual.headers["etag"] == ignored.headers["etag"]


def test_a_download_can_be_slow_stalled_expired_or_refused(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path]
) -> None:
    url = output_url(client, clip)
    size = sandbox.state()["submissions"][0]["output_bytes"]
    orders: list[dict[str, Any]] = [
        {"kind": "slow", "bytes_per_s": size * 4},
        {"kind": "expired"},
        {"kind": "status", "status": 503},
        {"kind": "stall", "after_bytes": 100},
    ]
    sandbox.control(faults=[{"on": "media"} | order for order in orders])
    began = time.monotonic()
    assert len(httpx.get(url, **PLAIN).content) == size
    assert time.monotonic() - began >= 0.2
    assert [httpx.get(url, **PLAIN).status_code for _ in range(2)] == [403, 503]
    with httpx.stream("GET", url, **PLAIN, timeout=0.3) as answer:
        with pytest.raises(httpx.ReadTimeout):
            answer.read()
        assert answer.num_bytes_downloaded == 100


def test_url_inputs_are_fetched_from_loopback_without_redirects(
    client: httpx.Client, sandbox: Sandbox, clip: dict[str, Path]
) -> None:
    url = output_url(client, clip)
    sandbox.control(faults=[{"on": "media", "kind": "redirect", "location": url}])
    inputs = [{"type": "video", "url": url}, {"type": "audio", "url": url}]
    for name in ("redirected", "direct"):
        client.post("/v1/lipsync/generate", json={"inputs": inputs, "reference_id": name})
        ended(client, name)
    assert ended(client, "redirected")["error_message"] == "an input answered 307"
    assert ended(client, "direct")["status"] == "completed"
    facts = sandbox.state()["submissions"]
    assert facts[2]["video_sha256"] == facts[0]["output_sha256"]


# -- control and facts --------------------------------------------------------------------------------


def test_control_over_http_changes_all_or_nothing(client: httpx.Client, sandbox: Sandbox) -> None:
    control = sandbox.base_url.removesuffix("/api") + "/_sandbox"
    answer = httpx.post(control, json={"quota": 1, "faults": [{"on": "me", "kind": "html"}]}, **PLAIN)
    assert (answer.status_code, answer.json()["limits"]["quota"]) == (200, 1)
    wrong: tuple[Any, ...] = ({"quota": 2, "rpm": -1}, {"quota": 2, "faults": [{}]}, {"key": ""}, {"nothing": 1}, [])
    for bad in wrong:
        assert httpx.post(control, json=bad, **PLAIN).status_code == 400
    state = httpx.get(control, **PLAIN).json()
    assert state["limits"]["quota"] == 1
    assert [fault["kind"] for fault in state["faults"]] == ["html"]
    httpx.post(control, json={"faults": []}, **PLAIN)
    assert sandbox.state()["faults"] == []


def test_control_from_python_names_what_is_wrong(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="rpm"):
        sandbox.control(rpm="many")


def test_the_log_tells_who_asked_what(client: httpx.Client, sandbox: Sandbox) -> None:
    client.get(REQUESTS, params={"reference_id": "r"})
    httpx.get(sandbox.base_url + "/health", **PLAIN)
    listed, health = sandbox.state()["log"]
    assert (listed["endpoint"], listed["path"], listed["query"]) == ("list", f"/api{REQUESTS}", "reference_id=r")
    assert (listed["status"], listed["has_credentials"], listed["user_agent"]) == (200, True, "test/1")
    assert (health["endpoint"], health["has_credentials"]) == ("health", False)
    assert sandbox.state(log=1)["log"] == [health]
    assert json.dumps(sandbox.state())


# -- start and end ------------------------------------------------------------------------------------


def test_closing_ends_stalled_connections_and_removes_the_files(tmp_path: Path) -> None:
    with Sandbox(SandboxOptions(rpm=None)) as sandbox, socket.socket() as wire:
        folder = Path(sandbox._folder.name)
        sandbox.control(faults=[{"on": "health", "kind": "stall"}])
        wire.connect(("127.0.0.1", urlsplit(sandbox.base_url).port))
        wire.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: sandbox.state()["log"])
        assert folder.is_dir()
        began = time.monotonic()
        sandbox.close()
        assert time.monotonic() - began < 2
        assert wire.recv(10) == b""
        assert not folder.exists()
        sandbox.close()
        assert sandbox.state()["bugs"] == []


def test_a_port_that_is_taken_is_an_error_that_names_it(sandbox: Sandbox) -> None:
    port = urlsplit(sandbox.base_url).port
    assert port is not None
    with pytest.raises(OSError, match=str(port)):
        Sandbox(SandboxOptions(port=port))


def test_two_sandboxes_give_out_different_ids() -> None:
    seeds = []
    for _ in range(2):
        with Sandbox() as sandbox:
            seeds.append(sandbox.state()["seed"])
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_listens_and_ends_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "chamelaion_watch.sandbox", "--speed", "100", "--key", "k", "--quota", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        word, base_url = process.stdout.readline().split()
        assert word == "READY"
        answer = httpx.get(f"{base_url}/v1/users/me", headers={"x-api-key": "k"}, **PLAIN)
        assert answer.status_code == 200
        os.kill(process.pid, number)
        assert process.wait(10) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_a_reset_client_does_not_disturb_the_others(client: httpx.Client, sandbox: Sandbox) -> None:
    with connected(sandbox) as wire:
        wire.sendall(head(sandbox, 1_000_000) + b"x" * 100_000)
        eventually(lambda: any(entry["received_bytes"] for entry in sandbox.state()["log"]))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: sandbox.state()["log"][0]["is_over"])
    assert submit(client).status_code == 200

"""Twenty pairs over real sockets: right outputs, right notes, one submission per distinct pair, sources untouched."""

from __future__ import annotations

import os
import shutil
import threading
import unicodedata
from pathlib import Path

from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from tests.acceptance.rig import Facts, eventually, fingerprints, outputs, rig, submissions, temps

SECONDS = 1.0


def pair(folder: Path, stem: str, seed: int) -> None:
    make_video(folder / f"{stem}.mp4", seconds=SECONDS, seed=seed)
    make_audio(folder / f"{stem}.wav", seconds=SECONDS, seed=seed)


def copy_slowly(source: Path, target: Path, *, reserves: bool, gate: threading.Event) -> None:
    """Write half, wait until told, write the rest; `reserves`: at the full size from the start, as Explorer does."""
    data = source.read_bytes()
    with target.open("wb", buffering=0) as file:
        if reserves:
            file.truncate(len(data))
        file.write(data[: len(data) // 2])
        gate.wait(60)
        file.write(data[len(data) // 2 :])


def main() -> None:
    facts = Facts()
    with rig(rpm=1000, queue_s=0.2, processing_s=1.0) as (at, sandbox):
        at.configure(api={"requests_per_minute": 1000})
        drop = at.drop
        for number in range(1, 10):  # 9 plain pairs
            pair(drop, f"scene{number:02}", number)
        make_video(drop / "trailer.mp4", seconds=SECONDS, seed=20)  # 3 languages of one video
        for seed, lang in enumerate(("de", "fr", "pt-BR"), start=20):
            make_audio(drop / f"trailer.{lang}.wav", seconds=SECONDS, seed=seed)
        make_video(drop / "black.mp4", seconds=SECONDS, seed=30, blank=True)  # fails remotely
        make_audio(drop / "black.wav", seconds=SECONDS, seed=30)
        make_audio(drop / "lonely.wav", seconds=SECONDS, seed=31)  # an orphan
        make_video(drop / "twice.mp4", seconds=SECONDS, seed=32)  # ambiguous
        make_audio(drop / "twice.wav", seconds=SECONDS, seed=32)
        make_audio(drop / "twice.mp3", seconds=SECONDS, seed=33)
        nfd, nfc = unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café")
        make_video(drop / f"{nfd}.mp4", seconds=SECONDS, seed=34)  # NFD beside NFC
        make_audio(drop / f"{nfc}.wav", seconds=SECONDS, seed=34)
        for side in ("video", "audio"):
            (drop / "show" / side).mkdir(parents=True)
        make_video(drop / "show" / "video" / "ep1.mp4", seconds=SECONDS, seed=35)  # split folders
        make_audio(drop / "show" / "audio" / "ep1.wav", seconds=SECONDS, seed=35)
        stage = at.home / "stage"
        stage.mkdir()
        for stem, seed in (("slow", 36), ("reserved", 37)):
            make_video(stage / f"{stem}.mp4", seconds=SECONDS, seed=seed)
            make_audio(drop / f"{stem}.wav", seconds=SECONDS, seed=seed)
        gate = threading.Event()
        writers = [
            threading.Thread(
                target=copy_slowly,
                args=(stage / f"{stem}.mp4", drop / f"{stem}.mp4"),
                kwargs={"reserves": stem == "reserved", "gate": gate},
            )
            for stem in ("slow", "reserved")
        ]
        for writer in writers:
            writer.start()
        with at.daemon() as daemon:
            eventually(lambda: len(outputs(drop)) >= 14, 90)
            early = {Path(os.fsdecode(path)).name for path in outputs(drop)}
            facts.check("nothing half-copied was taken", not any(n.startswith(("slow", "reserved")) for n in early))
            facts.check(
                "while they were being copied",
                all(writer.is_alive() for writer in writers),
                f"{len(early)} outputs so far",
            )
            gate.set()
            for writer in writers:
                writer.join()
            eventually(lambda: len(outputs(drop)) >= 16, 60)
            paid = len(submissions(sandbox))
            for suffix in (".mp4", ".wav"):  # the same pair under another name: costs nothing
                shutil.copy(drop / f"scene01{suffix}", drop / f"again{suffix}")
            before = fingerprints(drop)
            eventually((drop / "again.lipsync.mp4").exists, 60)
            facts.check("dropped again under another name: nothing paid", len(submissions(sandbox)) == paid, paid)
            eventually((drop / "twice.lipsync-attention.txt").exists, 30)
            eventually((drop / "black.lipsync-error.txt").exists, 30)
            status = at.status()
        facts.check("the daemon stopped with exit 0", daemon.returncode == 0, daemon.returncode)
        check_end(facts, drop, sandbox_submissions=submissions(sandbox), status=status)
        facts.check("sources untouched byte for byte", before == fingerprints(drop), f"{len(before)} files")
        state = sandbox.state()
        facts.check("no credentials at the media host", state["media_requests_with_credentials"] == 0)
        facts.check("the sandbox met no bug of its own", not state["bugs"], state["bugs"])
    facts.end()


def check_end(
    facts: Facts, drop: Path, *, sandbox_submissions: list[dict[str, object]], status: dict[str, object]
) -> None:
    names = sorted(str(path.relative_to(drop)) for path in outputs(drop))
    plain = [f"scene{number:02}.lipsync.mp4" for number in range(1, 10)]
    others = ["again", "slow", "reserved", "trailer.de", "trailer.fr", "trailer.pt-BR", "show/video/ep1"]
    nfd = unicodedata.normalize("NFD", "café")
    expected = sorted([*plain, *(f"{name}.lipsync.mp4" for name in others), f"{nfd}.lipsync.mp4"])
    facts.check("the right outputs", names == expected, f"{len(names)} of {len(expected)}")
    played = [describe(path) for path in outputs(drop)]
    right = [p.has_video and p.has_audio and abs(p.duration_s - SECONDS) < 0.3 for p in played]
    facts.check("each plays: picture, sound, right duration", all(right), f"{sum(right)} of {len(right)}")
    distinct = {(one["video_sha256"], one["audio_sha256"]) for one in sandbox_submissions}
    facts.check(
        "one submission per distinct pair",
        len(sandbox_submissions) == len(distinct) == 17,
        f"{len(sandbox_submissions)}",
    )
    notes = sorted(path.name for path in drop.rglob("[!.]*.lipsync-*"))
    wanted = ["black.lipsync-error.json", "black.lipsync-error.txt", "twice.lipsync-attention.txt"]
    facts.check("the right notes", notes == wanted, notes)
    attention = (drop / "twice.lipsync-attention.txt").read_text(encoding="utf-8-sig")
    facts.check("the attention note names both candidates", "twice.wav" in attention and "twice.mp3" in attention)
    lines = {str(line["name"]): line for line in status["pairs"]}  # type: ignore[attr-defined]
    facts.check(
        "the orphan is visible as waiting", lines["lonely.wav"]["state"] == "waiting", lines["lonely.wav"]["reason"]
    )
    facts.check("no temp file is left", not temps(drop))


if __name__ == "__main__":
    main()

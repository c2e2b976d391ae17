"""What we write: notes that are replaced whole, results that appear whole and replace nothing; on real files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.core.model import RootState, Structure
from chamelaion_watch.edges import outputs, placing, writing
from chamelaion_watch.edges.jail import held, open_root
from chamelaion_watch.edges.outputs import Part, copy_output, find_output, remove_note, remove_parts, write_note

MODE = 0o664
TEMP = ".x.lipsync.mp4.lipsync-part"
NAMES = ["x.lipsync.mp4", "x_v2.lipsync.mp4", "x_v3.lipsync.mp4"]


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "root").mkdir()
    return str(tmp_path / "root")


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def new_part(root: str, content: bytes = b"result", rel: str = TEMP) -> Part:
    part = Part.create(root, rel, mode=MODE)
    part.write(content)
    return part


# -- notes --------------------------------------------------------------------------------------------


def test_a_note_is_written_whole_over_an_older_one(root: str) -> None:
    write_note(root, "x.lipsync-error.txt", b"old", mode=MODE)
    write_note(root, "x.lipsync-error.txt", b"new", mode=MODE)
    assert Path(root, "x.lipsync-error.txt").read_bytes() == b"new"
    assert names(root) == ["x.lipsync-error.txt"]


def test_a_note_has_the_mode_whatever_the_umask(root: str) -> None:
    before = os.umask(0o077)
    try:
        write_note(root, "new/x.lipsync-error.txt", b"", mode=MODE)
    finally:
        os.umask(before)
    assert Path(root, "new/x.lipsync-error.txt").stat().st_mode & 0o777 == MODE
    assert Path(root, "new").stat().st_mode & 0o777 == 0o775


def test_no_folder_is_made_where_it_may_not(root: str) -> None:
    with pytest.raises(OutputProblem) as caught:
        write_note(root, "new/x.lipsync-error.txt", b"", mode=MODE, may_make_folders=False)
    assert caught.value.root_state is RootState.MISSING
    assert names(root) == []


def test_a_missing_root_is_never_made(root: str) -> None:
    Path(root).rmdir()
    with pytest.raises(OutputProblem) as caught:
        write_note(root, "x.lipsync-error.txt", b"", mode=MODE)
    assert caught.value.root_state is RootState.MISSING
    assert not Path(root).exists()


def test_a_note_removes_once(root: str) -> None:
    write_note(root, "x.lipsync-error.txt", b"", mode=MODE)
    assert remove_note(root, "x.lipsync-error.txt")
    assert not remove_note(root, "x.lipsync-error.txt")
    assert not remove_note(root, "none/x.lipsync-error.txt")


def test_threat_45_a_note_planted_as_a_link_is_replaced_and_what_it_points_to_stays(root: str, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    for name in ("x.lipsync-error.txt", outputs.part_name("x.lipsync-error.txt")):
        Path(root, name).symlink_to(tmp_path / "victim")
    write_note(root, "x.lipsync-error.txt", b"note", mode=MODE)
    assert Path(root, "x.lipsync-error.txt").read_bytes() == b"note"
    assert (tmp_path / "victim").read_bytes() == b"mine"
    Path(root, "way").symlink_to(tmp_path)
    with pytest.raises(OutputProblem):
        write_note(root, "way/x.lipsync-error.txt", b"note", mode=MODE)


def test_threat_45_a_folder_in_place_of_a_note_is_a_problem_and_leaves_nothing(root: str) -> None:
    Path(root, "x.lipsync-error.txt").mkdir()
    with pytest.raises(OutputProblem) as caught:
        write_note(root, "x.lipsync-error.txt", b"note", mode=MODE)
    assert caught.value.code == "output_path"
    assert names(root) == ["x.lipsync-error.txt"]


@pytest.mark.parametrize("name", ["scene.mp4", "scene.lipsync.mp4", "x.retry"])
def test_threat_45_only_names_of_notes_are_ever_written_over_or_removed(root: str, name: str) -> None:
    Path(root, name).write_bytes(b"somebody's")
    for call in (lambda: remove_note(root, name), lambda: write_note(root, name, b"", mode=MODE)):
        with pytest.raises(ValueError, match="note"):
            call()
    assert Path(root, name).read_bytes() == b"somebody's"


def test_threat_40_a_note_of_240_bytes_fits_and_a_longer_one_gets_a_temp_name_of_its_hash(root: str) -> None:
    for length in (240, 255):
        name = "n" * (length - len(".lipsync-error.txt")) + ".lipsync-error.txt"
        write_note(root, name, b"note", mode=MODE)
        assert Path(root, name).read_bytes() == b"note"
    assert len(names(root)) == 2
    assert outputs.part_name("a" * 255) != outputs.part_name("b" * 255)
    assert all(outputs.is_part(outputs.part_name(name)) for name in ("a", "a" * 255))


def test_a_template_may_lead_outside_but_nothing_behind_it(root: str, tmp_path: Path) -> None:
    write_note(root, "../out/a/x.lipsync-error.txt", b"note", mode=MODE)
    assert (tmp_path / "out" / "a" / "x.lipsync-error.txt").read_bytes() == b"note"
    with pytest.raises(OutputProblem) as caught:
        write_note(root, "../out/../../x.lipsync-error.txt", b"note", mode=MODE)
    assert caught.value.code == "output_path"
    (tmp_path / "out" / "link").symlink_to(root)
    with pytest.raises(OutputProblem):
        write_note(root, "../out/link/x.lipsync-error.txt", b"note", mode=MODE)


def test_stale_parts_go_and_nothing_else_does(root: str) -> None:
    rels = [TEMP, "sub/.y.lipsync-part", "scene.mp4", ".hidden", "x.lipsync-part", "sub/none/.z.lipsync-part"]
    Path(root, "sub").mkdir()
    for rel in rels[:-1]:
        Path(root, rel).write_bytes(b"")
    assert remove_parts(root, [*rels, "../.z.lipsync-part", "/etc/.z.lipsync-part"]) == 2
    assert names(root) == [".hidden", "scene.mp4", "sub", "x.lipsync-part"]


# -- parts --------------------------------------------------------------------------------------------


def test_a_part_is_hidden_until_it_is_published(root: str) -> None:
    part = new_part(root, b"first ")
    part.write(memoryview(b"second"))
    assert part.size == 12
    assert names(root) == [TEMP]
    assert part.sha256() == sha256(b"first second")
    assert part.publish(NAMES) == NAMES[0]
    assert names(root) == [NAMES[0]]
    assert Path(root, NAMES[0]).read_bytes() == b"first second"
    assert Path(root, NAMES[0]).stat().st_mode & 0o777 == MODE
    assert Path(root, NAMES[0]).stat().st_nlink == 1


def test_folders_of_a_result_are_made(root: str) -> None:
    assert new_part(root, rel=f"a/b/{TEMP}").publish([f"a/b/{name}" for name in NAMES]) == f"a/b/{NAMES[0]}"


def test_threat_20_another_file_of_that_name_is_never_replaced(root: str) -> None:
    Path(root, NAMES[0]).write_bytes(b"result of somebody else")
    Path(root, NAMES[1]).mkdir()
    assert new_part(root).publish(NAMES) == NAMES[2]
    assert Path(root, NAMES[0]).read_bytes() == b"result of somebody else"
    assert names(root) == NAMES


def test_a_file_of_the_same_size_is_not_taken_for_ours(root: str) -> None:
    Path(root, NAMES[0]).write_bytes(b"RESULT")
    assert new_part(root).publish(NAMES) == NAMES[1]


def test_our_own_content_under_that_name_is_the_result(root: str) -> None:
    Path(root, NAMES[0]).write_bytes(b"other")
    Path(root, NAMES[1]).write_bytes(b"result")
    inode = Path(root, NAMES[1]).stat().st_ino
    assert new_part(root).publish(NAMES) == NAMES[1]
    assert names(root) == NAMES[:2]
    assert Path(root, NAMES[1]).stat().st_ino == inode


@pytest.mark.timeout(10)
def test_threat_45_links_and_pipes_in_the_way_are_passed_by(root: str, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"result")
    Path(root, NAMES[0]).symlink_to(tmp_path / "target")
    os.mkfifo(Path(root, NAMES[1]))
    assert new_part(root).publish(NAMES) == NAMES[2]


def test_threat_19_when_every_name_is_taken_the_part_stays_and_can_be_published_later(root: str) -> None:
    for name in NAMES:
        Path(root, name).write_bytes(b"taken")
    part = new_part(root)
    with pytest.raises(OutputProblem) as caught:
        part.publish(NAMES)
    assert caught.value.code == "output_names"
    Path(root, NAMES[0]).unlink()
    assert part.publish(NAMES) == NAMES[0]


def test_a_result_goes_nowhere_but_into_its_parts_folder(root: str) -> None:
    part = new_part(root)
    with pytest.raises(ValueError, match="folder"):
        part.publish(["elsewhere/x.lipsync.mp4"])
    part.discard()


def test_a_stale_part_of_that_name_is_begun_anew(root: str) -> None:
    new_part(root, b"stale").close()
    assert names(root) == [TEMP]
    part = new_part(root, b"fresh")
    assert part.sha256() == sha256(b"fresh")
    part.discard()
    assert names(root) == []


def test_a_half_that_another_session_has_begun_under_that_name_is_not_published(root: str) -> None:
    """The ledger failed, or the configuration was read again, while a thread still hashed its result."""
    old = new_part(root, b"whole")
    new = new_part(root, b"ha")
    with pytest.raises(OutputProblem):
        old.publish(NAMES)
    assert names(root) == [TEMP]
    new.write(b"lf")
    new.publish(NAMES)
    assert Path(root, NAMES[0]).read_bytes() == b"half"


def test_a_part_restarts_with_nothing(root: str) -> None:
    part = new_part(root, b"wrong beginning")
    part.restart()
    assert part.size == 0
    part.write(b"right")
    assert part.sha256() == sha256(b"right")
    part.discard()


def test_a_part_that_is_discarded_twice_or_after_publishing_does_no_harm(root: str) -> None:
    part = new_part(root)
    part.publish(NAMES)
    part.discard()
    part.discard()
    assert names(root) == [NAMES[0]]


def test_a_part_says_whether_it_is_a_whole_mp4(root: str) -> None:
    mp4 = b"\0\0\0\x10ftypisom0000" + b"\0\0\0\x08moov" + b"\0\0\0\x10mdat12345678"
    part = new_part(root, mp4)
    assert part.check() == (Structure.WHOLE, "")
    part.restart()
    part.write(mp4[:-1])
    assert part.check()[0] is Structure.TRUNCATED
    part.restart()
    part.write(b"<html>Access denied</html>")
    assert part.check()[0] is Structure.UNKNOWN
    part.discard()


def test_only_hidden_part_names_are_parts(root: str) -> None:
    for rel in ("x.lipsync.mp4", ".x", "x.lipsync-part"):
        with pytest.raises(ValueError, match="part"):
            Part.create(root, rel, mode=MODE)


def test_threat_14_more_than_is_free_is_refused_before_the_first_byte(root: str) -> None:
    with pytest.raises(OutputProblem, match="free") as caught:
        Part.create(root, TEMP, mode=MODE, expected_bytes=1 << 60)
    assert caught.value.root_state is RootState.FULL
    assert names(root) == []


def test_no_descriptor_is_left_open(root: str) -> None:
    before = len(names("/proc/self/fd"))
    new_part(root).publish(NAMES)
    new_part(root).discard()
    new_part(root).close()
    with contextlib.suppress(OutputProblem):
        Part.create(root, TEMP, mode=MODE, expected_bytes=1 << 60)
    with contextlib.suppress(OutputProblem):
        Part.create(root, f"none/{TEMP}", mode=MODE, may_make_folders=False)
    assert len(names("/proc/self/fd")) == before


# -- put aside and taken up ---------------------------------------------------------------------------


def test_a_part_moves_aside_and_is_adopted_where_it_left_off(root: str, tmp_path: Path) -> None:
    spooled = str(tmp_path / "spooled")
    part = new_part(root, b"half")
    assert part.move_to(spooled)
    assert names(root) == []
    part = Part.adopt(spooled, root, f"sub/{TEMP}", mode=MODE)
    assert part.size == 4
    assert not Path(spooled).exists()
    part.write(b" and half")
    assert part.publish([f"sub/{NAMES[0]}"])
    assert Path(root, "sub", NAMES[0]).read_bytes() == b"half and half"


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder on another file system than the tests' own."""
    folder = Path("/dev/shm") / f"chamelaion-watch-test-{os.getpid()}"
    if not folder.parent.is_dir() or not os.access(folder.parent, os.W_OK):
        pytest.skip("no second file system")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_a_part_stays_where_it_is_if_aside_is_another_file_system(root: str, other_disk: Path) -> None:
    part = new_part(root)
    assert not part.move_to(str(other_disk / "spooled"))
    assert part.publish(NAMES) == NAMES[0]


def test_a_part_is_adopted_from_another_file_system_by_copying(root: str, other_disk: Path) -> None:
    content = os.urandom(3_000_000)
    (other_disk / "spooled").write_bytes(content)
    part = Part.adopt(str(other_disk / "spooled"), root, TEMP, mode=MODE)
    assert (part.size, part.sha256()) == (len(content), sha256(content))
    assert names(other_disk) == []
    part.write(b"more")
    part.publish(NAMES)
    assert Path(root, NAMES[0]).read_bytes() == content + b"more"


def test_a_lost_spool_is_said_to_be_so(root: str, tmp_path: Path) -> None:
    with pytest.raises(OutputProblem) as caught:
        Part.adopt(str(tmp_path / "none"), root, TEMP, mode=MODE)
    assert caught.value.code == "spool_missing"


# -- existing results ---------------------------------------------------------------------------------


def test_a_result_is_found_by_its_content_only(root: str) -> None:
    Path(root, NAMES[0]).write_bytes(b"result")
    Path(root, "link").symlink_to(NAMES[0])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{root}/socket")
    good = sha256(b"result")
    assert find_output(root, NAMES[0], good, 6)
    assert not find_output(root, NAMES[0], sha256(b"RESULT"), 6)
    assert not find_output(root, NAMES[0], good, 7)
    for rel in ("none", "none/none", "link", "socket", "", f"{NAMES[0]}/below"):
        assert not find_output(root, rel, good, 6), rel


def test_an_existing_result_is_copied_and_checked(root: str, tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    Path(root, "old.lipsync.mp4").write_bytes(content)
    (tmp_path / "second").mkdir()
    second = str(tmp_path / "second")
    part = copy_output((root, "old.lipsync.mp4"), second, TEMP, sha256=sha256(content), mode=MODE)
    assert part
    assert part.size == len(content)
    assert part.publish(NAMES) == NAMES[0]
    assert Path(second, NAMES[0]).read_bytes() == content


@pytest.mark.parametrize("rel", ["edited.mp4", "none.mp4", "link.mp4"])
def test_a_result_that_is_gone_or_edited_is_not_copied(root: str, rel: str) -> None:
    Path(root, "edited.mp4").write_bytes(b"edited")
    Path(root, "link.mp4").symlink_to("edited.mp4")
    assert copy_output((root, rel), root, TEMP, sha256=sha256(b"result"), mode=MODE) is None
    assert TEMP not in names(root)


# -- placing ------------------------------------------------------------------------------------------

WAYS = [placing.rename_exclusively, placing.link_then_unlink, placing.replace_placeholder]


@pytest.mark.parametrize("way", WAYS)
def test_threat_19_21_each_way_of_placing_gives_the_name_and_replaces_nothing(root: str, way: placing.Way) -> None:
    with held(open_root(root)) as folder:
        Path(root, "temp").write_bytes(b"ours")
        Path(root, "taken").write_bytes(b"theirs")
        assert not placing.place(folder, "temp", "taken", [way])
        assert placing.place(folder, "temp", "free", [way])
    assert (Path(root, "taken").read_bytes(), Path(root, "free").read_bytes()) == (b"theirs", b"ours")
    assert names(root) == ["free", "taken"]
    assert Path(root, "free").stat().st_nlink == 1


def refusing(code: int) -> placing.Way:
    def refuse(folder: int, temp: str, final: str) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM])
def test_threat_21_a_way_the_file_system_does_not_know_is_followed_by_the_next(root: str, code: int) -> None:
    Path(root, "temp").write_bytes(b"ours")
    with held(open_root(root)) as folder:
        assert placing.place(folder, "temp", "free", [refusing(code), placing.replace_placeholder])


def test_threat_19_an_error_in_earnest_is_no_reason_to_try_the_next_way(root: str) -> None:
    Path(root, "temp").write_bytes(b"ours")
    with held(open_root(root)) as folder, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        placing.place(folder, "temp", "free", [refusing(errno.ENOSPC), placing.replace_placeholder])
    assert names(root) == ["temp"]


def test_threat_19_a_placeholder_goes_when_the_rename_fails(root: str) -> None:
    with held(open_root(root)) as folder, pytest.raises(FileNotFoundError):
        placing.replace_placeholder(folder, "no such temp", "free")
    assert names(root) == []


# -- what errors mean ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "state", "slug"),
    [
        (errno.ENOSPC, RootState.FULL, "full"),
        (errno.EDQUOT, RootState.FULL, "full"),
        (errno.EFBIG, RootState.FULL, "output_too_big"),
        (errno.EROFS, RootState.READ_ONLY, "read_only"),
        (errno.EACCES, RootState.DENIED, "denied"),
        (errno.EPERM, RootState.DENIED, "denied"),
        (errno.EBUSY, RootState.DENIED, "output_busy"),
        (errno.ENAMETOOLONG, RootState.DENIED, "output_path"),
        (errno.ENOENT, RootState.MISSING, "missing"),
        (errno.EIO, RootState.STALE, "stale"),
        (errno.ESTALE, RootState.STALE, "stale"),
    ],
)
def test_threat_18_each_error_of_writing_has_its_state_and_code(code: int, state: RootState, slug: str) -> None:
    problem = writing.output_problem(OSError(code, os.strerror(code)), "/srv/share/x")
    assert (problem.root_state, problem.code) == (state, slug)
    assert problem.message.startswith("/srv/share/x: ")


def test_a_name_that_is_too_long_is_said_to_be_the_names_fault(root: str) -> None:
    with pytest.raises(OutputProblem) as caught:
        Part.create(root, f"{'n' * 300}/{TEMP}", mode=MODE)
    assert caught.value.code == "output_path"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB, where the tests may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_threat_14_a_disk_that_fills_up_is_full_and_delivers_once_there_is_room(small_disk: Path) -> None:
    root = str(small_disk)
    hog = small_disk / "hog"
    hog.write_bytes(bytes(200_000))
    part = new_part(root, b"")
    with pytest.raises(OutputProblem, match="make room") as caught:
        part.write(bytes(150_000))
    assert caught.value.root_state is RootState.FULL
    assert 0 < part.size < 150_000
    hog.unlink()
    part.write(bytes(150_000 - part.size))
    assert part.publish(NAMES) == NAMES[0]
    assert Path(root, NAMES[0]).stat().st_size == 150_000


def test_threat_14_a_note_that_finds_no_room_leaves_nothing_behind_and_the_old_one_in_place(small_disk: Path) -> None:
    root = str(small_disk)
    write_note(root, "x.lipsync-error.txt", b"old", mode=MODE)
    with pytest.raises(OutputProblem) as caught:
        write_note(root, "x.lipsync-error.txt", bytes(300_000), mode=MODE)
    assert caught.value.root_state is RootState.FULL
    assert names(root) == ["x.lipsync-error.txt"]
    assert Path(root, "x.lipsync-error.txt").read_bytes() == b"old"


def test_threat_18_a_read_only_disk_is_read_only(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for call in (lambda: new_part(str(small_disk)), lambda: write_note(str(small_disk), "_lipsync-x", b"", mode=MODE)):
        with pytest.raises(OutputProblem) as caught:
            call()
        assert caught.value.root_state is RootState.READ_ONLY


WITH_A_LIMIT = """
import resource, signal, sys
sys.path[:0] = sys.argv[2:]
from chamelaion_watch.core.errors import OutputProblem
from chamelaion_watch.edges.outputs import Part
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
part = Part.create(sys.argv[1], ".x.lipsync-part", mode=0o664)
try: part.write(bytes(1500))
except OutputProblem as problem: print(problem.code, part.size)
"""


def test_a_file_larger_than_the_system_takes_is_too_big_and_the_size_is_true(root: str) -> None:
    command = [sys.executable, "-c", WITH_A_LIMIT, root, str(Path(outputs.__file__).parents[2])]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "output_too_big 1000\n"


def test_threat_16_an_error_of_flushing_discards_the_part_and_is_never_believed_later(root: str) -> None:
    """A pipe cannot be flushed in place of the file: fsync says EINVAL there, so a closed descriptor stands in."""
    part = new_part(root)
    hidden = [int(each.name) for each in Path("/proc/self/fd").iterdir() if is_open_as(each, TEMP)]
    assert len(hidden) == 1
    os.close(hidden[0])
    with pytest.raises(OutputProblem):
        part.publish(NAMES)
    assert names(root) == []
    with pytest.raises(ValueError, match="closed"):
        part.publish(NAMES)


def is_open_as(link: Path, name: str) -> bool:
    with contextlib.suppress(OSError):
        return link.readlink().name == name
    return False

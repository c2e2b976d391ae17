"""The drop folder as it is read: listings and their deltas, looks, hashes, open sources; on real files."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from chamelaion_watch.core.errors import InputProblem, RootProblem
from chamelaion_watch.core.model import Look, Observation, RootState, Signature, Structure, Trouble
from chamelaion_watch.edges import disk, listing
from chamelaion_watch.edges.disk import ScanRules, Sweep, Tree


class Clock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def find_parts(names: Collection[str]) -> dict[str, str]:
    return {name.removesuffix(".part"): name for name in names if name.endswith(".part")}


def rules(*, recursive: bool = True) -> ScanRules:
    return ScanRules(
        recursive, lambda name: name.endswith((".mp4", ".wav", ".lipsync-part")), lambda name: not name.startswith(".")
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tree(root: Path, clock: Clock) -> Tree:
    return Tree(str(root), rules(), clock=clock, find_partial_copies=find_parts)


@pytest.fixture
def ignored_sigio() -> Iterator[None]:
    before = signal.getsignal(signal.SIGIO)
    disk.ignore_lease_signal()
    yield
    signal.signal(signal.SIGIO, before)


def put(path: Path, content: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def signature(path: Path) -> Signature:
    status = path.stat()
    return Signature(status.st_size, status.st_mtime_ns)


def look_twice(tree: Tree, path: str) -> Observation:
    (first,) = tree.look([Look(path)])
    (second,) = tree.look([Look(path, first.signature)])
    return second


# -- the listing --------------------------------------------------------------------------------------


def test_the_first_sweep_reports_every_file_that_is_wanted(root: Path, tree: Tree) -> None:
    for name in ("a.mp4", "deep/er/b.wav", "deep/notes.txt", ".hidden/c.mp4", ".a.mp4.lipsync-part"):
        put(root / name)
    sweep = tree.sweep()
    assert sweep.appeared == (".a.mp4.lipsync-part", "a.mp4", "deep/er/b.wav")
    assert (sweep.vanished, sweep.skipped, sweep.files, sweep.folders, sweep.is_complete) == ((), (), 3, 3, True)


def test_a_second_sweep_reports_only_what_changed(root: Path, tree: Tree) -> None:
    put(root / "a.mp4")
    put(root / "b" / "b.mp4")
    tree.sweep()
    assert tree.sweep() == Sweep((), (), (), 2, 2, 0.0, is_complete=True)
    put(root / "b" / "c.mp4")
    (root / "a.mp4").unlink()
    sweep = tree.sweep()
    assert (sweep.appeared, sweep.vanished) == (("b/c.mp4",), ("a.mp4",))


def test_a_root_that_is_not_recursive_ignores_folders(root: Path, clock: Clock) -> None:
    put(root / "a.mp4")
    put(root / "b" / "b.mp4")
    tree = Tree(str(root), rules(recursive=False), clock=clock, find_partial_copies=find_parts)
    assert tree.sweep().appeared == ("a.mp4",)


def test_threat_24_a_folder_that_is_renamed_takes_its_files_along(root: Path, tree: Tree) -> None:
    put(root / "a" / "x" / "y.mp4")
    tree.sweep()
    (root / "a").rename(root / "b")
    sweep = tree.sweep()
    assert (sweep.appeared, sweep.vanished) == (("b/x/y.mp4",), ("a/x/y.mp4",))


def test_a_folder_that_goes_takes_its_files_along(root: Path, tree: Tree) -> None:
    put(root / "a" / "x" / "y.mp4")
    tree.sweep()
    shutil.rmtree(root / "a")
    assert tree.sweep().vanished == ("a/x/y.mp4",)


def count_listings(tree: Tree, wanted: list[str]) -> int:
    del wanted[:]
    tree.sweep()
    return len(wanted)


def counting_tree(root: Path, clock: Clock) -> tuple[Tree, list[str]]:
    """A tree whose rules note every name that they are asked about: a listing shows by that."""
    asked: list[str] = []

    def wants(name: str) -> bool:
        asked.append(name)
        return False  # what was wanted once is not asked for again

    return Tree(str(root), ScanRules(True, wants, lambda _: True), clock=clock, find_partial_copies=find_parts), asked


def test_a_quiet_folder_is_not_listed_again_once_it_is_trusted(root: Path, clock: Clock) -> None:
    put(root / "a" / "a.mp4")
    tree, asked = counting_tree(root, clock)
    assert count_listings(tree, asked) > 0
    clock.now += listing.TRUST_AFTER_S + 1
    assert count_listings(tree, asked) > 0  # the first listing was taken together with the change
    clock.now += 1
    assert count_listings(tree, asked) == 0


def test_a_second_change_under_the_same_folder_time_is_found(root: Path, tree: Tree, clock: Clock) -> None:
    """FAT keeps times to 2 s: the listing right after a change must not be trusted, however late the next one is."""
    put(root / "a.mp4")
    before = root.stat()
    tree.sweep()
    put(root / "b.mp4")
    os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now += 60
    assert tree.sweep().appeared == ("b.mp4",)


def test_every_tenth_sweep_lists_everything_whatever_the_folders_say(root: Path, tree: Tree, clock: Clock) -> None:
    put(root / "a.mp4")
    before = root.stat()
    for _ in range(3):
        tree.sweep()
        clock.now += 10
    put(root / "late.mp4")
    os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))
    appeared = [tree.sweep().appeared for _ in range(7)]
    assert appeared == [(), (), (), (), (), (), ("late.mp4",)]


def test_a_quiet_leaf_and_a_busy_parent_are_told_apart(root: Path, tree: Tree, clock: Clock) -> None:
    put(root / "a" / "a.mp4")
    put(root / "b" / "b.mp4")
    for _ in range(3):
        tree.sweep()
        clock.now += 10
    put(root / "b" / "c.mp4")
    sweep = tree.sweep()
    assert (sweep.appeared, sweep.files) == (("b/c.mp4",), 3)


def test_quiet_folders_keep_the_files_of_the_folders_below_them(root: Path, tree: Tree, clock: Clock) -> None:
    for path in ("a/a.mp4", "a/b/b.mp4", "a/b/c/c.mp4", "d/e/e.mp4"):
        put(root / path)
    sweeps = []
    for _ in range(12):
        sweeps.append(tree.sweep())
        clock.now += 10
    assert {sweep.files for sweep in sweeps} == {4}
    assert {sweep.vanished for sweep in sweeps} == {()}


def test_threat_36_37_links_pipes_sockets_and_folders_named_like_media_are_skipped_once(root: Path, tree: Tree) -> None:
    put(root.parent / "outside" / "secret.mp4")
    (root / "link.mp4").symlink_to(root.parent / "outside" / "secret.mp4")
    (root / "folderlink").symlink_to(root.parent / "outside")
    (root / "loop").symlink_to(root)
    (root / "readme.txt").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe.mp4")
    put(root / "folder.mp4" / "x.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.mp4"))
    sweep = tree.sweep()
    assert sweep.appeared == ()
    assert [path for path, _ in sweep.skipped] == [
        *("folder.mp4", "folderlink", "link.mp4", "loop", "pipe.mp4", "socket.mp4")
    ]
    assert "link" in dict(sweep.skipped)["folderlink"]
    assert sweep.is_complete
    assert tree.sweep().skipped == ()


def test_threat_36_a_file_swapped_for_a_link_has_vanished(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4")
    tree.sweep()
    path.unlink()
    path.symlink_to("/etc/passwd")
    sweep = tree.sweep()
    assert (sweep.vanished, sweep.skipped[0][0]) == (("a.mp4",), "a.mp4")


def test_threat_39_40_names_of_255_bytes_and_of_invalid_utf8_come_back_as_listed(root: Path, tree: Tree) -> None:
    names = [b"\xff\xfe.mp4", b"n" * 251 + b".mp4", "e\u0301.mp4".encode(), "é.mp4".encode(), b"a\nb\x1b.mp4"]
    for name in names:
        put(root / os.fsdecode(name))
    sweep = tree.sweep()
    assert {os.fsencode(path) for path in sweep.appeared} == set(names)
    observations = tree.look([Look(path) for path in sweep.appeared])
    assert all(each.signature and each.trouble is None for each in observations)


def make_deep(root: Path, depth: int, name: str) -> Iterator[int]:
    """Make folders within folders beyond PATH_MAX; yield each one's descriptor."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    yield fd
    os.close(fd)


def test_threat_24_a_tree_200_deep_and_longer_than_path_max_is_listed_and_looked_at(root: Path, tree: Tree) -> None:
    for fd in make_deep(root, 200, "f" * 100):
        os.close(os.open("deep.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    (path,) = tree.sweep().appeared
    assert path.count("/") == 200
    assert tree.look([Look(path)])[0].trouble is None
    assert tree.sha256(path, tree.look([Look(path)])[0].signature or Signature(0, 0)) == hashlib.sha256().hexdigest()


def test_threat_24_a_tree_without_end_is_cut_off_and_said(root: Path, tree: Tree) -> None:
    for _ in make_deep(root, listing.MAX_DEPTH + 5, "d"):
        pass
    sweep = tree.sweep()
    assert sweep.folders == listing.MAX_DEPTH + 1
    assert "deep" in sweep.skipped[0][1]
    subprocess.run(["rm", "-rf", str(root)], check=True)  # beyond Python's recursion on the way out


def test_threat_27_a_missing_root_is_a_root_problem_and_forgets_nothing(root: Path, tree: Tree) -> None:
    put(root / "a.mp4")
    tree.sweep()
    root.rename(root.parent / "away")
    for call in (tree.sweep, lambda: tree.look([Look("a.mp4")]), lambda: tree.open("a.mp4", Signature(1, 1))):
        with pytest.raises(RootProblem) as caught:
            call()
        assert caught.value.root_state is RootState.MISSING
    (root.parent / "away").rename(root)
    assert tree.sweep().vanished == ()


def test_a_root_that_is_a_file_is_missing(root: Path, tree: Tree) -> None:
    root.rmdir()
    root.write_bytes(b"")
    with pytest.raises(RootProblem) as caught:
        tree.sweep()
    assert caught.value.root_state is RootState.MISSING


AS_NOBODY = """
import os, sys
sys.path[:0] = sys.argv[2:]
from chamelaion_watch.core.model import Look
from chamelaion_watch.edges.disk import ScanRules, Tree
root = sys.argv[1]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
tree = Tree(root, ScanRules(True, lambda n: n.endswith(".mp4"), lambda n: True), clock=lambda: 0.0,
            find_partial_copies=lambda ns: {})
def sweep(tag):
    s = tree.sweep()
    print(tag, s.appeared, s.vanished, [p for p, _ in s.skipped], s.is_complete)
"""


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A root that other users can reach: pytest's own folders are private."""
    with tempfile.TemporaryDirectory(prefix="chamelaion-watch-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def run_as_nobody(root: Path, script: str) -> list[str]:
    """Run in a child without privileges, which may see the root but not what is denied."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    repository = str(Path(disk.__file__).parents[2])
    command = [sys.executable, "-c", AS_NOBODY + script, str(root), repository]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_private_folder_is_skipped_and_hides_nothing_that_was_known(open_root: Path) -> None:
    root = open_root
    put(root / "a.mp4").chmod(0o644)
    put(root / "private" / "b.mp4")
    (root / "private").chmod(0o700)
    lines = run_as_nobody(root, "sweep(1); sweep(2)")
    assert lines == ["1 ('a.mp4',) () ['private'] True", "2 () () [] True"]


def test_files_of_a_folder_that_becomes_private_are_not_vanished(open_root: Path) -> None:
    root = open_root
    if os.geteuid() == 0:
        os.chown(root, 65534, 65534)
    put(root / "open" / "sub" / "b.mp4")
    for folder in (root / "open", root / "open" / "sub"):
        folder.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
    lines = run_as_nobody(
        root,
        """
sweep(1)
os.chmod(root + "/open", 0)
sweep(2); sweep(3)
print(tree.look([Look("open/sub/b.mp4")])[0].trouble)
os.chmod(root + "/open", 0o755)
os.unlink(root + "/open/sub/b.mp4")
sweep(4)
""",
    )
    assert lines == [
        "1 ('open/sub/b.mp4',) () [] True",
        "2 () () ['open'] False",
        "3 () () [] False",
        "denied",
        "4 () ('open/sub/b.mp4',) [] True",
    ]


def test_a_root_that_may_not_be_read_is_denied(open_root: Path) -> None:
    (open_root / "private").mkdir(mode=0o700)
    lines = run_as_nobody(
        open_root,
        """
from chamelaion_watch.core.errors import RootProblem
tree = Tree(root + "/private", ScanRules(True, len, len), clock=lambda: 0.0, find_partial_copies=lambda ns: {})
try: tree.sweep()
except RootProblem as problem: print(problem.code)
""",
    )
    assert lines == ["denied"]


def test_500_quiet_files_in_50_folders_take_no_time(root: Path, tree: Tree, clock: Clock) -> None:
    for folder in range(50):
        (root / f"f{folder}").mkdir()
        for number in range(10):
            (root / f"f{folder}" / f"{number}.mp4").touch()
    assert tree.sweep().files == 500
    clock.now += 10
    tree.sweep()
    clock.now += 10
    began = time.thread_time()
    sweep = tree.sweep()
    assert sweep.files == 500
    assert time.thread_time() - began < 0.03


@pytest.fixture
def share(root: Path) -> Iterator[Path]:
    """The root with a real file system mounted on it, where the tests may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield root
    subprocess.run(["umount", "-l", str(root)], capture_output=True, check=False)


def test_threat_26_a_share_that_goes_while_it_is_listed_makes_nothing_vanish(share: Path) -> None:
    root = share
    leaves: list[str] = []

    def enters(_: str) -> bool:
        if leaves:
            subprocess.run(leaves, check=True)
            leaves.clear()
        return True

    tree = Tree(
        str(root),
        ScanRules(True, lambda name: name.endswith(".mp4"), enters),
        clock=lambda: 0.0,
        find_partial_copies=lambda _: {},
    )
    put(root / "a" / "a.mp4")
    assert tree.sweep().files == 1
    leaves += ["umount", "-l", str(root)]
    with pytest.raises(RootProblem) as caught:
        tree.sweep()
    assert caught.value.root_state is RootState.NOT_MOUNTED
    put(root / "a" / "a.mp4")
    sweep = tree.sweep()
    assert (sweep.appeared, sweep.vanished) == ((), ())


def test_threat_26_a_sweep_that_failed_loses_no_news(root: Path) -> None:
    """The root goes after its first folder was listed: what was found there is told by the next sweep."""
    away = root.parent / "away"
    put(root / "a" / "a.mp4")
    put(root / "b" / "b.mp4")
    breaks = [True]

    def wants(name: str) -> bool:
        if breaks:
            breaks.clear()
            root.rename(away)
        return name.endswith(".mp4")

    tree = Tree(str(root), ScanRules(True, wants, lambda _: True), clock=lambda: 0.0, find_partial_copies=lambda _: {})
    with pytest.raises(RootProblem):
        tree.sweep()
    away.rename(root)
    assert tree.sweep().appeared == ("a/a.mp4", "b/b.mp4")


# -- looks --------------------------------------------------------------------------------------------


def test_a_first_look_is_shallow_and_tells_the_signature(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4")
    assert tree.look([Look("a.mp4")]) == (Observation("a.mp4", signature(path)),)


def test_a_look_is_deep_only_while_the_signature_holds(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4", b"not an mp4 at all")
    last = signature(path)
    (seen,) = tree.look([Look("a.mp4", last)])
    assert seen.deep
    assert (seen.structure, seen.structure_detail) == (Structure.UNKNOWN, "does not look like MP4")
    path.write_bytes(b"more than there was")
    (seen,) = tree.look([Look("a.mp4", last)])
    assert not seen.deep
    assert seen.signature == signature(path)


def test_a_touch_changes_the_signature(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4")
    last = signature(path)
    os.utime(path, ns=(0, last.mtime_ns + 1_000_000_000))
    assert not tree.look([Look("a.mp4", last)])[0].deep


def test_looks_are_answered_in_their_order(root: Path, tree: Tree) -> None:
    paths = ["b/2.mp4", "1.mp4", "b/1.mp4", "none.mp4", "2.mp4"]
    for path in paths:
        if path != "none.mp4":
            put(root / path)
    observations = tree.look([Look(path) for path in paths])
    assert [each.path for each in observations] == paths
    assert observations[3].trouble is Trouble.GONE


def test_threat_29_holes_and_zero_tails_are_seen(root: Path, tree: Tree) -> None:
    with (root / "a.mp4").open("wb") as file:
        file.write(b"begun")
        file.truncate(1 << 20)
    seen = look_twice(tree, "a.mp4")
    assert (seen.has_hole, seen.has_zero_tail) == (True, True)
    put(root / "b.wav", b"s" * 1000 + bytes(1 << 17))
    with (root / "b.wav").open("rb+") as file:
        os.fsync(file.fileno())
    seen = look_twice(tree, "b.wav")
    assert (seen.has_hole, seen.has_zero_tail) == (False, True)


@pytest.mark.timeout(10)
def test_threat_36_37_what_is_no_regular_file_never_blocks_and_is_never_followed(root: Path, tree: Tree) -> None:
    os.mkfifo(root / "pipe.mp4")
    (root / "folder.mp4").mkdir()
    (root / "link.mp4").symlink_to("/etc/passwd")
    (root / "way").symlink_to("/etc")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.mp4"))
    paths = ["pipe.mp4", "folder.mp4", "link.mp4", "way/passwd", "socket.mp4", "../root/x.mp4", "/etc/passwd", ".."]
    observations = tree.look([Look(path) for path in paths])
    assert [each.trouble for each in observations] == [Trouble.NOT_REGULAR] * len(paths)
    assert all(each.signature is None and each.detail for each in observations)
    for path in paths:
        with pytest.raises(InputProblem):
            tree.open(path, Signature(0, 0))


def test_threat_36_a_parent_folder_swapped_for_a_link_is_not_followed(root: Path, tree: Tree) -> None:
    put(root / "a" / "x.mp4")
    put(root.parent / "outside" / "x.mp4", b"secret")
    assert tree.look([Look("a/x.mp4")])[0].trouble is None
    (root / "a").rename(root / "b")
    (root / "a").symlink_to(root.parent / "outside")
    assert tree.look([Look("a/x.mp4")])[0].trouble is Trouble.NOT_REGULAR


def test_a_partial_copy_beside_it_is_named_and_a_new_one_is_noticed(root: Path, tree: Tree, clock: Clock) -> None:
    put(root / "a.mp4")
    put(root / "a.mp4.part")
    assert tree.look([Look("a.mp4")])[0].temp_sibling == "a.mp4.part"
    (root / "a.mp4.part").unlink()
    assert tree.look([Look("a.mp4")])[0].temp_sibling is None
    for _ in range(3):  # now the neighbours' names are trusted
        clock.now += 10
        tree.look([Look("a.mp4")])
    put(root / "a.mp4.part")
    assert tree.look([Look("a.mp4")])[0].temp_sibling == "a.mp4.part"


def test_a_looked_at_file_keeps_everything_but_its_access_time(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4")
    before = path.stat()
    look_twice(tree, "a.mp4")
    tree.sha256("a.mp4", signature(path))
    after = path.stat()
    same = ("st_mode", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]


# -- leases -------------------------------------------------------------------------------------------


@pytest.fixture
def leasing(root: Path, clock: Clock, ignored_sigio: None) -> Tree:
    if not hasattr(__import__("fcntl"), "F_SETLEASE"):
        pytest.skip("no leases on this system")
    return Tree(str(root), rules(), clock=clock, find_partial_copies=find_parts, has_leases=True)


def writer_of(path: Path) -> subprocess.Popen[str]:
    """Start a process that has the file open for writing until its input is closed."""
    script = "import sys; file = open(sys.argv[1], 'rb+'); print('open', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "open\n"
    return child


def test_threat_29_a_lease_tells_a_writer_from_none(root: Path, leasing: Tree) -> None:
    path = put(root / "a.mp4")
    assert look_twice(leasing, "a.mp4").writer is False
    with writer_of(path) as child:
        assert look_twice(leasing, "a.mp4").writer is True
        child.communicate()
    assert look_twice(leasing, "a.mp4").writer is False


def test_a_reader_is_no_writer(root: Path, leasing: Tree) -> None:
    with put(root / "a.mp4").open("rb"):
        assert look_twice(leasing, "a.mp4").writer is False


def test_a_lease_is_given_back_at_once(root: Path, leasing: Tree) -> None:
    path = put(root / "a.mp4")
    assert look_twice(leasing, "a.mp4").writer is False
    began = time.perf_counter()
    path.open("rb+").close()
    assert time.perf_counter() - began < 1


def test_without_leases_the_writer_is_unknown(root: Path, tree: Tree) -> None:
    put(root / "a.mp4")
    assert look_twice(tree, "a.mp4").writer is None


def test_no_lease_is_taken_while_its_signal_could_end_the_process(root: Path, leasing: Tree) -> None:
    put(root / "a.mp4")
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    assert look_twice(leasing, "a.mp4").writer is None


# -- bytes --------------------------------------------------------------------------------------------


def test_the_hash_is_of_the_whole_file_and_tells_its_progress(root: Path, tree: Tree) -> None:
    content = os.urandom((2 << 20) + 5)
    path = put(root / "a.mp4", content)
    progress: list[int] = []
    assert tree.sha256("a.mp4", signature(path), on_progress=progress.append) == hashlib.sha256(content).hexdigest()
    assert progress == [1 << 20, 2 << 20, (2 << 20) + 5]


def test_hashing_stops_when_progress_raises(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4", bytes(3 << 20))
    open_before = len(list(Path("/proc/self/fd").iterdir()))

    def stop(done: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt, match=str(1 << 20)):
        tree.sha256("a.mp4", signature(path), on_progress=stop)
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def appending(path: Path) -> Callable[[int], None]:
    def append(_: int) -> None:
        with path.open("ab") as file:
            file.write(bytes(1 << 20))

    return append


def cutting(path: Path) -> Callable[[int], None]:
    return lambda _: os.truncate(path, 1000)


def touching(path: Path) -> Callable[[int], None]:
    return lambda _: os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [appending, cutting, touching])
@pytest.mark.timeout(20)
def test_threat_31_a_file_that_changes_while_it_is_hashed_has_no_hash(
    root: Path, tree: Tree, change: Callable[[Path], Callable[[int], None]]
) -> None:
    path = put(root / "a.mp4", b"x" * (3 << 20))
    with pytest.raises(InputProblem) as caught:
        tree.sha256("a.mp4", signature(path), on_progress=change(path))
    assert caught.value.code == "input_changed"


def test_threat_31_another_signature_is_refused_at_the_door(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4")
    then = signature(path)
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(0, then.mtime_ns + 1))
    with pytest.raises(InputProblem, match=r"a\.mp4: changed") as caught:
        tree.open("a.mp4", then)
    assert caught.value.code == "input_changed"


def test_a_vanished_file_is_said_to_be_so(tree: Tree) -> None:
    with pytest.raises(InputProblem) as caught:
        tree.sha256("none.mp4", Signature(1, 1))
    assert caught.value.code == "input_vanished"


def test_an_open_source_reads_seeks_and_verifies(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4", b"0123456789")
    with tree.open("a.mp4", signature(path)) as source:
        assert source.bytes == 10
        assert source.file.read(4) == b"0123"
        assert source.file.seek(8) == 8
        buffer = bytearray(4)
        assert source.file.readinto(buffer) == 2
        source.verify()
        os.utime(path, ns=(1, 1))
        with pytest.raises(InputProblem):
            source.verify()
    assert source.file.closed


def test_threat_31_an_open_source_keeps_what_was_there_when_the_file_is_replaced(root: Path, tree: Tree) -> None:
    path = put(root / "a.mp4", b"old")
    with tree.open("a.mp4", signature(path)) as source:
        put(root / "new", b"NEW").rename(path)
        assert source.file.read() == b"old"
        source.verify()


def test_threat_17_an_error_of_reading_is_an_input_problem_and_no_oserror(root: Path, tree: Tree) -> None:
    """/proc/self/mem gives EIO at offset 0: a real read error without a broken disk."""
    path = put(root / "a.mp4")
    with tree.open("a.mp4", signature(path)) as source:
        broken = os.open("/proc/self/mem", os.O_RDONLY)
        os.dup2(broken, source.file.fileno())
        os.close(broken)
        for read in (source.file.read, lambda: source.file.readinto(bytearray(10))):
            with pytest.raises(InputProblem, match=os.strerror(errno.EIO)) as caught:
                read()
            assert caught.value.code == "input_unreadable"


def test_threat_39_40_bad_utf8_and_long_names_are_hashed(root: Path, tree: Tree) -> None:
    name = os.fsdecode(b"\xff" * 200 + b".mp4")
    path = put(root / name)
    assert tree.sha256(name, signature(path)) == hashlib.sha256(b"content").hexdigest()


# -- brief looks --------------------------------------------------------------------------------------


def test_a_brief_look_says_what_changed_and_opens_nothing(root: Path, tree: Tree) -> None:
    path = put(root / "a" / "a.mp4")
    (root / "a" / "a.mp4.part").touch()
    path.chmod(0)  # not even for us, if we are not root
    seen = tree.look([Look("a/a.mp4", is_brief=True), Look("a/gone.mp4", is_brief=True), Look("a", is_brief=True)])
    assert seen[0] == Observation("a/a.mp4", signature(path))
    assert [one.trouble for one in seen] == [None, Trouble.GONE, Trouble.NOT_REGULAR]


def test_a_brief_look_follows_no_link(root: Path, tree: Tree) -> None:
    put(root.parent / "outside" / "x.mp4", b"secret")
    (root / "x.mp4").symlink_to(root.parent / "outside" / "x.mp4")
    assert tree.look([Look("x.mp4", is_brief=True)])[0].trouble is Trouble.NOT_REGULAR

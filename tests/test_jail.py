"""The path walk: no link is followed, nothing leads out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.model import RootState
from chamelaion_watch.edges import jail
from chamelaion_watch.edges.jail import held


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "x.mp4").write_bytes(b"film")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    with held(jail.open_root(str(tmp_path / "root"))) as fd:
        yield fd


def names(folder: int | Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def error_of(call: object, *arguments: object) -> int | None:
    with pytest.raises(OSError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.errno


def test_a_file_is_opened_by_its_path(root: int) -> None:
    with held(jail.open_beneath(root, "a/b/x.mp4", os.O_RDONLY)) as fd:
        assert os.read(fd, 10) == b"film"


def test_the_empty_path_is_the_root_with_a_position_of_its_own(root: int) -> None:
    with held(jail.open_folder_beneath(root, "")) as fd:
        assert names(fd) == ["a"]
    with held(jail.open_folder_beneath(root, "")) as fd:
        assert names(fd) == ["a"]


@pytest.mark.parametrize("rel", ["/etc/passwd", "../outside/secret", "a/../../outside/secret", "a//b", "a/./b", "a/"])
def test_threat_36_45_a_path_that_could_lead_out_is_refused_before_any_call(root: int, rel: str) -> None:
    assert error_of(jail.open_beneath, root, rel, os.O_RDONLY) == errno.EXDEV
    assert error_of(jail.open_folder_beneath, root, rel) == errno.EXDEV
    assert error_of(jail.make_folders_beneath, root, rel, 0o755) == errno.EXDEV


@pytest.mark.parametrize("rel", ["a/\0", "a/\ud800"])
def test_what_can_be_no_name_is_an_oserror(root: int, rel: str) -> None:
    assert error_of(jail.open_beneath, root, rel, os.O_RDONLY) == errno.EINVAL


def test_threat_36_a_link_is_not_followed_at_the_end(root: int, tmp_path: Path) -> None:
    (tmp_path / "root" / "a" / "link.mp4").symlink_to(tmp_path / "outside" / "secret")
    assert error_of(jail.open_beneath, root, "a/link.mp4", os.O_RDONLY) == errno.ELOOP


def test_threat_36_a_link_is_not_followed_on_the_way(root: int, tmp_path: Path) -> None:
    (tmp_path / "root" / "way").symlink_to(tmp_path / "outside")
    assert error_of(jail.open_beneath, root, "way/secret", os.O_RDONLY) in {errno.ENOTDIR, errno.ELOOP}
    assert error_of(jail.make_folders_beneath, root, "way/new", 0o755) in {errno.ENOTDIR, errno.ELOOP}
    assert names(tmp_path / "outside") == ["secret"]


def test_threat_36_a_folder_swapped_for_a_link_after_it_was_opened_does_not_matter(root: int, tmp_path: Path) -> None:
    with held(jail.open_folder_beneath(root, "a/b")) as folder:
        (tmp_path / "root" / "a").rename(tmp_path / "root" / "was-a")
        (tmp_path / "root" / "a").symlink_to(tmp_path / "outside")
        assert names(folder) == ["x.mp4"]
    assert error_of(jail.open_beneath, root, "a/secret", os.O_RDONLY) in {errno.ENOTDIR, errno.ELOOP}


def test_missing_folders_are_made_with_the_mode_whatever_the_umask(root: int, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with held(jail.make_folders_beneath(root, "a/new/newer", 0o775)):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "root" / "a" / "new" / "newer").stat().st_mode & 0o777 == 0o775


def test_a_folder_that_is_there_keeps_its_mode(root: int, tmp_path: Path) -> None:
    (tmp_path / "root" / "a").chmod(0o750)
    with held(jail.make_folders_beneath(root, "a", 0o775)):
        pass
    assert (tmp_path / "root" / "a").stat().st_mode & 0o777 == 0o750


def test_a_path_longer_than_path_max_is_walked(root: int) -> None:
    rel = "/".join(["n" * 255] * 40)
    assert len(rel) > os.pathconf("/", "PC_PATH_MAX")
    with held(jail.make_folders_beneath(root, rel, 0o755)) as made, held(jail.open_folder_beneath(root, rel)) as found:
        assert os.path.sameopenfile(made, found)


def test_no_descriptor_is_left_open(root: int) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for rel in ("a/b/none", "a/b/x.mp4/none", "a/none/none"):
        error_of(jail.open_beneath, root, rel, os.O_RDONLY)
    os.close(jail.open_beneath(root, "a/b/x.mp4", os.O_RDONLY))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (errno.ENOENT, RootState.MISSING),
        (errno.ENOTDIR, RootState.MISSING),
        (errno.EACCES, RootState.DENIED),
        (errno.ESTALE, RootState.STALE),
        (errno.EIO, RootState.STALE),
        (errno.EHOSTDOWN, RootState.STALE),
        (errno.EMFILE, RootState.STALE),
    ],
)
def test_threat_28_each_error_of_the_root_has_its_state(code: int, state: RootState) -> None:
    problem = jail.root_problem(OSError(code, os.strerror(code)), "/srv/share")
    assert problem.root_state is state
    assert problem.code == state
    assert problem.message.startswith("/srv/share: ")


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EHOSTDOWN, errno.ENOTCONN, errno.ETIMEDOUT])
def test_threat_28_a_dead_server_is_the_roots_problem_whichever_file_met_it(tmp_path: Path, code: int) -> None:
    with pytest.raises(RootProblem) as caught:
        jail.blame_root(OSError(code, os.strerror(code)), str(tmp_path))
    assert caught.value.root_state is RootState.STALE


@pytest.mark.parametrize("code", [errno.EIO, errno.ENXIO, errno.ENODEV])
def test_threat_17_a_bad_file_is_the_roots_problem_only_if_the_root_does_not_answer(tmp_path: Path, code: int) -> None:
    error = OSError(code, os.strerror(code))
    jail.blame_root(error, str(tmp_path))
    with pytest.raises(RootProblem):
        jail.blame_root(error, str(tmp_path / "gone"))

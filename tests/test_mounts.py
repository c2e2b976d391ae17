"""Which mount a path lies on, and whether the root that is there is the one that is meant."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.model import RootState
from chamelaion_watch.edges.mountinfo import parse_mountinfo
from chamelaion_watch.edges.mounts import (
    KnownRoot,
    Mount,
    Places,
    RootReport,
    Sentinel,
    claim_root,
    expects_mount,
    inspect_root,
    mount_of,
    read_sentinel,
    write_sentinel,
)

NOW = 1_790_000_000_123

# As a kernel prints it: the root comes after what was moved into it, a name with a space, optional fields, a stack.
TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw,discard
30 27 0:40 / /srv/share rw,relatime shared:5 master:1 - cifs //nas/media\040files rw,vers=3.1.1
31 27 0:41 / /mnt/my\040disk ro,relatime - ext4 /dev/sdb1 rw
32 27 0:42 / /net rw,relatime - autofs systemd-1 rw,fd=30
33 32 0:43 / /net rw,relatime - nfs4 server:/export rw
34 27 0:44 / /hidden/below rw,relatime - ext4 /dev/sdc1 rw
35 27 0:45 / /hidden rw,relatime - tmpfs tmpfs rw
36 30 0:46 / /srv/share/inner rw,relatime - fuse.sshfs user@host:/x rw
37 27 0:47 / /new\012line rw,relatime - ext4 /dev/sdd1 rw
a broken line
38 27 - x
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    table, fstab, units = tmp_path / "mountinfo", tmp_path / "fstab", tmp_path / "units"
    table.write_text(TABLE)
    fstab.write_text("# device point type options\nUUID=1 / ext4 defaults 0 1\n\n")
    units.mkdir()
    return Places(str(table), str(fstab), (str(units), str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("path", "point", "source"),
    [
        ("/", "/", "/dev/vda1"),
        ("/proc/1", "/proc", "proc"),
        ("/srv", "/", "/dev/vda1"),
        ("/srv/share", "/srv/share", "//nas/media files"),
        ("/srv/share/a/b", "/srv/share", "//nas/media files"),
        ("/srv/shareware", "/", "/dev/vda1"),
        ("/srv/share/inner/x", "/srv/share/inner", "user@host:/x"),
        ("/mnt/my disk/x", "/mnt/my disk", "/dev/sdb1"),
        ("/net/x", "/net", "server:/export"),
        ("/hidden/below/x", "/hidden", "tmpfs"),
        ("/new\nline/x", "/new\nline", "/dev/sdd1"),
    ],
)
def test_a_path_lies_on_the_mount_that_the_kernel_would_walk_into(
    places: Places, path: str, point: str, source: str
) -> None:
    mount = mount_of(path, places)
    assert (mount.point, mount.source) == (point, source)


def test_the_options_of_the_mount_and_of_its_file_system_are_told(places: Places) -> None:
    assert mount_of("/mnt/my disk", places).options == {"ro", "relatime", "rw"}


@pytest.mark.parametrize(
    ("fstype", "is_network", "delivers_events", "has_leases"),
    [
        ("ext4", False, True, True),
        ("xfs", False, True, True),
        ("btrfs", False, True, True),
        ("tmpfs", False, True, True),
        ("overlay", False, True, True),
        ("vfat", False, True, True),
        ("fuseblk", False, True, False),
        ("fuse.mergerfs", False, False, False),
        ("nfs", True, False, False),
        ("nfs4", True, False, False),
        ("cifs", True, False, False),
        ("smb3", True, False, False),
        ("9p", True, False, False),
        ("virtiofs", True, False, False),
        ("vboxsf", True, False, False),
        ("ceph", True, False, False),
        ("autofs", True, False, False),
        ("fuse.sshfs", True, False, False),
        ("fuse.rclone", True, False, False),
        ("fuse.google-drive-ocamlfuse", True, False, False),
        ("fuse.glusterfs", True, False, False),
    ],
)
def test_threat_25_each_kind_of_file_system_promises_what_it_can_keep(
    fstype: str, is_network: bool, delivers_events: bool, has_leases: bool
) -> None:
    mount = Mount("/x", "source", fstype)
    assert (mount.is_network, mount.delivers_events, mount.has_leases) == (is_network, delivers_events, has_leases)


def test_without_a_table_a_path_is_local_and_promises_no_leases(tmp_path: Path) -> None:
    nowhere = Places(str(tmp_path / "none"), str(tmp_path / "none"), ())
    mount = mount_of(str(tmp_path / "not" / "there"), nowhere)
    assert os.path.ismount(mount.point)
    assert (mount.is_network, mount.has_leases) == (False, False)
    assert mount_of("/Volumes/share/x", nowhere).is_network


def test_this_machines_own_table_is_understood(tmp_path: Path) -> None:
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("no /proc")
    mount = mount_of(str(tmp_path))
    assert os.path.ismount(mount.point)
    assert tmp_path.is_relative_to(mount.point)
    assert os.stat(mount.point).st_dev == tmp_path.stat().st_dev  # noqa: PTH116 - the point is a string


# -- configured mounts --------------------------------------------------------------------------------


def test_a_table_that_has_not_changed_is_taken_apart_once(places: Places) -> None:
    table = Path(places.mountinfo)
    assert parse_mountinfo(table.read_text()) is parse_mountinfo(table.read_text())
    was_on = mount_of("/mnt/share", places)
    table.write_text("40 1 0:40 / /mnt/share rw - cifs //nas/media rw\n")
    assert mount_of("/mnt/share", places).source == "//nas/media" != was_on.source


def test_fstab_names_a_share_that_is_not_mounted(places: Places) -> None:
    Path(places.fstab).write_text("//nas/x  /srv/other\\040share  cifs  noauto  0 0\n#//nas/y /srv/comment cifs\n")
    assert expects_mount("/srv/other share/lipsync", places) == (
        f"{places.fstab} mounts //nas/x on /srv/other share, which is not mounted"
    )
    assert expects_mount("/srv/other", places) is None
    assert expects_mount("/srv/comment", places) is None


def test_a_configured_share_that_is_mounted_is_nothing_to_wait_for(places: Places) -> None:
    Path(places.fstab).write_text("//nas/x /srv/share cifs defaults 0 0\nnone swap swap sw 0 0\nshort\n")
    assert expects_mount("/srv/share/a", places) is None


def test_a_mount_unit_names_a_share_that_is_not_mounted(places: Places) -> None:
    unit = Path(places.unit_folders[0], "data-share.mount")
    unit.write_text("[Unit]\nDescription=x\n[Mount]\nWhat = server:/export\nWhere = /data/share/\nType=nfs\n")
    reason = expects_mount("/data/share", places)
    assert reason
    assert "server:/export on /data/share" in reason
    Path(unit).write_text("[Mount]\nWhere=/net\n")
    assert expects_mount("/net/x", places) is None


def test_without_any_table_nothing_is_expected(tmp_path: Path) -> None:
    assert expects_mount("/data", Places(str(tmp_path / "a"), str(tmp_path / "b"), ())) is None


# -- the sentinel -------------------------------------------------------------------------------------

OURS = Sentinel("ledger-1", "host-1", "/srv/share", NOW)


def test_a_sentinel_comes_back_as_written_and_speaks_to_people(tmp_path: Path) -> None:
    assert read_sentinel(str(tmp_path)) is None
    assert write_sentinel(str(tmp_path), OURS)
    assert read_sentinel(str(tmp_path)) == OURS
    content = json.loads((tmp_path / ".lipsync-root").read_text())
    assert content["schema_version"] == 1
    assert "leave this file here" in content["note"]
    assert content["written_at"].startswith("2026-")
    assert [path.name for path in tmp_path.iterdir()] == [".lipsync-root"]


def test_a_sentinel_that_is_there_is_replaced_only_on_request(tmp_path: Path) -> None:
    other = Sentinel("ledger-2", "host-2", "/mnt", NOW)
    write_sentinel(str(tmp_path), OURS)
    assert not write_sentinel(str(tmp_path), other)
    assert read_sentinel(str(tmp_path)) == OURS
    assert write_sentinel(str(tmp_path), other, replace=True)
    assert read_sentinel(str(tmp_path)) == other
    assert [path.name for path in tmp_path.iterdir()] == [".lipsync-root"]


def test_what_a_crash_left_does_not_stop_the_next_claim(tmp_path: Path) -> None:
    digest = hashlib.sha256(OURS.ledger.encode()).hexdigest()[:12]
    (tmp_path / f".lipsync-root.{digest}.lipsync-part").write_bytes(b"half")
    assert write_sentinel(str(tmp_path), OURS)
    assert [path.name for path in tmp_path.iterdir()] == [".lipsync-root"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage \xff\xfe",
        b"[]",
        b"{}",
        b'{"ledger": 7}',
        b'{"ledger": ""}',
        b'{"ledger": "\\u0000\\n"}',
        b"[" * 16_000,
        b'{"ledger": "ledger-1"}' + b" " * 20_000,
    ],
)
def test_threat_45_a_hostile_or_damaged_sentinel_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lipsync-root").write_bytes(content)
    assert read_sentinel(str(tmp_path)) == Sentinel(is_damaged=True)


def test_threat_45_a_sentinel_with_odd_fields_is_read_with_limits(tmp_path: Path) -> None:
    content = {"ledger": "x", "host": "a\nb\x1b[31m" + "c" * 500, "folder": ["x"], "written_at": "never", "new": 1}
    (tmp_path / ".lipsync-root").write_text(json.dumps(content))
    sentinel = read_sentinel(str(tmp_path))
    assert sentinel
    assert (sentinel.ledger, sentinel.folder, sentinel.written_at) == ("x", "", 0)
    assert sentinel.host.startswith("ab[31mccc")
    assert len(sentinel.host) <= 200


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_threat_45_a_sentinel_that_is_no_file_is_damaged_and_not_followed(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_sentinel(str(tmp_path), OURS)
    path = root / ".lipsync-root"
    match kind:
        case "link":
            path.symlink_to(tmp_path / ".lipsync-root")
        case "folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    assert read_sentinel(str(root)) == Sentinel(is_damaged=True)


def test_a_sentinel_is_never_written_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for call in (lambda: write_sentinel(str(tmp_path / "none"), OURS), lambda: read_sentinel(str(tmp_path / "none"))):
        with pytest.raises(RootProblem) as caught:
            call()
        assert caught.value.root_state is RootState.MISSING
    assert list(tmp_path.iterdir()) == []


# -- the judgement ------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def here(root: Path, places: Places) -> KnownRoot:
    """What the ledger knows of the root, on a share that the table says is mounted there."""
    table = f"27 1 254:0 / / rw - ext4 /dev/vda1 rw\n30 27 0:40 / {root} rw - cifs //nas/media rw\n"
    Path(places.mountinfo).write_text(table)
    return KnownRoot("//nas/media", "cifs", has_sentinel=True)


def inspect(root: Path, places: Places, known: KnownRoot | None = None) -> RootReport:
    before = sorted(root.iterdir()) if root.is_dir() else None
    report = inspect_root(str(root), ledger_id="ledger-1", known=known, places=places)
    assert (sorted(root.iterdir()) if root.is_dir() else None) == before
    assert report.reason == "" or report.reason.startswith(str(root))
    return report


def test_a_new_root_may_be_claimed_and_then_is_ok(root: Path, places: Places) -> None:
    report = inspect(root, places)
    assert (report.state, report.may_claim, report.sentinel) == (RootState.OK, True, None)
    sentinel = claim_root(str(root), "ledger-1", "host-1", now=NOW)
    assert sentinel == Sentinel("ledger-1", "host-1", str(root), NOW)
    report = inspect(root, places)
    assert (report.state, report.may_claim, report.sentinel, report.reason) == (RootState.OK, False, sentinel, "")


def test_a_known_root_with_its_sentinel_on_its_mount_is_ok(root: Path, places: Places, here: KnownRoot) -> None:
    claim_root(str(root), "ledger-1", "host-1", now=NOW)
    report = inspect(root, places, here)
    assert report.state is RootState.OK
    assert report.mount
    assert report.mount.is_network


def test_threat_27_an_empty_mount_point_is_not_mounted(root: Path, places: Places, here: KnownRoot) -> None:
    Path(places.mountinfo).write_text("27 1 254:0 / / rw - ext4 /dev/vda1 rw\n")
    report = inspect(root, places, here)
    assert (report.state, report.may_claim) == (RootState.NOT_MOUNTED, False)
    assert "cifs //nas/media" in report.reason
    assert "ext4 /dev/vda1" in report.reason


def test_threat_27_a_bare_mount_points_sentinel_deceives_nobody(root: Path, places: Places, here: KnownRoot) -> None:
    claim_root(str(root), "ledger-1", "host-1", now=NOW)
    Path(places.mountinfo).write_text("27 1 254:0 / / rw - ext4 /dev/vda1 rw\n")
    assert inspect(root, places, here).state is RootState.NOT_MOUNTED


def test_threat_27_a_known_root_without_sentinel_is_not_mounted(root: Path, places: Places, here: KnownRoot) -> None:
    (root / "something.else").touch()
    report = inspect(root, places, here)
    assert (report.state, report.may_claim) == (RootState.NOT_MOUNTED, False)
    assert "adopt" in report.reason


def test_a_lost_sentinel_is_written_anew_where_a_known_file_lies(root: Path, places: Places, here: KnownRoot) -> None:
    known = KnownRoot(here.source, here.fstype, has_sentinel=True, known_files=("gone.mp4", "a/there.mp4"))
    assert inspect(root, places, known).state is RootState.NOT_MOUNTED
    (root / "a").mkdir()
    (root / "a" / "there.mp4").touch()
    report = inspect(root, places, known)
    assert (report.state, report.may_claim) == (RootState.OK, True)
    assert "anew" in report.reason


def test_threat_07_another_ledgers_root_is_foreign_and_says_whose(root: Path, places: Places) -> None:
    write_sentinel(str(root), Sentinel("ledger-2", "cutting-room", "/mnt/share", NOW))
    for known in (None, KnownRoot("/dev/vda1", "ext4", has_sentinel=True)):
        report = inspect(root, places, known)
        assert (report.state, report.may_claim) == (RootState.FOREIGN, False)
        assert "cutting-room" in report.reason
        assert "adopt" in report.reason
    with pytest.raises(RootProblem) as caught:
        claim_root(str(root), "ledger-1", "host-1", now=NOW)
    assert caught.value.root_state is RootState.FOREIGN
    claim_root(str(root), "ledger-1", "host-1", now=NOW, adopt=True)
    assert inspect(root, places).state is RootState.OK


def test_a_damaged_sentinel_is_nobodys_to_take(root: Path, places: Places) -> None:
    (root / ".lipsync-root").write_text("{")
    report = inspect(root, places)
    assert (report.state, report.may_claim) == (RootState.FOREIGN, False)
    with pytest.raises(RootProblem):
        claim_root(str(root), "ledger-1", "host-1", now=NOW)


def test_claiming_twice_keeps_the_first_claim(root: Path) -> None:
    first = claim_root(str(root), "ledger-1", "host-1", now=NOW)
    assert claim_root(str(root), "ledger-1", "host-1", now=NOW + 1000) == first


def test_the_first_claim_waits_for_a_configured_mount(root: Path, places: Places) -> None:
    Path(places.fstab).write_text(f"//nas/x {root.parent} cifs defaults 0 0\n")
    report = inspect(root, places)
    assert (report.state, report.may_claim) == (RootState.NOT_MOUNTED, False)
    assert "//nas/x" in report.reason


def test_a_root_that_was_claimed_as_it_is_waits_for_no_mount(root: Path, places: Places) -> None:
    claim_root(str(root), "ledger-1", "host-1", now=NOW)
    Path(places.fstab).write_text(f"//nas/x {root.parent} cifs defaults 0 0\n")
    assert inspect(root, places, KnownRoot("/dev/vda1", "ext4", has_sentinel=True)).state is RootState.OK


def test_a_missing_root_is_missing_and_is_not_made(root: Path, places: Places) -> None:
    root.rmdir()
    Path(places.fstab).write_text(f"//nas/x {root.parent} cifs defaults 0 0\n")
    report = inspect(root, places, KnownRoot("//nas/x", "cifs", has_sentinel=True))
    assert report.state is RootState.MISSING
    assert "//nas/x" in report.reason
    assert not root.exists()


def test_a_file_in_place_of_the_root_is_missing(root: Path, places: Places) -> None:
    root.rmdir()
    root.touch()
    assert inspect(root, places).state is RootState.MISSING


@pytest.mark.parametrize(
    ("fstype", "source", "state"),
    [
        ("smb3", "//nas/media/", RootState.OK),  # another dialect was negotiated
        ("cifs", "//nas2/media", RootState.NOT_MOUNTED),
        ("nfs4", "//nas/media", RootState.NOT_MOUNTED),
    ],
)
def test_threat_27_another_share_is_another_mount(
    root: Path, places: Places, here: KnownRoot, fstype: str, source: str, state: RootState
) -> None:
    claim_root(str(root), "ledger-1", "host-1", now=NOW)
    known = KnownRoot(source, fstype, has_sentinel=here.has_sentinel)
    assert inspect(root, places, known).state is state


def test_local_disks_change_their_names_from_boot_to_boot(root: Path, places: Places) -> None:
    claim_root(str(root), "ledger-1", "host-1", now=NOW)
    assert inspect(root, places, KnownRoot("/dev/sdz9", "ext4", has_sentinel=True)).state is RootState.OK


def test_systemd_may_bind_a_root_onto_itself(root: Path, places: Places, here: KnownRoot) -> None:
    claim_root(str(root), "ledger-1", "host-1", now=NOW)
    bound = Path(places.mountinfo).read_text() + f"40 30 0:40 / {root} rw - cifs //nas/media rw\n"
    Path(places.mountinfo).write_text(bound)
    assert inspect(root, places, here).state is RootState.OK


# -- with real mounts ---------------------------------------------------------------------------------


@pytest.fixture
def share(root: Path) -> Iterator[Path]:
    """The root with a real file system mounted on it, where the tests may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield root
    subprocess.run(["umount", "-l", str(root)], capture_output=True, check=False)


@pytest.fixture
def system(tmp_path: Path) -> Places:
    return Places(fstab=str(tmp_path / "none"), unit_folders=())


def test_threat_27_a_share_that_is_unmounted_is_not_taken_for_an_empty_one(share: Path, system: Places) -> None:
    claim_root(str(share), "ledger-1", "host-1", now=NOW)
    mount = inspect(share, system).mount
    assert mount
    assert (mount.point, mount.fstype) == (str(share), "tmpfs")
    known = KnownRoot(mount.source, mount.fstype, has_sentinel=True)
    assert inspect(share, system, known).state is RootState.OK
    subprocess.run(["umount", str(share)], check=True)
    assert inspect(share, system, known).state is RootState.NOT_MOUNTED
    assert list(share.iterdir()) == []


def test_threat_18_a_read_only_root_needs_no_sentinel_unless_it_was_writable(share: Path, system: Places) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(share)], check=True)
    report = inspect(share, system)
    assert (report.state, report.may_claim, report.is_read_only) == (RootState.OK, False, True)
    assert report.mount
    always = KnownRoot(report.mount.source, report.mount.fstype, has_sentinel=False, is_read_only=True)
    assert inspect(share, system, always).state is RootState.OK
    once = KnownRoot(report.mount.source, report.mount.fstype, has_sentinel=False, is_read_only=False)
    assert inspect(share, system, once).state is RootState.READ_ONLY
    with pytest.raises(RootProblem) as caught:
        claim_root(str(share), "ledger-1", "host-1", now=NOW)
    assert caught.value.root_state is RootState.READ_ONLY
    subprocess.run(["umount", str(share)], check=True)
    assert inspect(share, system, always).state is RootState.NOT_MOUNTED


def test_a_full_root_says_so_and_keeps_no_half_sentinel(share: Path) -> None:
    with (share / "hog").open("wb") as hog, pytest.raises(OSError, match="space"):
        hog.write(bytes(2 << 20))
    with pytest.raises(RootProblem) as caught:
        claim_root(str(share), "ledger-1", "host-1", now=NOW)
    assert caught.value.root_state is RootState.FULL
    assert [path.name for path in share.iterdir()] == ["hog"]

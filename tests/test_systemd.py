from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chamelaion_watch.settings import state_folder
from chamelaion_watch.settings_model import Settings
from tests.acceptance import systemd_hardening
from tests.acceptance.systemd_hardening import BOOT_S, BOOTED, MAX_EXPOSURE, UNITS, Seen, is_seen

ROOT = Path(__file__).parent.parent
PLAIN, TEMPLATE = (ROOT / "systemd" / unit for unit in UNITS)
BINARY = "/opt/chamelaion-watch/bin/chamelaion-watch"

# What the daemon, its probe children and the commands of the unit call in a life of two pairs and a reload, by strace;
# and what another C library calls instead. fchown is missing: only as root does SQLite keep the owner of its files.
NEEDED = re.findall(
    r"\w+",
    """
    access arch_prctl brk chdir chmod clock_gettime clock_nanosleep clone3 close close_range connect dup2 epoll_create1
    execve faccessat2 fchmod fcntl fdatasync flock fstatfs fsync ftruncate futex getcwd getdents64 geteuid getpid
    getrandom getsockname getsockopt gettid getuid inotify_add_watch inotify_init inotify_rm_watch ioctl kill linkat
    lseek madvise mkdir mmap mprotect mremap munmap newfstatat openat pipe2 poll prctl pread64 prlimit64 pwrite64 read
    readlink recvfrom recvmsg rename renameat renameat2 rseq rt_sigaction rt_sigprocmask rt_sigreturn sendmsg sendto
    set_robust_list set_tid_address setpgid setsockopt shutdown socket socketpair stat statfs sysinfo uname unlink
    unlinkat vfork wait4 write capset pidfd_open pidfd_send_signal

    clone dup3 epoll_pwait epoll_wait faccessat fallocate fchmodat fork fstat inotify_init1 link mkdirat ppoll readlinkat
    sched_getaffinity statx
    """,
)
REFUSED = re.findall(
    r"\w+",
    """
    add_key bpf chown chroot clock_settime delete_module fchownat init_module io_uring_setup keyctl kexec_load
    memfd_create mlockall mount open_by_handle_at perf_event_open pivot_root process_vm_readv process_vm_writev ptrace
    quotactl reboot sched_setscheduler setns setrlimit setuid swapon umount2 unshare userfaultfd
    """,
)


def settings(unit: Path) -> dict[str, list[str]]:
    """The assignments of a unit, comments left out."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if not line.startswith("#") and "=" in line:
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(params=[PLAIN, TEMPLATE], ids=["plain", "template"])
def unit(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


# -- what systemd says --------------------------------------------------------------------------------


@pytest.fixture
def systemd_analyze() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")


@pytest.mark.usefixtures("systemd_analyze")
def test_threat_83_systemd_has_nothing_to_say_about_the_units() -> None:
    assert systemd_hardening.verify() == ""


@pytest.mark.usefixtures("systemd_analyze")
def test_the_check_would_notice_a_mistake(tmp_path: Path) -> None:
    broken = tmp_path / PLAIN.name
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", PLAIN.read_text())
    broken.write_text(text.replace("WatchdogSec=60", "WatchdogSec=often\nWatchDogSec=60"))
    said = systemd_hardening.analyze("verify", "--man=no", str(broken)).stderr
    assert len([line for line in said.splitlines() if "chamelaion" in line]) == 2


@pytest.mark.usefixtures("systemd_analyze")
def test_threat_83_the_exposure_is_at_most_one_and_a_half(unit: Path) -> None:
    figure = systemd_hardening.exposure(unit.name)
    assert figure is not None
    assert figure <= MAX_EXPOSURE


@pytest.mark.usefixtures("systemd_analyze")
def test_threat_83_the_filter_lets_through_what_the_daemon_calls_and_nothing_that_it_never_should(unit: Path) -> None:
    allowed = allowed_calls(unit)
    assert [call for call in NEEDED if call not in allowed] == []
    assert [call for call in REFUSED if call in allowed] == []


def allowed_calls(unit: Path) -> set[str]:
    """The filter as systemd expands it: the first line names what may be called, the others take away, or give back."""
    allowed = members("@default")
    for line in settings(unit)["SystemCallFilter"]:
        calls = set[str]().union(*map(members, line.lstrip("~").split()))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def members(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    inner = [
        line.strip() for line in listed.stdout.splitlines()[1:] if line.strip() and not line.strip().startswith("#")
    ]
    return set[str]().union(*map(members, inner))


# -- what is written in them --------------------------------------------------------------------------


def test_the_template_is_the_plain_unit_with_its_own_names() -> None:
    plain = PLAIN.read_text().partition("[Unit]")[2]
    names = {
        "(chamelaion-watch)": "(chamelaion-watch, %i)",
        "watch/config.yaml": "watch/%i.yaml",
        "watch/api-key": "watch/%i.api-key",
        "StateDirectory=chamelaion-watch\n": "StateDirectory=chamelaion-watch/%i\n",
    }
    for old, new in names.items():
        assert plain.count(old) == 1
        plain = plain.replace(old, new)
    assert TEMPLATE.read_text().partition("[Unit]")[2] == plain


def test_the_unit_runs_the_command_of_the_package() -> None:
    (command,) = settings(PLAIN)["ExecStart"]
    assert command == f"{BINARY} --config /etc/chamelaion-watch/config.yaml run"
    assert '[project.scripts]\nchamelaion-watch = "chamelaion_watch' in (ROOT / "pyproject.toml").read_text()


def test_the_state_of_each_unit_lies_where_the_commands_look_for_it() -> None:
    without = Settings.model_validate({"folders": [{"path": "/srv/share/lipsync"}]})
    for unit, name in ((PLAIN, "config"), (TEMPLATE, "second")):
        (made,) = settings(unit)["StateDirectory"]
        used = state_folder(without, Path(f"/etc/chamelaion-watch/{name}.yaml"), {})
        assert Path("/var/lib", made.replace("%i", name)) in (used, used.parent)


def test_only_what_a_person_must_repair_is_not_restarted(unit: Path) -> None:
    assert settings(unit)["Restart"] == ["on-failure"]
    assert set(settings(unit)["RestartPreventExitStatus"][0].split()) == {"2", "77", "78", "243"}


def test_threat_81_83_the_key_is_a_credential_and_nothing_else(unit: Path) -> None:
    (credential,) = settings(unit)["LoadCredential"]
    assert re.fullmatch(r"chamelaion-api-key:/etc/chamelaion-watch/(%i\.)?api-key", credential)
    assert not re.search(r"^Environment.*KEY", unit.read_text(), re.MULTILINE)


def test_threat_03_83_a_stop_has_longer_than_the_daemon_takes(unit: Path) -> None:
    assert int(settings(unit)["TimeoutStopSec"][0]) > 10


def test_a_folder_that_is_absent_does_not_stop_the_start(unit: Path) -> None:
    found = settings(unit)
    for name in ("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths"):
        assert all(path.startswith("-") for line in found[name] for path in line.split())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("StateDirectory", "chamelaion-watch"),
        ("WatchdogSec", "60"),
        ("KillMode", "mixed"),
        ("OOMPolicy", "continue"),
        ("AmbientCapabilities", "CAP_LEASE"),
        ("PrivateUsers", "no"),
    ],
)
def test_what_the_daemon_relies_on(name: str, value: str) -> None:
    assert settings(PLAIN)[name] == [value]


# -- a life under a real systemd ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def booted() -> Seen:
    seen = systemd_hardening.boot()
    if isinstance(seen, str):
        pytest.skip(f"no container to be had: {seen}")
    return seen


@pytest.mark.timeout(BOOT_S + 60)
@pytest.mark.parametrize("fact", BOOTED)
def test_threat_83_under_a_real_systemd(booted: Seen, fact: str) -> None:
    assert is_seen(fact, booted), booted

"""The systemd units: their exposure, what `systemd-analyze verify` says of them, and a life under a real systemd.

The life is that of `systemd_inside.py`: a container of systemd-nspawn with this machine's /usr, read-only, and an empty
rest, in which the units start unchanged but for the drop-in `STRICTER`. It needs root. What can't be had is said.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.acceptance.rig import ROOT, Facts
from tests.acceptance.systemd_inside import SETTLE_S

UNITS = ("chamelaion-watch.service", "chamelaion-watch@.service")
MAX_EXPOSURE = 1.5
BOOT_S = 400
HOME = "/opt/chamelaion-watch"
CAP_LEASE = f"{1 << 28:016x}"

# A call outside the filter kills instead of failing, so that none goes unseen; the rest is impatience.
STRICTER = "[Service]\nSystemCallErrorNumber=kill\nWatchdogSec=6\nRestartSec=2\n"

PRIVATE = ("/tmp", "/var/tmp", "/dev/mqueue", "/var/lib/chamelaion-watch")  # nobody else sees what is in there

Seen = dict[str, Any]

BOOTED: dict[str, Callable[[Seen], object]] = {
    "READY=1 is reached, with one folder absent and one outside ReadWritePaths": lambda s: (
        (s["start"]["code"], s["start"]["SubState"]) == (0, "running")
        and (s["start"]["roots"]["local"], s["start"]["roots"]["late"]) == ("ok", "missing")
    ),
    "the daemon is not root and can gain nothing": lambda s: (
        not s["start"]["Uid"].startswith("0") and s["start"]["NoNewPrivs"] == "1" and s["start"]["Seccomp"] == "2"
    ),
    "CAP_LEASE is its only capability": lambda s: (
        {s["start"][name] for name in ("CapEff", "CapBnd", "CapAmb")} == {CAP_LEASE}
    ),
    "what reads media has not even that": lambda s: set(s["pair"]["capabilities_of_probes"]) == {f"{0:016x}"},
    "the lease on another user's file works: taken before the settle time of 20 s": lambda s: (
        s["pair"]["submitted_after_s"] < SETTLE_S
    ),
    "no core, no key in environment or command line": lambda s: (
        s["start"]["core"] == [["0", "0"], "00000000"] and not s["start"]["key_in_environment"]
    ),
    "a pair becomes a playable output, mode 0664 under umask 0077": lambda s: (
        s["pair"]["is_playable"] and s["pair"]["owner"] and (s["pair"]["mode"], s["pair"]["jobs"]) == ("0664", ["done"])
    ),
    "it writes nowhere but in its state, /srv and its own /tmp; /home and /root are empty": lambda s: (
        set(s["writes"]["as_root"]) == {"/srv", "/srv/local", "/tmp", "/var/lib/chamelaion-watch"}
        and set(s["writes"]["as_itself"]) == {"/srv/local", *PRIVATE}
        and not re.sub(r"/\w+:|\s", "", s["writes"]["home"])
    ),
    "a folder outside ReadWritePaths is said to be read-only, and nothing is in it": lambda s: (
        (s["outside"]["state"], s["outside"]["names"]) == ("read_only", ["outside.mp4", "outside.wav"])
    ),
    "a share mounted later is served, and let go when it is unmounted": lambda s: (
        (s["late_share"]["umount"], s["late_share"]["is_held"], s["late_share"]["sentinel"]) == (0, False, True)
    ),
    "systemctl reload works inside the filter": lambda s: (
        (s["reload"]["code"], s["reload"]["is_same"], s["reload"]["ActiveState"]) == (0, True, "active")
    ),
    "the template serves beside it, its key by a link, one folder of /home and no other": lambda s: (
        (s["second"]["code"], s["second"]["jobs"], s["second"]["ActiveState"]) == (0, ["done"], "active")
        and s["second"]["homes"] == ["editor"]
        and is_clean(s["second"]["stop"])
    ),
    "systemctl stop ends it with 0, and nothing had restarted it": lambda s: (
        is_clean(s["stop"]) and s["stop"]["seconds"] < 12 and s["stop"]["NRestarts"] == "0"
    ),
    "SIGSTOP of the main process: killed by the watchdog, started again, serves": lambda s: (
        (s["watchdog"]["result"], s["watchdog"]["NRestarts"]) == ("watchdog", "1") and is_clean(s["watchdog"]["stop"])
    ),
    "a wrong configuration ends it with 78, for good": lambda s: (
        (s["wrong_config"]["end"], s["wrong_config"]["ExecMainStatus"], s["wrong_config"]["NRestarts"])
        == ("failed", "78", "0")
    ),
    "an instance without a key ends with 243, for good": lambda s: (
        (s["no_key"]["end"], s["no_key"]["ExecMainStatus"], s["no_key"]["NRestarts"]) == ("failed", "243", "0")
    ),
    "2, 77 and 78 are left to a person, 1, 69, 73 and 75 are tried again": lambda s: (
        s["exit_codes"] == {c: "failed" if c in {"2", "77", "78"} else "auto-restart" for c in s["exit_codes"]}
        and len(s["exit_codes"]) == 7
    ),
}


def main() -> None:
    facts = Facts()
    if shutil.which("systemd-analyze") is None:
        print("not checked: systemd-analyze is not installed")
        return
    for unit in UNITS:
        figure = exposure(unit)
        facts.check(f"{unit}: exposure at most {MAX_EXPOSURE}", figure is not None and figure <= MAX_EXPOSURE, figure)
    said = verify()
    facts.check("systemd-analyze verify prints nothing", said == "", repr(said))
    seen = boot()
    if isinstance(seen, str):
        print(f"not booted: {seen}")
    else:
        print(f"booted: {json.dumps(seen)}")
        for name in BOOTED:
            facts.check(name, is_seen(name, seen))
        print(seen.get("broke_off", ""), end="")
    facts.end()


def is_seen(name: str, seen: Seen) -> bool:
    """Whether that fact of `BOOTED` holds; it does not if its scene broke off."""
    try:
        return bool(BOOTED[name](seen))
    except KeyError:
        return False


# -- at rest ------------------------------------------------------------------------------------------


def exposure(unit: str) -> float | None:
    """The overall exposure by `systemd-analyze security`, None where there is none to ask."""
    with installed() as folder:
        said = analyze("security", "--offline=true", "--no-pager", str(folder / unit)).stdout
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    return float(found[1]) if found else None


def verify() -> str:
    """All that `systemd-analyze verify` has to say of the units."""
    with installed() as folder:
        result = analyze("verify", "--man=no", *(str(folder / unit) for unit in UNITS))
    return "\n".join(line for line in (result.stdout + result.stderr).splitlines() if "chamelaion" in line)


@contextlib.contextmanager
def installed() -> Iterator[Path]:
    """The units, with a command that exists on any machine."""
    with tempfile.TemporaryDirectory(prefix="lipsync-units-") as folder:
        for unit in UNITS:
            text = (ROOT / "systemd" / unit).read_text()
            (Path(folder) / unit).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))
        yield Path(folder)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


def is_clean(stop: Seen) -> bool:
    return (stop["code"], stop["Result"], stop["ExecMainStatus"]) == (0, "success", "0")


# -- alive --------------------------------------------------------------------------------------------


def boot() -> Seen | str:
    """Live through the scenes in a container; what was seen, or why no container can be had on this machine.

    Raises RuntimeError if there was one and its scenes told nothing.
    """
    if reason := missing():
        return reason
    with tempfile.TemporaryDirectory(prefix="lipsync-boot-") as home, cgroup() as groups:
        root, seen = Path(home, "root"), Path(home, "seen")
        seen.mkdir()
        furnish(root)
        said = contain(root, seen, groups).strip()
        if not (seen / "log").exists():
            return f"the container did not come up: {said}"
        return told(seen, said)


def told(seen: Path, said: str) -> Seen:
    try:
        facts: Seen = json.loads((seen / "facts.json").read_text())
    except OSError:
        raise RuntimeError(f"{said}\n{(seen / 'log').read_text()}") from None
    return facts


def missing() -> str:
    """Why there is no container to be had here, empty if nothing speaks against it."""
    if os.geteuid() != 0:
        return "only root may boot a container"
    for command in ("systemd-nspawn", "systemd-analyze", "setpriv", "nsenter"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    if not all(Path(name).is_symlink() for name in ("/bin", "/lib", "/sbin")):
        return "this machine keeps programs outside /usr"
    if not Path("/usr/lib/systemd/systemd").exists():
        return "systemd itself is not installed"
    return ""


def furnish(root: Path) -> None:
    """A root with nothing in it but what an administrator installs: users, units, the virtual environment."""
    for name in ("usr", "etc/systemd/system", "etc/chamelaion-watch", "opt/python", "srv", "home", "root", "var/lib"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    write(root / "etc/passwd", "root:x:0:0::/root:/bin/sh\nchamelaion-watch:x:990:990::/:/usr/sbin/nologin\n")
    write(root / "etc/group", "root:x:0:\nchamelaion-watch:x:990:\n")
    write(root / "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    write(root / "etc/ld.so.conf", "/opt/python/lib\n")
    shutil.copy("/usr/lib/os-release", root / "etc/os-release")
    write(root / "etc/machine-id", f"{os.urandom(16).hex()}\n")
    install_command(root / HOME.lstrip("/"))
    install_units(root / "etc/systemd/system")


def install_command(home: Path) -> None:
    """As `python -m venv` and `pip install` leave it; source and packages are bound in."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("source", "packages", "bin", f"lib/{version}/site-packages"):
        (home / name).mkdir(parents=True)
    base = base_in_container()
    write(home / "pyvenv.cfg", f"home = {base}/bin\ninclude-system-site-packages = false\n")
    (home / "bin/python").symlink_to(f"{base}/bin/{version}")
    write(home / f"lib/{version}/site-packages/here.pth", f"{HOME}/source\n{HOME}/packages\n")
    call = "from chamelaion_watch.__main__ import main\nmain()\n"
    write(home / "bin/chamelaion-watch", f"#!{HOME}/bin/python\n{call}", 0o755)


def install_units(folder: Path) -> None:
    for unit in UNITS:
        shutil.copy(ROOT / "systemd" / unit, folder)
        write(folder / f"{unit}.d/stricter.conf", STRICTER)
    write(folder / "default.target", "[Unit]\nRequires=inside.service\n")
    write(folder / "systemd-networkd-wait-online.service", "")  # masked: there is no network
    end = "SuccessAction=exit-force\nFailureAction=exit-force\n"
    run = f"/bin/sh -c 'ldconfig; exec {HOME}/bin/python -B -m tests.acceptance.systemd_inside /seen/facts.json'"
    log = "StandardOutput=file:/seen/log\nStandardError=inherit\n"
    service = f"Type=oneshot\nTimeoutStartSec=infinity\nWorkingDirectory={HOME}/source\nExecStart={run}\n{log}"
    write(folder / "inside.service", f"[Unit]\n{end}\n[Service]\n{service}")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def base_in_container() -> str:
    return sys.base_prefix if sys.base_prefix.startswith("/usr") else "/opt/python"


def contain(root: Path, seen: Path, groups: list[Path]) -> str:
    """Boot the container and wait for its end; what was said."""
    machine = f"lipsync-{os.getpid()}"
    binds = {ROOT: f"{HOME}/source", Path(sysconfig.get_path("purelib")): f"{HOME}/packages", Path("/usr"): "/usr"}
    if base_in_container() == "/opt/python":
        binds[Path(sys.base_prefix)] = "/opt/python"
    command = [
        *("systemd-nspawn", "--quiet", f"--directory={root}", f"--machine={machine}", "--register=no"),
        *("--boot", "--console=pipe", "--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
        *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
        *("--tmpfs=/srv", f"--bind={seen}:/seen", *(["--keep-unit"] if groups else [])),
    ]
    enter = "".join(f"echo $$ > {group}/cgroup.procs && " for group in groups)
    entered = ["sh", "-c", f'{enter}exec "$@"', "sh", *command]
    env = {"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with subprocess.Popen(entered, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said, _ = process.communicate(timeout=BOOT_S)
        except subprocess.TimeoutExpired:
            process.kill()  # its children die with it
            said, _ = process.communicate()
        finally:
            with contextlib.suppress(OSError):  # where /run is on a disk, it stays
                Path("/run/systemd/nspawn/propagate", machine).rmdir()
    return said


@contextlib.contextmanager
def cgroup() -> Iterator[list[Path]]:
    """Control groups of our own where no systemd runs that would give us one; none where it does."""
    if Path("/run/systemd/system").is_dir():
        yield []
        return
    roots = [Path("/sys/fs/cgroup", name) for name in ("systemd", "unified", "")]
    made = [root / f"lipsync-boot-{os.getpid()}" for root in roots if (root / "cgroup.procs").exists()]
    try:
        for group in made:
            group.mkdir()
        yield made
    finally:
        for group in made:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):  # what is not empty is not ours to end
                    Path(folder).rmdir()


if __name__ == "__main__":
    main()

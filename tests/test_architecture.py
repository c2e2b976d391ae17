"""The shape of the package, read from its syntax: who imports whom, what the core may touch, how long a module is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "chamelaion_watch"
NAME = PACKAGE.name
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400

# Standard modules that hold values and pure functions: no clock, disk, socket, randomness, log.
PURE = {
    *("__future__", "base64", "bisect", "collections", "dataclasses", "datetime", "difflib", "enum", "fnmatch"),
    *(
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "json",
        "math",
        "operator",
        "pickle",
        "re",
        "string",
        "textwrap",
        "types",
        "zlib",
    ),
    *("typing", "unicodedata"),
}
IMPURE_CALLS = {("datetime", "now"), ("datetime", "today"), ("datetime", "utcnow"), ("date", "today")}
# Edges that are several files; the first is its face. Nothing else of one edge knows another.
GROUPS = {
    "http": {"api", "answers", "multipart", "download", "transport", "addresses", "stream"},
    "disk": {"disk", "jail", "listing", "structure", "outputs", "placing", "writing", "spool"},
    "mounts": {"mounts", "mountinfo", "sentinel", "jail"},
    "ledger": {"ledger"},
    "probe": {"probe", "probe_child", "launcher", "launcher_child"},
}
ONLY_IN = {
    "httpx": GROUPS["http"],
    "httpcore": GROUPS["http"],
    "sqlite3": {"ledger"},
    "watchdog": {"watcher"},
    "av": {"probe_child"},
    "random": {"clock"},
}
LAYERS = ("core", "edges", "shell", "cli")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the import stands; `from a import b` gives `a` or `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if (PACKAGE.parent / Path(*full.split("."))).with_suffix(".py").exists() else node.module


def layer(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    if part == "live":
        return "cli"  # the terminal's display
    return part if part in ("core", "edges", "cli", "sandbox") else "shell"


def edge(module: str) -> str:
    return module.split(".")[2]


def of_layer(name: str) -> list[Path]:
    return [path for path in MODULES if layer(module_name(path)) == name]


def own(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == NAME}


def foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {NAME}


def by_name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", of_layer("core"), ids=by_name)
def test_the_core_imports_values_and_itself(path: Path) -> None:
    assert foreign(path) <= PURE
    assert {name for name in own(path) if layer(name) != "core"} <= {f"{NAME}.version"}


@pytest.mark.parametrize("path", of_layer("core"), ids=by_name)
def test_the_core_reads_no_clock(path: Path) -> None:
    calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
            assert (call.value.id, call.attr) not in IMPURE_CALLS
        if isinstance(call, ast.Name):
            assert call.id not in {"open", "print", "input"}


@pytest.mark.parametrize("path", MODULES, ids=by_name)
def test_nobody_imports_upward(path: Path) -> None:
    here = layer(module_name(path))
    if here == "sandbox" or path.name == "__main__.py":
        return
    above = set(LAYERS[LAYERS.index(here) + 1 :])
    assert not {name for name in own(path) if layer(name) in above} - {NAME, f"{NAME}.version"}


@pytest.mark.parametrize("path", of_layer("edges"), ids=by_name)
def test_edges_do_not_know_each_other(path: Path) -> None:
    module = module_name(path)
    if module.count(".") < 2:
        return
    mine = set().union(*(group for group in GROUPS.values() if edge(module) in group), {edge(module)})
    known = {edge(name) for name in own(path) if layer(name) == "edges" and name.count(".") >= 2}
    assert known <= mine, f"{module} imports {known - mine}"


@pytest.mark.parametrize("path", of_layer("sandbox"), ids=by_name)
def test_the_sandbox_is_a_second_opinion(path: Path) -> None:
    assert {name for name in own(path) if layer(name) != "sandbox"} <= {NAME, f"{NAME}.version"}


@pytest.mark.parametrize("path", [path for path in MODULES if layer(module_name(path)) != "sandbox"], ids=by_name)
def test_what_comes_from_outside_has_one_door(path: Path) -> None:
    module = module_name(path)
    here = edge(module) if layer(module) == "edges" and module.count(".") >= 2 else ""
    for name in foreign(path) & ONLY_IN.keys():
        assert here in ONLY_IN[name], f"{module} imports {name}"


def test_only_what_stays_in_memory_is_pickled() -> None:
    """Reading a pickle runs what it says: what comes from a disk or a wire must never be one."""
    users = {module_name(path) for path in MODULES if "pickle" in foreign(path)}
    assert users == {f"{NAME}.core.packing"}


def catches_everything(node: ast.ExceptHandler) -> bool:
    names = [node.type] if not isinstance(node.type, ast.Tuple) else node.type.elts
    return any(name is None or (isinstance(name, ast.Name) and name.id == "Exception") for name in names)


def test_everything_is_caught_in_one_place() -> None:
    """A bug must be seen: only the threads of `effects` and the children that a hostile file may crash go on."""
    places = [
        module_name(path)
        for path in MODULES
        if layer(module_name(path)) != "sandbox"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    ]
    assert places == [f"{NAME}.effects"]


def test_a_state_is_assigned_in_one_place() -> None:
    """`lifecycle.advance` moves jobs on; a new row is queued in `intake`, and `rows` reads one back."""
    places = set()
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                state = named.get("state")
                if isinstance(state, ast.Attribute) and ast.unparse(state.value) in ("JobState", "S"):
                    places.add((module_name(path), state.attr))
    assert places == {(f"{NAME}.core.intake", "QUEUED")}


@pytest.mark.parametrize("path", MODULES, ids=by_name)
def test_no_module_is_longer_than_a_reader_holds(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", [path for path in MODULES if path.stat().st_size], ids=by_name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path))


def test_a_look_at_the_version_imports_nothing_heavy() -> None:
    code = f"import sys, {NAME}.version; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"httpx", "av", "rich", "pydantic", "starlette", "sqlite3"}


def test_the_daemon_loads_nothing_that_only_draws_or_serves() -> None:
    code = f"import sys, {NAME}.cli as cli; cli.cli.get_command(None, 'run'); print(*sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(said.split())
    assert {"httpx", "pydantic"} <= loaded
    assert not loaded & {"av", "rich", "pygments", "starlette", "uvicorn", "langcodes"}

"""What is documented is what there is."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import chamelaion_watch
from chamelaion_watch import settings, yaml12
from chamelaion_watch.cli import cli, output
from chamelaion_watch.core.advice import ADVICE, CARETAKER
from chamelaion_watch.core.languages import LANGUAGES
from chamelaion_watch.core.naming import output_path
from chamelaion_watch.core.pairing import PairingRules, pair_up
from chamelaion_watch.settings_model import Section, section_at
from chamelaion_watch.version import __version__

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.yaml"
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/chamelaion-watch demo"
TESTS = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest"


def options(prefix: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every option in a configuration of one folder."""
    section = section_at(prefix)
    for name in section.model_fields if section else ():
        path = (*prefix, name, 0) if name == "folders" else (*prefix, name)
        yield path
        yield from options(path)


def test_the_example_is_valid_and_every_value_is_the_default() -> None:
    loaded = settings.load(EXAMPLE, {"HOME": "/home/editor"})
    (folder,) = loaded.folders
    assert folder.path == "/srv/share/lipsync"
    assert loaded == settings.Settings.model_validate({"folders": [{"path": folder.path}]})


def test_the_example_names_every_option() -> None:
    document = yaml12.read(EXAMPLE)
    assert len(list(options())) > 50
    assert [path for path in options() if path not in document.values] == []


def test_every_option_of_the_example_has_a_comment_above_it() -> None:
    document = yaml12.read(EXAMPLE)
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    bare = [path for path, place in document.keys.items() if not lines[place.line - 2].lstrip().startswith("# ")]
    assert bare == []


def test_every_option_has_its_own_words() -> None:
    described = [
        field.description for section in sections() for field in section.model_fields.values() if field.description
    ]
    assert len(described) == len(set(described))
    assert all(text and len(text) < 112 for text in described)


def sections() -> Iterator[type[Section]]:
    seen = {section_at(path[:-1] if path[-1] != 0 else ()) for path in options()}
    yield from (section for section in seen if section is not None)


def test_what_comes_later_is_marked_so() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for option in ("on_success", "on_failure", "status", "listen"):
        (index,) = [i for i, line in enumerate(lines) if line.lstrip().startswith(f"{option}:")]
        assert "not in this version yet" in lines[index - 1]


def test_the_example_is_what_the_models_say() -> None:
    """After a change: `python -c 'from chamelaion_watch.settings import *; print(example_text(), end="")' > config.example.yaml`."""
    assert EXAMPLE.read_text(encoding="utf-8") == settings.example_text()


# -- the README ---------------------------------------------------------------------------------------


def section(title: str) -> str:
    """The text of one section of the README."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables in a text, without their heads."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    heads = [index - 1 for index, cells in enumerate(lines) if set("".join(cells)) <= {"-", "|"}]
    return [[cell.strip() for cell in cells] for i, cells in enumerate(lines) if i not in heads and i - 1 not in heads]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def code_rows() -> Iterator[str]:
    """The table of error codes as the README has it: `python -m tests.test_docs` prints it."""
    for code, advice in ADVICE.items():
        what_to_do = advice.what_to_do.replace(CARETAKER, "the caretaker")
        yield f"| `{code}` | {advice.what_happened} | {what_to_do} | {'yes' if advice.will_retry else 'no'} |"


def test_the_readme_prints_the_two_commands_as_they_are() -> None:
    assert [line for line in README.splitlines() if line.startswith("python3 -m venv")] == [DEMO, TESTS]
    assert "pip install ." not in README.replace(".venv/bin/pip install -q .", "")


def test_the_readme_explains_every_error_code_in_the_words_of_the_notes() -> None:
    table = [line for line in section("Error codes").splitlines() if line.startswith("| `")]
    assert table == list(code_rows())


def test_the_readme_names_every_option_and_no_other() -> None:
    named = {name for row in rows(section("Configuration")) for name in quoted(" ".join(row))}
    parts = {part for name in named for part in name.split(".")}
    assert {str(path[-1]) for path in options() if path[-1] != 0} - parts == set()
    there = {".".join(str(part) for part in path if part not in {"folders", 0}) for path in options()} | {"folders"}
    first_column = {name for row in rows(section("Configuration")) for name in quoted(row[0])}
    assert first_column - there == set()


def test_the_readme_has_every_command_with_every_flag() -> None:
    commands = section("Commands")
    described = {name.split()[0] for row in rows(commands) for name in quoted(row[0])}
    context = click.Context(cli)
    assert described >= set(cli.list_commands(context))
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        flags = {flag for option in command.params for flag in option.opts if flag.startswith("--")}
        assert {flag for flag in flags if flag not in commands} == set(), name


def test_the_readme_has_every_exit_code() -> None:
    told = {int(code) for code in re.findall(r"`(\d+)`", section("Commands").partition("**Exit codes**")[2])}
    there = {value for name, value in vars(output).items() if name.isupper() and isinstance(value, int)}
    assert told == there


@pytest.mark.parametrize("row", rows(section("How files pair")), ids=lambda row: row[0][:12])
def test_the_examples_of_pairing_pair_so(row: list[str]) -> None:
    files = quoted(row[1])
    rules = PairingRules(video=(".mp4",), audio=(".wav", ".mp3"))
    found = pair_up(files, rules, quiet_folders={name.rpartition("/")[0] for name in files})
    results = [output_path("{dir}/{name}.lipsync.mp4", pair, date="") for pair in found.pairs]
    assert sorted(results) == sorted(quoted(row[2]))
    assert found.unpaired == ()


def test_the_readme_lists_the_languages() -> None:
    (listed,) = re.findall(r"\*\*Languages\*\*: ([a-z\s]+),", README)
    assert listed.split() == sorted(language.codes[0] for language in LANGUAGES)


def test_the_readme_promises_nothing_that_comes_later() -> None:
    later = section("What it will not do")
    for word in ("status pages", "metrics", "notifications", "tickets", "moving sources", "PostgreSQL", "NAME.retry"):
        assert word in later


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)|`((?:systemd|tests)/[\w./-]+)`", README))))
def test_the_files_that_the_readme_names_exist(path: tuple[str, str]) -> None:
    assert (ROOT / (path[0] or path[1])).exists()


def test_the_readme_links_to_its_own_sections_that_exist() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", head).lower().replace(" ", "-")
        for head in re.findall(r"^## (.+)$", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) - anchors == set()


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[?([\w.]+)", text, re.MULTILINE)[0] == __version__


# -- the code map -------------------------------------------------------------------------------------

MAP = chamelaion_watch.__doc__ or ""
PACKAGE = Path(chamelaion_watch.__file__).parent


def mapped() -> list[str]:
    """The modules that the map lists: `    core/   …` opens a folder, `      label: name name` lists some of it."""
    found, folder = [], ""
    for line in MAP.partition("\nModules")[2].partition("\n\nFind it")[0].splitlines():
        if head := re.fullmatch(r"    ([\w./]*/) .*", line):
            folder = head[1]
        elif names := re.fullmatch(r"      [^:]+: ([\w ]+)", line):
            found += [folder.removeprefix("./") + name for name in names[1].split()]
    return found


def modules() -> set[str]:
    return {
        str(path.relative_to(PACKAGE).with_suffix(""))
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and "__pycache__" not in path.parts
    }


def test_the_map_names_every_module_once_and_no_other() -> None:
    assert sorted(mapped()) == sorted(modules())


def test_what_the_map_leads_to_exists() -> None:
    named = re.findall(r"`([\w.]+)`", MAP)
    assert len(named) > 30
    assert {name for name in named if not is_there(name)} == set()


def is_there(name: str) -> bool:
    """Whether a dotted name is a module of the package, or something in one."""
    path = PACKAGE.joinpath(*name.split("."))
    if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
        return True
    module, _, attribute = name.rpartition(".")
    return bool(module) and hasattr(importlib.import_module(f"chamelaion_watch.{module}"), attribute)


def test_how_fast_it_is_said_to_be_is_what_was_measured() -> None:
    section = README.partition("## How fast\n")[2].partition("\n## ")[0]
    figures = [
        figure for line in section.splitlines() if line.startswith("| ") for figure in quoted(line.split("|")[3])
    ]
    measured = (ROOT / "tests" / "bench" / "results.md").read_text(encoding="utf-8")
    assert len(figures) > 10
    assert [figure for figure in figures if f"| {figure} |" not in measured] == []


def test_the_map_fits_on_a_page() -> None:
    assert len(MAP.splitlines()) <= 70


if __name__ == "__main__":
    print("\n".join(code_rows()))

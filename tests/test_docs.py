"""What is documented is what there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chamelaion_watch import settings, yaml12
from chamelaion_watch.settings_model import Section, section_at

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"


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

"""The README is true: its commands and names exist, and its test command is what the gate runs."""

import re
from pathlib import Path

import nibench as nb
from nibench.cli import app
from nibench.submissions import bundled_models, names
from nibench.suites import SUITES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "methods/README.md", "tasks/README.md")]


def test_every_command_that_is_shown_exists() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    known |= {group.name for group in app.registered_groups}
    shown = {word for page in PAGES for word in re.findall(r"nibench ([a-z]+(?:-[a-z]+)*)\b", code_of(page))}
    assert shown
    assert shown <= known


def test_every_python_name_that_is_shown_exists() -> None:
    shown = {name for page in PAGES for name in re.findall(r"\bnb\.([A-Za-z_]+)", page.read_text())}
    assert shown
    assert shown <= set(nb.__all__)
    assert all(hasattr(nb, name) for name in nb.__all__)


def test_every_file_that_is_linked_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_the_suites_name_what_there_is() -> None:
    for suite in SUITES.values():
        assert {task.partition("@")[0] for task in suite.tasks} <= set(names("tasks"))
        assert set(suite.methods) <= set(names("methods"))
        assert set(suite.models) <= set(bundled_models())
    assert set(SUITES["truth"].models) == set(bundled_models())


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def code_of(page: Path) -> str:
    """What the page shows as shell blocks or inline commands."""
    found = re.findall(r"```sh\n(.*?)```|`(nibench [^`]*)`", page.read_text(), re.DOTALL)
    return "\n".join(block or inline for block, inline in found)

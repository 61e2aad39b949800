"""What can be said of the documentation without building it; ``make docs`` runs its chapters."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from luce.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS / "en") for path in (DOCS / "en").rglob("*.md"))
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def test_every_page_is_there_in_both_languages():
    assert len(PAGES) > 15
    assert sorted(path.relative_to(DOCS / "zh") for path in (DOCS / "zh").rglob("*.md")) == PAGES


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_both_languages_show_the_same(page):
    texts = [(DOCS / language / page).read_text("utf-8") for language in ("en", "zh")]
    for pattern in (
        r"```\{cell\} \S+",
        r"^#+ ",
        r"^\d\. ",
        r"^\.\. \w+:: \S+",
        r"^    \S+ (?:examples|-m|fit|report|install).*?(?=  |$)",
    ):
        found = [re.findall(pattern, text, re.MULTILINE) for text in texts]
        assert found[0] == found[1], pattern
    formulas = [re.findall(r"^\$\$$(.*?)[ ,.]*\n\$\$$", text, re.MULTILINE | re.DOTALL) for text in texts]
    assert formulas[0] == formulas[1]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_cells_stand_in_the_order_of_the_text(page):
    shown = re.findall(r"^```\{cell\} (\S+)$", (DOCS / "en" / page).read_text("utf-8"), re.MULTILINE)
    code = DOCS / "cells" / page.with_suffix(".py")
    assert code.exists() == bool(shown)
    if shown:
        assert shown == re.findall(r"^# %% (\S+)", code.read_text(), re.MULTILINE)
        ast.parse(code.read_text())


@pytest.mark.parametrize("page", [DOCS / lang / p for lang in ("en", "zh") for p in PAGES] + READMES, ids=str)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_commands_name_programs_that_exist():
    for page in [DOCS / lang / p for lang in ("en", "zh") for p in PAGES] + READMES:
        text = page.read_text("utf-8")
        for path in re.findall(r"python (examples/\S+\.py)", text):
            assert (ROOT / path).exists()
        for module in re.findall(r"python -m (benchmarks\.\w+)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()
        for target in re.findall(r"^    make (\w+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", ["en/index.md", "zh/index.md"])
def test_front_page_commands_run_as_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    luce (.*?)(?:  #.*)?$", (DOCS / page).read_text("utf-8"), re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        done = CliRunner().invoke(main, shlex.split(command))
        assert done.exit_code == 0, (command, done.output)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_readme_code_runs(readme):
    blocks = re.findall(r"^```python\n(.*?)^```", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, readme.name, "exec"), {})


def test_readmes_say_the_same():
    shown = []
    for readme in READMES:
        lines = re.findall(r"^    (\S.*)", readme.read_text("utf-8"), re.MULTILINE)
        shown.append([re.sub(r" *#.*", "", line) for line in lines])
    assert [line for line in shown[0] if line not in shown[1]] == []


@pytest.mark.parametrize("module", ["luce", "luce.nn", "luce.nn.functional", "luce.nn.margins", "luce.plot"])
def test_reference_has_every_public_name(module):
    text = (DOCS / "en" / "api.md").read_text("utf-8")
    listed = re.findall(r"^\.\. auto\w+:: (\w+)", text, re.MULTILINE)
    public = importlib.import_module(module)
    missing = [name for name in public.__all__ if name not in listed]
    assert all(isinstance(getattr(public, name), type(importlib)) for name in missing), missing

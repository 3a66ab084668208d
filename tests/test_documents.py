"""The documents say what is so: settings, dependencies, commands, links."""

import re
import tomllib
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SETTING = re.compile(r"\b(?:TCSS|TRIVY)_[A-Z_]+\b|\b(?:DATABASE|REDIS)_URL\b")


def package(requirement: str) -> str:
    found = re.match(r"[a-z0-9-]+", requirement.lower())
    assert found
    return found.group()


def settings_read() -> set[str]:
    """The variables that the console reads: those its settings name, and those of its start."""
    settings = (ROOT / "tcss" / "settings.py").read_text()
    named = set(re.findall(r"environment\.\w+\(\s*\"([A-Z_]+)\"", settings))
    account = {f"TCSS_TENCENT_{name}" for name in ("SECRET_ID", "SECRET_KEY", "REGIONS", "SITE")}
    start = {"TCSS_PORT", "TCSS_SCAN_CONCURRENCY", "TCSS_ADMIN_PASSWORD"}
    return (named | start | account) - {"TCSS_EMBEDDED"}


def test_readme_explains_every_setting_and_no_other() -> None:
    table = (ROOT / "README.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    explained = set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE))
    assert explained == settings_read()


def test_documents_name_only_settings_that_exist() -> None:
    known = settings_read() | {"TCSS_EMBEDDED"}
    for document in DOCUMENTS:
        named = {name.removesuffix("_FILE") for name in SETTING.findall(document.read_text())}
        assert named <= known, document.name


def test_every_dependency_has_a_line_that_says_why() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text().partition("## Not taken")[0]
    explained = set(re.findall(r"^\| ([a-z0-9-]+) \| \S", text, re.MULTILINE)) - {"package"}
    wanted = {
        package(requirement)
        for requirements in (
            PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"].values(),
            *PROJECT["dependency-groups"].values(),
        )
        for requirement in requirements
    }
    assert explained == wanted


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_operators_are_told_of_commands_that_exist() -> None:
    text = (ROOT / "docs" / "operate.md").read_text()
    table = text.partition("| command | what |")[2].partition("\n\n")[0]
    named = set(re.findall(r"^\| `([a-z_]+)", table, re.MULTILINE))
    assert named
    assert named <= set(get_commands())


def test_make_has_every_target_the_documents_use() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text()
        used = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
        assert used <= targets, document.name


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))

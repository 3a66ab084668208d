"""How the code is laid out: who imports whom, how long a module is, what a module is called."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db.models import Field

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tcss", "images", "repositories", "scanning", "licensing")
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = CONFIGURATION["tool"]["importlinter"]["contracts"]
# Started by Python or Django themselves, or apart from the console by a contract of their own.
OUTSIDE_THE_LAYERS = re.compile(
    r"tcss\.(settings|wsgi|embedded.*)|\w+\.(apps|migrations.*)|tcss|images|repositories|scanning|licensing"
)
LONGEST_MODULE = 400
LONGEST_TEST = 600
# Names that say nothing of what is inside.
EMPTY_NAMES = {"utils", "helpers", "constants", "managers", "signals", "common", "misc", "base"}


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT)


def listed_in_layers() -> set[str]:
    (layers,) = (contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
    return {module for layer in layers for module in re.findall(r"[\w.]+", layer)}


def test_every_module_stands_in_a_layer() -> None:
    listed = listed_in_layers()
    graph = grimp.build_graph(*PACKAGES)

    def stands(module: str) -> bool:
        parts = module.split(".")
        return any(".".join(parts[:end]) in listed for end in range(1, len(parts) + 1))

    homeless = {
        module for module in graph.modules if not OUTSIDE_THE_LAYERS.fullmatch(module) and not stands(module)
    }
    assert homeless == set()


def test_every_import_contract_is_kept() -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


def test_a_forbidden_import_breaks_a_contract(tmp_path: Path) -> None:
    # The contracts themselves are tested: what they are for must make them fail.
    for package in (*PACKAGES, "demo"):
        for path in (ROOT / package).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    forbidden = {
        "images.models": "scanning.models",
        "licensing.views": "requests",
        "licensing.services": "subprocess",
        "images.digests": "django",
        "repositories.registries.protocol": "django",
        "tcss.lifecycle": "tcss.settings",
        "tcss.embedded.host": "images",
        "scanning.services": "repositories.registries.harbor_v2",
        "scanning.pipeline": "scanning.engines.trivy",
        "tcss.bell": "demo",
    }
    for importer, imported in forbidden.items():
        path = (tmp_path / importer.replace(".", "/")).with_suffix(".py")
        path.write_text(f"{path.read_text()}\nimport {imported}\n")
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert f"{len(CONTRACTS)} broken" in run.stdout, run.stdout
    for importer, imported in forbidden.items():
        assert re.search(rf"{importer} -> {imported}\b", run.stdout), (
            f"{imported} in {importer} goes unnoticed"
        )


@pytest.mark.parametrize("path", list(modules(*PACKAGES, "demo", "tests", "bench")), ids=str)
def test_a_module_is_short_named_for_what_it_is_and_says_what_it_is(path: Path) -> None:
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= (LONGEST_TEST if path.parts[0] == "tests" else LONGEST_MODULE)
    assert path.stem not in EMPTY_NAMES
    if text:
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring, "a module opens with one sentence"
        first = docstring.split("\n\n")[0]
        assert first.endswith((".", ":", "``.", "!", "?")) or ": " in first, first


@pytest.mark.django_db
def test_the_database_has_no_migration_to_make() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.parametrize("app", PACKAGES[1:])
def test_every_model_says_what_one_row_is(app: str) -> None:
    for model in apps.get_app_config(app).get_models():
        docstring = model.__doc__ or ""
        generated = f"{model.__name__}(" in docstring
        assert docstring, model
        assert not generated, model


def test_no_form_takes_every_field_of_a_model() -> None:
    for path in modules(*PACKAGES):
        assert "__all__" not in (ROOT / path).read_text() or path.name == "__init__.py", path


def test_no_template_trusts_text_from_outside() -> None:
    for path in sorted((ROOT / "templates").rglob("*.html")):
        text = path.read_text()
        assert "autoescape off" not in text, path
        # The one use: help texts of our own forms.
        allowed = {"components/field.html"}
        assert "|safe" not in text or str(path.relative_to(ROOT / "templates")) in allowed, path
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), f"{path}: no inline script passes the policy"
        assert not re.search(r"\sstyle=|<style|\son\w+=", text), f"{path}: no inline style passes the policy"


def test_no_column_can_hold_text_without_a_bound_but_those_named_here() -> None:
    unbounded = {
        f"{model._meta.label}.{field.name}"
        for app in PACKAGES[1:]
        for model in apps.get_app_config(app).get_models()
        for field in model._meta.get_fields()
        if isinstance(field, Field) and field.get_internal_type() == "TextField"
    }
    assert unbounded == {
        "images.ImageLayer.created_by",
        "repositories.CloudAccount.secret_key",
        "repositories.CloudAccount.personal_password",
        "repositories.Registry.password",
        "repositories.Registry.custom_ca",
        "repositories.Tag.search",
        "scanning.Vulnerability.description",
    }

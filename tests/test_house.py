"""The house: one name for one thing, imports at the top of their module, and light packages that stay light."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parent.parent / "syncd"
INSIDE_FUNCTIONS: Final = {
    "catalog/folder.py": "numpy: `syncd status` must start quickly",
    "catalog/postgres.py": "psycopg: of an extra that most installations do not have",
    "catalog/schema.py": "Alembic: only a migration needs it",
    "cli": "the daemon's packages: a light installation shows the help of every command",
    "service/daemon.py": "the web framework: only a daemon that serves HTTP needs it",
    "service/reload.py": "the web framework: only a daemon that serves HTTP needs it",
    "settings.py": "the checks of addresses: most commands read only plain ones",
    "store/s3.py": "obstore: only an operator with a bucket needs it",
    "sources/documents.py": "lxml: only an operator who follows NCMEC needs it",
    "sources/partner_tables.py": "lxml and httpx: only a command that syncs asks a partner",
    "sources/tables.py": "numpy and tuf: only a command that syncs follows a source",
}
"""Modules, or packages, with imports inside functions, and why."""


OF_EQUAL_PARTS: Final = {"Table", "create_table", "h", "join", "errors"}
"""Functions whose arguments are all of one kind: columns, the children of an element, status codes."""


def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its path."""
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def test_a_class_has_a_name_of_its_own() -> None:
    """Nobody has to ask which of two is meant; an underscore does not tell them apart."""
    classes = (node for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    names = Counter(node.name.lstrip("_") for node in classes)
    assert [name for name, number in names.items() if number > 1] == []


def test_imports_stand_at_the_top_of_their_module() -> None:
    """Except those that would make a light path heavy: each of these modules has a reason here."""
    importing = {
        name
        for name, tree in modules().items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function))
    }
    assert {"cli" if name.startswith("cli/") else name for name in importing} == INSIDE_FUNCTIONS.keys()


@pytest.mark.parametrize("package", ["report", "service.metrics"])
def test_what_is_shown_is_read_without_lists(package: str) -> None:
    """No module of these packages loads numpy or pyarrow, except those that look digests up or compare versions."""
    folder = PACKAGE / package.replace(".", "/")
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in {"__init__", "lookup", "history"})
    code = (
        f"import sys, importlib\nfor name in {names}: importlib.import_module(f'syncd.{package}.{{name}}')\n"
        "print(sorted({'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_asking_a_daemon_reads_no_state() -> None:
    """`syncd status` loads neither SQL nor lists nor manifests while a daemon answers: they would double its time."""
    code = (
        "import sys, syncd.cli.status\n"
        "print(sorted({'sqlalchemy', 'numpy', 'tuf', 'syncd.format.manifest', 'syncd.catalog'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_long_calls_name_their_arguments() -> None:
    """Nobody counts commas to see which of seven arguments is meant."""
    calls = (
        (name, node)
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and len(node.args) >= 7
    )
    assert [name for name, node in calls if ast.unparse(node.func).split(".")[-1] not in OF_EQUAL_PARTS] == []

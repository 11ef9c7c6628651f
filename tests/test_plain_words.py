"""Plain words: turns of phrase that may not come back, in docstrings, comments, messages and docs.

Each pattern comes with its replacement. A phrase that is right in its place is quoted as code, or reworded.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
_UNIT: Final = "seconds|milliseconds|hours|days|bytes|rows|entries|files|times|versions|requests|failures"
_AUXILIARY: Final = "is|are|was|were|has|have|had|does|do|can|cannot|could|will|would|may|must"
_SUBJECT: Final = "there|it|that|they|this|one|you|all|either|neither|nothing|nobody|no|none"
_COMPARED: Final = "longer|more|different|better|worse|larger|smaller|later|older"
REPLACEMENTS: Final = {
    r"(?<![Tt]here )\b(?:is|are|was|were) none\b": "what it is not: 'is not a valid root'",
    rf"(?<![Tt]here )\b(?:is|are) no (?!(?:{_COMPARED})\b)[a-z]+": "is not a ...",
    rf"\b(?:there|none|true|false) where\b|\bwhere (?:{_SUBJECT}) (?:{_AUXILIARY})\b": "if, or when",
    r"\braises? [^.]{0,80}`,? where\b": "raises ... if",
    r"\bwhere (?:nothing|nobody|no one|none|everything)\b": "if nothing, when nobody",
    r"\banew\b": "again",
    r"\bbut for\b": "except",
    r"\bof which\b|\bof whom\b": "whose, or two sentences",
    rf"\bso many (?:{_UNIT})\b": "N seconds",
    r"\b(?:is|are|was|were|be|been|being) told\b|\btells? (?:of|so|that)\b": "reported, shown, given, notified",
    r"\btold (?:of|so|that|as|by|to)\b": "reported, shown, given, notified",
    r"\bhitherto\b|\bthereof\b|\bwhereof\b|\bthereby\b|\bwherein\b|\bas it were\b": "plain words",
    r"\bfor ever\b": "forever",
    r"\b(?:is|are) at it\b": "what it does",
    r"\bgiving way\b": "the condition",
}
FIRST_WORDS: Final = r"(?:What|Who|Whether|Which|Whose|That|Where)\b"
"""A docstring begins with an imperative sentence (functions) or a noun phrase (classes, values)."""

_CODE: Final = re.compile(r"```.*?```|``[^`]*``|`[^`\n]*`|^(?: {4}|\t).*$", re.S | re.M)


def sources() -> list[Path]:
    """Every file with prose of ours; generated and measured files apart."""
    return sorted(
        [*(ROOT / "syncd").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    )


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The prose of a file, each piece with the line where it begins."""
    text = path.read_text()
    if path.suffix == ".md":
        blank = _CODE.sub(lambda found: "\n" * found.group().count("\n"), text)
        line = 1
        for paragraph in re.split(r"(\n\s*\n|\n(?=[-*|#]))", blank):
            yield line, paragraph
            line += paragraph.count("\n")
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}:
            yield token.start[0], re.sub(r"``[^`]*``|`[^`\n]*`", "CODE", token.string)
        elif token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def faults(path: Path) -> Iterator[str]:
    """Each forbidden phrase of a file, with its line and what to write instead."""
    name = path.relative_to(ROOT)
    for line, text in prose(path):
        joined = re.sub(r"\s+", " ", text)
        for pattern, instead in REPLACEMENTS.items():
            for found in re.finditer(pattern, joined):
                yield f"{name}:{line}: {found.group()!r}: write {instead}"
    if path.suffix == ".py":
        for line, docstring in docstrings(path):
            if re.match(FIRST_WORDS, docstring):
                yield f"{name}:{line}: {docstring.split(chr(10))[0][:60]!r}: begin with a verb or a noun"


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """The docstrings of a module: of itself, its classes and functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "lineno", 1), docstring


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_plain_words(path: Path) -> None:
    """No file holds a phrase that has to be decoded."""
    found = list(faults(path))
    assert not found, "\n".join(found)


def test_phrases_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over line breaks, in docstrings, messages, comments and documents; not in code."""
    monkeypatch.setattr("test_plain_words.ROOT", tmp_path)
    module, document = tmp_path / "module.py", tmp_path / "document.md"
    module.write_text('"""What is sent\nanew."""\nx = f"the root {1} is none"  # all but for this\n')
    document.write_text("The root is\nnone, but ``anew``.\n\n    anew\n\n`anew` if there is none\n")
    assert [fault.split(": write")[0] for fault in faults(module)] == [
        "module.py:1: 'anew'",
        "module.py:3: 'is none'",
        "module.py:3: 'but for'",
        "module.py:1: 'What is sent': begin with a verb or a noun",
    ]
    assert [fault.split(": write")[0] for fault in faults(document)] == ["document.md:1: 'is none'"]

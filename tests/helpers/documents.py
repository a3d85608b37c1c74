"""Markdown pages as the tests read them: code blocks with the marks of the tests, links, and anchors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^<!-- test: (?P<setup>(?:slow )?setup)\n(?P<hidden>.*?)^-->$"
    r"|(?:^<!-- test: (?P<mark>.*?) -->\n\n?)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
MARKS = re.compile(r"slow|needs DATA|skip, .+")


@dataclass(frozen=True)
class Block:
    """A code block of a page, or code that a page hides in a comment (`<!-- test: setup`) and tests run before it.

    Attributes:
        language: The language after the fence; "python" for hidden code.
        code: The code without the indentation of the fence.
        mark: "", "slow", "needs DATA", or "skip, REASON".
        line: Line of the page that the code begins at.
    """

    language: str
    code: str
    mark: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Yields the code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        group = "hidden" if match["setup"] else "code"
        code = re.sub(rf"^{match['indent'] or ''}", "", match[group], flags=re.MULTILINE)
        mark = ("slow" if "slow" in match["setup"] else "") if match["setup"] else match["mark"] or ""
        line = text.count("\n", 0, match.start(group)) + 1
        if mark and not MARKS.fullmatch(mark):
            raise ValueError(
                f"{page.name}:{line}: expected a mark slow, needs DATA, or skip, REASON. Received: {mark!r}"
            )
        yield Block("python" if match["setup"] else match["language"], code, mark, line)


def without_code(page: Path) -> str:
    """Returns the text of a page without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", BLOCK.sub("", page.read_text(encoding="utf-8")), flags=re.DOTALL)


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Yields path and anchor of each link and picture of a page; either may be empty."""
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", without_code(page)):
        path, _, anchor = target.partition("#")
        yield path, anchor


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page: of its headings, of `<a id=...>`, and of names that mkdocstrings documents."""
    text = without_code(page)
    headings = re.findall(r"^#+ (.*?)(?: \{.*\})?$", text, re.MULTILINE)
    slugs = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
    named = re.findall(r"""<a id="([^"]+)"|^::: (\S+)|^#+ .*\{ ?#(\S+) ?\}$""", text, re.MULTILINE)
    return slugs | {name for names in named for name in names if name}

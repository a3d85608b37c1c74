"""Hooks of MkDocs: files of the repository outside `docs/` that pages link to.

On GitHub, links of a page are relative to its file. On the site, pictures outside `docs/` are copied, and other files
become links to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PICTURES = (".png", ".svg")
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)((?:#[^)\s]*)?\))")


def outside(target: str, page: str) -> str | None:
    """Returns a link's path relative to the repository if it leads out of `docs/`."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith("docs/") else path


def on_files(files: Files, config: Any) -> Files:
    """Adds the pictures outside `docs/` that pages show."""
    for file in [file for file in files if file.src_uri.endswith(".md")]:
        for _, target, _ in LINK.findall(file.content_string):
            path = outside(target, file.src_uri)
            if path and path.endswith(PICTURES) and f"pictures/{path}" not in files.src_uris:
                content = (ROOT / path).read_bytes()
                files.append(File.generated(config, f"pictures/{path}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Replaces links to files outside `docs/`."""

    def new_link(match: re.Match[str]) -> str:
        path = outside(match[2], page.file.src_uri)
        if path is None:
            return match[0]
        if path.endswith(PICTURES):
            depth = page.file.src_uri.count("/")
            return f"{match[1]}{'../' * depth}pictures/{path}{match[3]}"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{match[1]}{config.repo_url.rstrip('/')}/{kind}/main/{path}{match[3]}"

    return LINK.sub(new_link, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Keeps the reader's browser from asking the host of the repository for its numbers of stars and forks."""
    return output.replace(' data-md-component="source"', "")


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """Does the same for the page of errors."""
    return output_content.replace(' data-md-component="source"', "")

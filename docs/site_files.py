"""The site's hook: files outside docs/ that a page links to become part of it, under source/."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FIRST = ("experiments/RESULTS.md", "experiments/README.md")  # in the navigation
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<file>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def uri_of(file: str) -> str:
    """Where a file of the repository is in the site; a folder is its README."""
    if (ROOT / file).is_dir():
        file = posixpath.join(file, "README.md")
    return file.removeprefix("docs/") if file.startswith("docs/") else f"source/{file}"


def file_of(uri: str) -> str:
    """The inverse of `uri_of`."""
    return uri.removeprefix("source/") if uri.startswith("source/") else f"docs/{uri}"


def target(uri: str, link: str) -> str:
    """What a page's link leads to, from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(file_of(uri)), link))


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to, and what those pages link to in turn."""
    waiting = [file.src_uri for file in files.documentation_pages()] + [uri_of(f) for f in FIRST]
    seen: set[str] = set()  # pages link to one another
    while waiting:
        uri = waiting.pop()
        path = ROOT / file_of(uri)
        if uri in seen or not path.is_file():
            continue
        seen.add(uri)
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, content=path.read_bytes()))
        if path.suffix == ".md":
            links = (target(uri, link["file"]) for link in LINK.finditer(path.read_text()))
            waiting += [uri_of(file) for file in links if not file.startswith("..")]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at where their files are in the site; what is not in it is no link."""
    uri = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        there = uri_of(target(uri, link["file"]))
        if files.get_file_from_path(there) is None:
            return link["text"]
        relative = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"[{link['text']}]({relative}{link['anchor'] or ''})"

    return LINK.sub(moved, markdown)

"""How the repository becomes a site: files beside docs/ become pages of it, and links lead where their targets are there.

README.md, CHANGELOG.md, CONTRIBUTING.md and deploy/README.md are pages too. What else the pages link to (source, schemas,
programs) is copied below `files/`, so that no link leaves the site for it. The Markdown itself stays as code forges show it.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
#: Pages that do not lie in docs/, by their file in the repository.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "deploy/README.md": "deploy.md",
}
#: Folders that pages link to, and what is shown for each.
FOLDERS = {"deploy": "deploy.md"}
LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^)\s]+)(\))")
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.DOTALL | re.MULTILINE)


def slug(text: str, separator: str) -> str:
    """The anchor of a heading, as code forges make it."""
    kept = re.sub(r"[^\w\- ]", "", text.strip().lower())
    return kept.replace(" ", separator)


def source_of(page: str) -> str:
    """The file in the repository that a page of the site is made of."""
    return next((source for source, made in PAGES.items() if made == page), f"docs/{page}")


def page_of(source: str) -> str | None:
    """The page of the site that is made of a file in the repository."""
    if source in PAGES:
        return PAGES[source]
    return source.removeprefix("docs/") if source.startswith("docs/") else None


class Links:
    """Rewrites the links of pages, and notes which files they lead to."""

    def __init__(self) -> None:
        self.copied: set[str] = set()

    def rewrite(self, markdown: str, page: str) -> str:
        fences = [match.span() for match in FENCE.finditer(markdown)]

        def one(match: re.Match[str]) -> str:
            if any(begin <= match.start() < end for begin, end in fences):
                return match.group()
            return match.group(1) + self.target(match.group(2), page) + match.group(3)

        return LINK.sub(one, markdown)

    def target(self, link: str, page: str) -> str:
        if re.match(r"[a-z]+:|#", link):
            return link
        path, _, anchor = link.partition("#")
        source = posixpath.normpath(posixpath.join(posixpath.dirname(source_of(page)), path))
        made = FOLDERS.get(source) or page_of(source)
        if made is None and (ROOT / source).is_dir():
            # A folder has no page: its names are one.
            made = f"files/{source}.md"
            self.copied.add(source)
        elif made is None and (ROOT / source).is_file():
            made = f"files/{source}"
            self.copied.add(source)
        if made is None:
            # MkDocs says that it leads nowhere.
            return link
        here = posixpath.relpath(made, posixpath.dirname(page) or ".")
        return here + (f"#{anchor}" if anchor else "")


links = Links()


def listing(folder: str) -> str:
    """A page with what is in a folder of the repository."""
    names = sorted(path.name + "/" * path.is_dir() for path in (ROOT / folder).iterdir() if path.name[0] not in "._")
    rows = "\n".join(f"- `{name}`" for name in names)
    return f"# {folder}\n\nWhat is in this folder of the repository:\n\n{rows}\n"


def on_config(config: dict) -> dict:
    config["mdx_configs"]["toc"]["slugify"] = slug
    return config


def on_files(files: Files, config: dict) -> Files:
    links.copied.clear()
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    # Links are looked at before pages are rendered, since what they lead to has to be among the files by then.
    for file in list(files.documentation_pages()):
        links.rewrite(file.content_string, file.src_uri)
    for source in sorted(links.copied):
        if (ROOT / source).is_dir():
            made = File.generated(config, f"files/{source}.md", content=listing(source))
            made.inclusion = made.inclusion.NOT_IN_NAV
            files.append(made)
        else:
            files.append(File.generated(config, f"files/{source}", abs_src_path=os.fspath(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page, config: dict, files: Files) -> str:
    return links.rewrite(markdown, page.file.src_uri)

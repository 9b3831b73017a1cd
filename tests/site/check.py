"""Builds the documentation site, and follows every link of what came out.

    python tests/site/check.py [FOLDER]

MkDocs refuses a page that no list names, a link to a file that is not there and an anchor that no heading has. Here the finished
pages are read as a browser would: whatever they link to or load is a file of the site, none of it from another host.
"""

from __future__ import annotations

import posixpath
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
#: What a page loads by itself, when it is opened.
LOADS = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if attributes.get(LOADS.get(tag, "")):
            self.loads.append(attributes[LOADS[tag]])


def follow(site: Path) -> tuple[int, list[str]]:
    """How many links there are, and what is wrong with which."""
    pages = {str(path.relative_to(site)): Page(path.read_text()) for path in site.rglob("*.html")}
    wrong, count = [], 0
    for name, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    wrong.append(f"{name} loads {link} from elsewhere")
                continue
            count += 1
            # The page for what is not found is served in any folder: its links begin at the root.
            here = "" if link.startswith("/") else posixpath.dirname(name)
            target = posixpath.normpath(posixpath.join(here, unquote(parts.path).lstrip("/"))) if parts.path else name
            if not (site / target).is_file():
                wrong.append(f"{name}: there is no {target} ({link})")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{name}: {target} has no #{parts.fragment}")
    return count, wrong


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(sys.argv[1] if len(sys.argv) > 1 else scratch).resolve()
        mkdocs = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", "site/mkdocs.yml", "-d", str(site)]
        done = subprocess.run(mkdocs, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr
        count, wrong = follow(site)
        assert not wrong, "\n".join(wrong)
        pages = sum(1 for _ in site.rglob("*.html"))
        assert pages > 30 and count > 1000, (pages, count)
        print(f"site: {pages} pages, {count} links")


main()

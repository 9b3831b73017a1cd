"""The notes of a release: its section of CHANGELOG.md.

    python .github/scripts/notes.py VERSION [CHANGELOG.md]

VERSION may begin with a `v`, as tags do. Fails where the changelog has no section of that version, or an empty one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def notes(changelog: str, version: str) -> str:
    """What stands between the heading of `version` and the next one; lines that were wrapped are one again."""
    version = version.removeprefix("v")
    sections = re.split(r"^## +", changelog, flags=re.MULTILINE)[1:]
    for section in sections:
        heading, _, body = section.partition("\n")
        if re.match(rf"\[?{re.escape(version)}\]?(\s|$)", heading):
            # Links at the end of the file belong to no version.
            body = re.split(r"^\[[^\]]+\]: ", body, maxsplit=1, flags=re.MULTILINE)[0].strip()
            if not body:
                raise SystemExit(f"CHANGELOG.md says nothing of {version}")
            # Forges show line breaks of a release's notes as they are.
            return re.sub(r"(?<=\S)\n +(?=[^\s\-*#])", " ", body) + "\n"
    known = ", ".join(section.partition("\n")[0] for section in sections)
    raise SystemExit(f"CHANGELOG.md has no section of {version}; there are: {known}")


if __name__ == "__main__":
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "CHANGELOG.md"
    sys.stdout.write(notes(path.read_text(), sys.argv[1]))

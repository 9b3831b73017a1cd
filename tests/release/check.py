"""Holds the release to itself: one version everywhere, archives where `cargo binstall` looks for them, notes from the changelog.

    python tests/release/check.py [TAG]

With a tag, as the release workflow calls it, the tag has to be that version, and CHANGELOG.md has to speak of it. Needs PyYAML.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
NOTES = ROOT / ".github/scripts/notes.py"


def notes(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, NOTES, *map(str, arguments)], capture_output=True, text=True)


def check_versions(package: dict, tag: str | None) -> None:
    python = tomllib.loads((ROOT / "python/Cargo.toml").read_text())["package"]
    chart = yaml.safe_load((ROOT / "deploy/chart/negstream/Chart.yaml").read_text())
    versions = {"Cargo.toml": package["version"], "python/Cargo.toml": python["version"],
                "Chart.yaml": chart["version"], "Chart.yaml, appVersion": chart["appVersion"]}
    if tag:
        versions["the tag"] = tag.removeprefix("v")
        assert notes(tag).returncode == 0, notes(tag).stderr
    assert len(set(versions.values())) == 1, versions


def check_archives(package: dict) -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    targets = [each["target"] for each in jobs["binaries"]["strategy"]["matrix"]["include"]]
    assert sorted(targets) == ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"]
    (pack,) = [step["run"] for step in jobs["binaries"]["steps"] if step.get("name") == "pack"]
    binstall, version = package["metadata"]["binstall"], package["version"]
    for target in targets:
        known = {"name": package["name"], "version": version, "target": target, "bin": "negstream", "binary-ext": "",
                 "repo": "REPOSITORY"}
        fill = lambda template: re.sub(r"\{ ([\w-]+) \}", lambda match: known[match[1]], template)
        folder = pack.split('name="')[1].split('"')[0].replace("${GITHUB_REF_NAME#v}", version).replace("$TARGET", target)
        assert '"$name.tar.gz" "$name"' in pack and re.search(r'cp target/release/negstream .* "\$name/"', pack)
        assert fill(binstall["pkg-url"]) == f"REPOSITORY/releases/download/v{version}/{folder}.tar.gz"
        assert fill(binstall["bin-dir"]) == f"{folder}/negstream"


def check_notes() -> None:
    changelog = "\n".join([
        "# Changelog", "", "## Unreleased", "", "- Not yet.", "", "## 1.10.0 - 2026-01-02", "", "### Added", "",
        "- A line that", "  goes on.", "- Another.", "  - Within it.", "", "## [1.1.0]", "", "Old.", "", "## 1.0.0", "",
        "[1.1.0]: https://example.org/compare", "",
    ])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "CHANGELOG.md"
        path.write_text(changelog)
        expected = "### Added\n\n- A line that goes on.\n- Another.\n  - Within it.\n"
        assert notes("v1.10.0", path).stdout == expected, notes("v1.10.0", path)
        assert notes("1.1.0", path).stdout == "Old.\n"
        for version, words in (("1.0.0", "says nothing of 1.0.0"), ("1.1", "no section of 1.1;"), ("2.0.0", "1.10.0 - 2026-01-02")):
            refused = notes(version, path)
            assert refused.returncode != 0 and words in refused.stderr and not refused.stdout, refused
    # The changelog itself can be cut.
    assert "`negstream import" in notes("Unreleased").stdout


def main() -> None:
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    check_notes()
    check_versions(package, sys.argv[1] if len(sys.argv) > 1 else None)
    check_archives(package)
    print(f"release: version {package['version']}")


main()

"""The versions of the site side by side: `python tools/versions.py SITE` writes the pages that lead to them.

SITE has a folder for each version: those of releases by their numbers, and `dev`. `index.html` leads to the
newest release, `versions.html` lists all.
"""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">{head}<title>fastrnn</title>
</head>
<body>
<h1>Versions of this documentation</h1>
<ul>
{links}
</ul>
</body>
</html>
"""


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main(site: Path) -> None:
    folders = {folder.name for folder in site.iterdir() if folder.is_dir()}
    versions = [*sorted(folders - {"dev"}, key=number, reverse=True), "dev"]
    links = "\n".join(f'<li><a href="{version}/index.html">{version}</a></li>' for version in versions)
    leads = f'<meta http-equiv="refresh" content="0; url={versions[0]}/index.html">'
    (site / "index.html").write_text(PAGE.format(head=leads, links=links))
    (site / "versions.html").write_text(PAGE.format(head="", links=links))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The site's tools: tools/pages.py, which opens it in a browser, notices what it looks for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title></head>
<body style="margin: 0"><h1 id="top">A page</h1><p>Words that fit.</p>{}</body></html>"""

FAULTS = {
    "no alternative text for": '<img src="dot.svg">',
    "no alternative text for dot.svg": '<img src="dot.svg" alt=" ">',
    "scrolls sideways: <html": '<div style="width: 100em; height: 1px"></div>',
    "text is cut off: by its box": '<pre style="width: 3em; overflow: hidden">by its box</pre>',
    "text is cut off: by a low box": '<p style="height: 2px; overflow: hidden">by a low box</p>',
    "text is cut off: by the page": '<p style="margin-left: -3em">by the page</p>',
    "console: out of order": "<script>console.error('out of order')</script>",
    "an error: thrown": "<script>throw new Error('thrown')</script>",
    "does not load: file:": '<img src="missing.svg" alt="a picture">',
    "is loaded from elsewhere: http://127.0.0.1:9/": '<img src="http://127.0.0.1:9/x.svg" alt="a picture">',
    "leads to no file of the site": '<a href="missing.html">there</a>',
    "leads to no place on the page": '<a href="right.html#bottom">there</a>',
}
FINE = """<img src="dot.svg" alt="a dot"><a href="right.html#top">up</a><a href="https://example.com">away</a>
<pre style="overflow-x: auto">{}</pre><nav style="position: fixed; left: -20em; width: 15em">a drawer</nav>"""


def test_each_fault_of_a_page_is_noticed(tmp_path):
    pytest.importorskip("playwright")
    (tmp_path / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (tmp_path / "right.html").write_text(PAGE.format(FINE.format("code " * 200)))
    (tmp_path / "search.html").write_text(PAGE.format('<ul id="search-results"></ul>'))
    for number, body in enumerate(FAULTS.values()):
        (tmp_path / f"wrong{number}.html").write_text(PAGE.format(body))
    command = [sys.executable, TOOLS / "pages.py", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "Executable doesn't exist" in run.stderr:
        pytest.skip("no browser is installed")
    assert run.returncode == 1, run.stderr
    lines = run.stdout.splitlines()
    for number, fault in enumerate(FAULTS):
        mine = [line for line in lines if line.startswith(f"wrong{number}.html")]
        assert any(fault in line for line in mine), (fault, mine)
    assert any(line.startswith("search.html: finds nothing") for line in lines)
    assert not [line for line in lines if line.startswith("right.html")]


def test_versions_lead_to_the_newest_release(tmp_path):
    for version in ("0.9.0", "dev", "0.10.1"):
        (tmp_path / version).mkdir()
    subprocess.run([sys.executable, TOOLS / "versions.py", tmp_path], check=True)
    assert "url=0.10.1/index.html" in (tmp_path / "index.html").read_text()
    listed = re.findall(r'href="(\S+)/index.html"', (tmp_path / "versions.html").read_text())
    assert listed == ["0.10.1", "0.9.0", "dev"]

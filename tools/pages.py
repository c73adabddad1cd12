"""The site in a real browser: `python tools/pages.py docs/_build` opens each page, from a phone's width on.

A fault is what a reader would see or miss: an error in the console, something that does not load or is loaded
from elsewhere, a page that scrolls sideways, text that is cut off, an image without a text in its place, a
link within the site that leads nowhere, a search that finds nothing. Each is a line; the exit status is 1.

The browser is the system's Chromium or Chrome, or else that of `playwright install chromium`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Page, TimeoutError, sync_playwright

WIDTHS = (1440, 1280, 1100, 820, 390)
HEIGHT = 900

# What is wrong with the page as it lies there now. What scrolls by itself, such as a block of code, may be
# wider than the page; drawers beside the page, which a button opens, are fixed and outside of it.
LOOK = """() => {
  const faults = [], page = document.documentElement, view = page.clientWidth;
  for (const part of [page, ...document.querySelectorAll("body, .main, .content")])
    if (part.scrollWidth > part.clientWidth + 1)
      faults.push(`scrolls sideways: <${part.localName}> is ${part.scrollWidth} px wide`);

  const hides = overflow => ["hidden", "clip"].includes(overflow);
  const cut = (box, element) => {
    for (let around = element; around; around = around.parentElement) {
      const style = getComputedStyle(around), edge = around.getBoundingClientRect();
      if (style.position === "fixed" || edge.width <= 1) return false;  // a drawer; for screen readers alone
      if (hides(style.overflowX) && (box.left < edge.left - 1 || box.right > edge.right + 1)) return true;
      if (hides(style.overflowY) && (box.top < edge.top - 1 || box.bottom > edge.bottom + 1)) return true;
      if (["auto", "scroll"].includes(style.overflowX)) return false;
    }
    return box.left < -1 || box.right > view + 1;
  };
  const seen = {visibilityProperty: true, opacityProperty: true}, range = document.createRange();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, words = text.data.trim().replace(/\\s+/g, " ");
    if (!words || !text.parentElement.checkVisibility(seen)) continue;
    range.selectNodeContents(text);
    if ([...range.getClientRects()].some(box => cut(box, text.parentElement)))
      faults.push(`text is cut off: ${words.slice(0, 60)}`);
  }
  return faults;
}"""

# The same at every width.
READ = """() => ({
  images: [...document.images].filter(image => !image.alt.trim()).map(image => image.getAttribute("src")),
  names: [...document.querySelectorAll("[id], a[name]")].map(named => named.id || named.name),
  links: [...document.links].map(link => link.href),
})"""


def main(root: Path) -> int:
    pages = sorted(root.rglob("*.html"))
    if not pages:
        raise SystemExit(f"{root} has no pages: make docs first")
    faults: list[tuple[Path, str]] = []
    names: dict[Path, set[str]] = {}
    links: list[tuple[Path, str]] = []
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        tab = browser.new_page()
        heard = listen(tab)
        for path in pages:
            tab.goto(path.as_uri())
            for width in WIDTHS:
                tab.set_viewport_size({"width": width, "height": HEIGHT})
                faults += [(path, f"at {width} px {fault}") for fault in tab.evaluate(LOOK)]
            read = tab.evaluate(READ)
            faults += [(path, f"no alternative text for {image}") for image in read["images"]]
            faults += [(path, fault) for fault in heard]
            heard.clear()
            names[path] = set(read["names"])
            links += [(path, link) for link in read["links"] if link.startswith("file:")]
        faults += searched(tab, root)
        browser.close()
    faults += [(path, fault) for path, link in links if (fault := broken(link, root, names))]
    for path, fault in faults:
        print(f"{path.relative_to(root)}: {fault}")
    print(f"{len(pages)} pages at {len(WIDTHS)} widths, {len(links):,} links: {len(faults)} faults")
    return len(faults) > 0


def listen(tab: Page) -> list[str]:
    """What the page says of itself while it is open, as it comes."""
    heard: list[str] = []
    loud = ("error", "warning")
    tab.on("console", lambda said: heard.append(f"console: {said.text}") if said.type in loud else None)
    tab.on("pageerror", lambda error: heard.append(f"an error: {error}"))
    tab.on("requestfailed", lambda request: heard.append(f"does not load: {request.url}"))
    tab.on("request", lambda r: None if local(r.url) else heard.append(f"is loaded from elsewhere: {r.url}"))
    return heard


def local(url: str) -> bool:
    return urlsplit(url).scheme in ("file", "data", "blob")


def broken(link: str, root: Path, names: dict[Path, set[str]]) -> str | None:
    """What is wrong with a link to a file, if anything is."""
    parts = urlsplit(link)
    target = Path(unquote(parts.path))
    if not target.is_file() or not target.is_relative_to(root):
        return f"leads to no file of the site: {link}"
    if parts.fragment and target in names and unquote(parts.fragment) not in names[target]:
        return f"leads to no place on the page: {link}"
    return None


def searched(tab: Page, root: Path) -> list[tuple[Path, str]]:
    """The site's own search, where it has one."""
    page = root / "search.html"
    if not page.exists():
        return []
    tab.goto(f"{page.as_uri()}?q=LSTM")
    try:
        tab.wait_for_selector("#search-results li a", timeout=5_000)
    except TimeoutError:
        return [(page, "finds nothing for LSTM")]
    return []


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))

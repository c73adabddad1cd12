"""Some pages of English that every Python has: its help about statements."""

from pydoc_data.topics import topics

PAGES = ("assert", "assignment", "augassign", "class", "compound", "del", "for", "function", "if", "import")
TEXT = "".join(topics[name] for name in sorted(PAGES) if name in topics)[:40_000]

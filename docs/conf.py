"""How the site is built: from Markdown pages and the docstrings, without a network, and read without one."""

import os
import sys
from pathlib import Path

import fastrnn
from fastrnn import figures

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # no dates in figures

project = "fastrnn"
version = release = fastrnn.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_copybutton",
    "commands",
    "links",
    "mathml",
    "public_names",
]
exclude_patterns = ["_build", "_ext", "figures", "howto/_tables"]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"fastrnn {version}"
pygments_dark_style = "github-dark"  # that of furo underlines modules like links
html_copy_source = False
copyright = "the fastrnn maintainers, MIT license"
html_static_path = ["_static"]
html_css_files = ["fastrnn.css"]
html_favicon = "_static/favicon.svg"
html_show_search_summary = False  # it would be fetched, which a page opened as a file may not do
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "substitution"]
myst_substitutions = {"version": version}
myst_heading_anchors = 3
myst_html_meta = {"description": fastrnn.__doc__}

copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = "div.highlight-python pre, div.highlight-console pre"

default_role = "py:obj"  # see _ext/links.py
autodoc_typehints = "none"  # the docstrings have types with shapes
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False

plot_formats = ["svg"]
plot_html_show_formats = plot_html_show_source_link = False
plot_pre_code = ""
plot_rcparams = {
    **figures.STYLE,
    "axes.grid": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "savefig.transparent": True,  # the page's ground is light or dark: see fastrnn.css
    "svg.hashsalt": "fastrnn",  # the same figure is the same file
    "svg.fonttype": "path",
}
plot_apply_rcparams = True

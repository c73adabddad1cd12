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
    "links",
    "mathml",
    "public_names",
]
exclude_patterns = ["_build", "_ext", "figures"]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"fastrnn {version}"
html_copy_source = html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["fastrnn.css"]
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

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

"""What `name` in a docstring leads to: something public, wherever that is documented, or nothing.

In docstrings single backticks hold arguments as well as functions and classes, and these are often public in
another module than the one that says so. A full name is taken at its word: a wrong one is a warning.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    target = node["reftarget"]
    if node.get("refdomain") != "py" or node["reftype"] != "obj" or target.startswith("fastrnn."):
        return None
    objects = env.domains.python_domain.objects
    modules = {name for name, found in objects.items() if found.objtype == "module"}
    public = [name for name in objects.keys() - modules if name.removesuffix(f".{target}") in modules]
    if not public:
        return content
    found = objects[min(public, key=len)]
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}

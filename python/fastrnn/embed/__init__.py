"""Out of Python: a network as one C file."""

from fastrnn.embed.export import export_c

__all__ = ["export_c"]

"""Display without the views package: HTML, text tables, and hooks that the views package implements."""

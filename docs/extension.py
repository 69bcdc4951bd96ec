"""The Sphinx extension of this site: generated pages, formulas as MathML, links from code spans to the reference.

Nothing here needs the network, when the site is built or when it is read.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly
from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.transforms import SphinxTransform
from sphinx.util.inspect import safe_getattr

from docs.generate.pages import write_pages
from docs.generate.reference import public_names
from torchmin_nb._public import FunctionModule

__all__ = ["setup"]

FIGURES = "figures.js"
PLOTLY = "plotly.min.js"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("config-inited", lambda app, config: write_pages(Path(app.srcdir)))
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_transform(LinkedNames)
    app.connect("missing-reference", _public_name)
    app.connect("autodoc-process-docstring", _tree_as_it_is)
    app.connect("autodoc-process-signature", _short_classes)
    app.add_autodoc_attrgetter(ModuleType, _function_of_module)
    app.connect("html-page-context", _figures_where_there_are_some)
    app.connect("build-finished", _copy_plotly)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# Formulas


def mathml(latex: str, display: str) -> str:
    """The formula as MathML, which every browser draws without a script. Raises SphinxError for an unknown command."""
    found = convert(re.sub(r"\\arg(?![a-z])", r"\\operatorname{arg}", latex.strip()), display=display)
    unknown = re.findall(r"\\[a-zA-Z]+", found)
    if unknown:
        raise SphinxError(f"the formula {latex!r} has commands that become no MathML: {', '.join(unknown)}")
    return found


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


# Names


class LinkedNames(SphinxTransform):
    """`MinimizeWrapper` and `compare(...)` in a text become links to their page in the reference."""

    default_priority = 700

    def apply(self, **_: Any) -> None:
        known = public_names()
        for literal in list(self.document.findall(nodes.literal)):
            target = known.get(re.sub(r"\(.*\)$", "()", literal.astext(), flags=re.DOTALL))
            if target and not _inside_a_link_or_heading(literal):
                reference = addnodes.pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refdoc=self.env.docname
                )
                literal.replace_self(reference)
                reference += literal


def _public_name(app: Sphinx, env: Any, node: addnodes.pending_xref, content: nodes.Element) -> nodes.Node | None:
    """The page of a name that a docstring's See Also takes from another package."""
    known, written = public_names(), node.get("reftarget", "")
    target = known.get(written) or known.get(f"{written}()")
    if node.get("refdomain") != "py" or target is None:
        return None
    python = env.domains.python_domain
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


def _inside_a_link_or_heading(node: nodes.Node) -> bool:
    inside = (nodes.reference, addnodes.pending_xref, nodes.title, nodes.term, addnodes.desc_signature)
    while node.parent is not None:
        if isinstance(node, inside):
            return True
        node = node.parent
    return False


def _function_of_module(module: ModuleType, name: str, *default: Any) -> Any:
    """What autodoc reads of a module: a function and not the module of the same name."""
    value = safe_getattr(module, name, *default)
    return value.__wrapped__ if isinstance(value, FunctionModule) else value


def _short_classes(app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str, returned: str) -> Any:
    """Classes and functions among the defaults by their names alone."""
    short = re.sub(r"<(?:class|built-in function) '?(?:[\w.]*\.)?_?(\w+)'?>", r"\1", signature or "")
    return short or None, returned


def _tree_as_it_is(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """The tree of errors keeps its lines: it becomes a literal block."""
    branches = [index for index, line in enumerate(lines) if line.startswith(("├", "│", "└"))]
    if branches:
        tree = slice(branches[0] - 1, branches[-1] + 1)
        lines[tree] = ["::", "", *(f"    {line}" for line in lines[tree]), ""]


# Figures


def _figures_where_there_are_some(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if 'class="stored-figure"' in context.get("body", ""):
        app.add_js_file(FIGURES, loading_method="defer")


def _copy_plotly(app: Sphinx, error: Exception | None) -> None:
    """Once for the whole site; a page loads it when a figure comes into view."""
    if error is None and app.builder.format == "html":
        shutil.copy(Path(plotly.__file__).parent / "package_data" / PLOTLY, Path(app.outdir) / "_static" / PLOTLY)

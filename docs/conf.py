"""Settings of the documentation: `make docs` builds it into docs/_build, without the network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # the package, and these scripts as docs.*

import torchmin_nb  # noqa: E402

project = "torchmin_nb"
author = "the torchmin_nb developers"
project_copyright = author
version = release = torchmin_nb.__version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "docs.extension",
]
exclude_patterns = ["_build", "generate"]
nitpicky = True
default_role = "code"

autodoc_typehints = "none"  # the docstrings have a type for each parameter
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

nb_execution_mode = "off"  # the notebooks are stored executed, and tested elsewhere
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "torchmin_nb"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {page: [] for page in ("index", "start", "changelog", "benchmarks", "policy", "security")}
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "methods/index": []},  # its tables are wide
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "show_nav_level": 1,
    "collapse_navigation": True,
}

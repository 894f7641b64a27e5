"""Settings of the documentation site: ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from eurosat import __version__

project = "eurosat"
author = "the authors of eurosat"
copyright = author  # Sphinx's own name
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build"]
nitpick_ignore_regex = [("py:.*", ".*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Docstrings give shapes and units in words; the signatures give the types.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

smartquotes = False  # which would make a dash of the two hyphens of an option

html_theme = "furo"
html_title = f"eurosat {version}"
html_static_path = ["_static"]
html_css_files = ["eurosat.css"]
html_copy_source = False
html_show_sphinx = False

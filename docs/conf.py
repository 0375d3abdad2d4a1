"""Settings of the guide: ``sphinx-build -W docs guide`` writes it as pages."""

from dreamfusion_pl.version import VERSION

project = "dreamfusion_pl"
author = copyright = "the dreamfusion_pl authors"
version = release = VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["tour.ipynb"]
html_theme = "furo"
html_title = f"dreamfusion_pl {VERSION}"
html_show_sourcelink = html_show_copyright = False
html_extra_path = ["tour.ipynb"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings and signatures say them

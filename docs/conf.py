"The site's look: Sphinx, MyST-NB and Furo, mathematics by a MathJax that comes along; nothing from the net."

import importlib.util
from pathlib import Path

project = "dgcl_nb"
copyright = "the dgcl_nb authors, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
# --out is a flag, not a dash
smartquotes = False
pygments_dark_style = "github-dark"

# notebooks are shown with the outputs that they carry
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_ipywidgets_js = {}
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = project
html_show_sourcelink = False
html_copy_source = False
# a summary is fetched, which a browser refuses from file://
html_show_search_summary = False

# one file with all glyphs as pictures: fonts of a file:// page are refused by some browsers
MATHJAX = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
html_static_path = [str(MATHJAX / "static" / "mathjax" / "tex-svg.js"), "site.css"]
html_css_files = ["site.css"]
mathjax_path = "tex-svg.js"
# its menu would load files that are not here
mathjax3_config = dict(options=dict(enableMenu=False))

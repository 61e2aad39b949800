"""One configuration for two sites: ``-t zh`` builds docs/zh, otherwise docs/en is built.

A page with cells is a notebook. Its code stands in docs/cells, under the page's own name, and serves both
languages::

    # %% underflow                            the cell that ```{cell} underflow``` shows and runs
    # %% picture tags=["hide-input"]          the same, with its code folded away
    # !luce check                             a command, run as it stands after the !
"""

import os
import re
import sys
from pathlib import Path

import luce

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small problems, and figures that compare forms on one core
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for `luce`
os.environ["COLUMNS"] = "100"

HERE = Path(__file__).parent
LANGUAGE = "zh" if tags.has("zh") else "en"  # noqa: F821 - Sphinx defines tags

project = "luce"
copyright = "the luce developers"
release = luce.__version__
language = {"en": "en", "zh": "zh_CN"}[LANGUAGE]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]

html_theme = "furo"
html_title = {"en": "luce: the softmax classifier", "zh": "luce：softmax 分类器"}[LANGUAGE]
html_static_path = ["_static"]
html_css_files = ["luce.css"]
html_show_sourcelink = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "attrs_block", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.mime_priority"]
nb_execution_mode = "cache"  # the second language finds the first one's outputs; `make docs` starts afresh
nb_execution_cache_path = str(HERE.parent / "build" / "docs" / "cells")
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/plain", None)]  # cells print what they say
nb_code_prompt_show = {"en": "The code of this picture", "zh": "看画图代码"}[LANGUAGE]
nb_code_prompt_hide = nb_code_prompt_show

autodoc_member_order = "bysource"
autodoc_default_options = {
    "exclude-members": "ece, get_metadata_routing, "
    "set_fit_request, set_partial_fit_request, set_score_request"
}
autodoc_typehints = "none"  # the docstrings say the types, with shapes
napoleon_google_docstring = False
napoleon_use_rtype = False
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

_CHINESE = "[\u2018-\u201d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
_BREAK = re.compile(f"(?<={_CHINESE})\n(?={_CHINESE})")
_CELL = re.compile(r"^```\{cell\} (\S+)\n```$", re.MULTILINE)
_SECTION = re.compile(r"^# %% (\S+)(?: tags=(\[.*\]))?\n", re.MULTILINE)
_NOTEBOOK = f"""\
---
file_format: mystnb
kernelspec:
  name: python3
---
```{{code-cell}} ipython3
:tags: [remove-cell]
%config InlineBackend.figure_formats = ["retina"]
import matplotlib.pyplot as plt
from pathlib import Path
ROOT = Path({str(HERE.parent)!r})
plt.style.use(ROOT / "docs" / "luce.mplstyle")
```

"""


def insert_cells(app, docname, source):
    """Put the code of a page where its text names it, and make the page a notebook."""
    names = _CELL.findall(source[0])
    if not names:
        return
    parts = _SECTION.split((HERE / "cells" / f"{docname}.py").read_text())[1:]
    cells = {
        name: (tags, re.sub("^# !", "!", code.strip(), flags=re.MULTILINE))
        for name, tags, code in zip(*[iter(parts)] * 3, strict=True)
    }
    if names != list(cells):
        raise ValueError(f"{docname}: shows the cells {names}, docs/cells has {list(cells)}")

    def cell(match):
        tags, code = cells[match[1]]
        return f"```{{code-cell}} ipython3\n:tags: {tags or '[]'}\n{code}\n```"

    source[0] = _NOTEBOOK + _CELL.sub(cell, source[0])


def join_lines(app, docname, source):
    """Take out line breaks inside Chinese text: a browser would show each as a space."""
    source[0] = _BREAK.sub("", source[0])


def escape_prose(app, what, name, obj, options, lines):
    """Make reStructuredText of plain prose: ``coef_`` is no link there, and ``|x|`` no substitution."""
    for i, line in enumerate(lines):
        if re.match(r"\s*(>>>|\.\.\. )|[\w, ]+( : .*)?$", line):
            continue  # code, or the names that head an entry
        parts = re.split("(``.*?``|:\\w+:`.*?`|`.*?`)", line)
        prose = [part.replace("|", r"\|") for part in parts[::2]]
        parts[::2] = [re.sub(r"(?<!\w)(\w+_)(?!\w)", r"``\1``", part) for part in prose]
        lines[i] = "".join(parts)


def link_other_language(app, pagename, templatename, context, doctree):
    """Begin every page with a link to itself in the other language."""
    if "body" not in context:
        return
    other, name = {"en": ("zh", "中文"), "zh": ("en", "English")}[LANGUAGE]
    to = "../" * (pagename.count("/") + 1) + f"{other}/{pagename}.html"
    link = f'<p class="other-language"><a href="{to}" hreflang="{other}" lang="{other}">{name}</a></p>'
    context["body"] = link + context["body"]


def setup(app):
    """Connect the hooks."""
    app.connect("source-read", join_lines)
    app.connect("source-read", insert_cells)
    app.connect("autodoc-process-docstring", escape_prose, priority=400)  # before napoleon, at 500
    app.connect("html-page-context", link_other_language)

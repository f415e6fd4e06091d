"""The package in one text for language models: what it is, its rooms, and the signatures of its public names.

    python tests/llms_ctx.py FOLDER    write FOLDER/llms-ctx.txt (tests/sync_gate.py does that)

The form is that of llms.txt (llmstxt.org): a project, and documents in it. Of rooms that serve data, commands
and views only those names are told that README and tutorials use; the others are in the source.
"""

import ast
import json
import re
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
from api import FUNCTIONS, modules  # noqa: E402

NAME = "llms-ctx.txt"
INNER = ("commands", "data", "looking")
"Families whose rooms mostly serve each other."


def first_line(node):
    return (ast.get_docstring(node) or "").partition("\n")[0]


def signature(node):
    "A function in a line: its arguments without their comments, and what it does."
    gives = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){gives}: {first_line(node)}".rstrip(": ")


def summary(node):
    "A function in a line; a class with its fields, and a line for each public method."
    if isinstance(node, FUNCTIONS):
        return signature(node)
    fields = ", ".join(ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign))
    methods = [m for m in node.body if isinstance(m, FUNCTIONS)]
    shown = [m for m in methods if m.name in ("__init__", "forward") or not m.name.startswith("_")]
    head = f"class {node.name}({', '.join(map(ast.unparse, node.bases))}): {first_line(node)}"
    return "\n".join([head, *([f"  {fields}"] if fields else []), *(f"  {signature(m)}" for m in shown)])


def prose(path):
    "The text of a notebook."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def used_names(texts):
    "Names that texts import from the package."
    lines = re.findall(r"from dgcl_nb[\w.]* import ([\w, ]+)", "\n".join(texts))
    return {name.strip() for line in lines for name in line.split(",")}


def document(title, text):
    return f"<doc title={quoteattr(title)}>\n{text.strip()}\n</doc>"


def context(root):
    "The whole text; root is a project's folder."
    root = Path(root)
    readme = (root / "README.md").read_text(encoding="utf-8")
    tutorials = [
        json.loads(p.read_text("utf-8"))["cells"] for p in sorted(root.glob("nbs/tutorials/*.ipynb"))
    ]
    used = used_names([readme, *("".join(cell["source"]) for cells in tutorials for cell in cells)])
    parts = [document("README", readme), document("The plan", prose(root / "nbs" / "index.ipynb"))]
    for module in modules(root):
        is_inner = Path(module.notebook).parent.name in INNER
        nodes = [n for name, n in module.objects().items() if not is_inner or name in used]
        parts.append(document(module.name, "\n".join([module.about, *map(summary, nodes)])))
    about = re.search(r"^> (.*)$", (root / "nbs" / "llms.txt").read_text(encoding="utf-8"), re.M)[1]
    head = f"<project title=\"dgcl_nb\" summary={quoteattr(about)}>"
    return "\n".join([head, "<docs>", *parts, "</docs>", "</project>", ""])


def write(folder):
    Path(folder, NAME).write_text(context(folder), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])

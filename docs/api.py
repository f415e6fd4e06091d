"""The public names of the package as its source says them, without importing anything.

A signature of this package is its own reference, since each argument has its shape and range in a comment. So
what a reader needs is the text of the source, up to the end of the docstring.
"""

import ast
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def literal(node):
    "The value of an assignment that is written out, else None."
    try:
        return ast.literal_eval(node.value)
    except ValueError:
        return None


class Module:
    "A module of the package, read and not run."

    def __init__(self, path, root):
        self.name = ".".join(path.relative_to(root).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        self.lines, self.tree = text.splitlines(), ast.parse(text)
        self.notebook = text.partition("! File to edit: ")[2].partition("\n")[0].rstrip(".")
        self.about = (ast.get_docstring(self.tree) or "").partition("\n")[0]
        named = {t.id: node for node in self.assignments() for t in node.targets if isinstance(t, ast.Name)}
        self.public = literal(named["__all__"]) or [] if "__all__" in named else []

    def assignments(self):
        return [node for node in self.tree.body if isinstance(node, ast.Assign)]

    def objects(self):
        "{name: node} of public functions and classes, in the order of the source."
        nodes = [node for node in self.tree.body if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
        return {node.name: node for node in nodes if node.name in self.public}

    def constants(self):
        "{name: (source, what is said about it)} of public constants, in the order of the source."
        found = {}
        for node, after in zip(self.tree.body, [*self.tree.body[1:], None]):
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                names = [n.id for n in ast.walk(target) if isinstance(n, ast.Name) and n.id in self.public]
                is_said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if names:
                    said = after.value.value if is_said else ""
                    found[", ".join(names)] = (self.source(node, node.end_lineno), said)
        return found

    def first_line(self, node):
        "Where a node begins, its decorators included."
        return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])

    def source(self, node, last):
        "The lines of a node up to one of them."
        return "\n".join(self.lines[self.first_line(node) - 1 : last]).rstrip()

    def stub(self, node):
        "A function up to the end of its docstring; a class with its fields and its public methods."
        if isinstance(node, FUNCTIONS):
            is_said = ast.get_docstring(node) is not None
            return self.source(node, node.body[0].end_lineno if is_said else node.body[0].lineno - 1)
        methods = [n for n in node.body if isinstance(n, FUNCTIONS)]
        shown = [m for m in methods if m.name in ("__init__", "forward") or not m.name.startswith("_")]
        last = self.first_line(methods[0]) - 1 if methods else node.end_lineno
        return "\n\n".join([self.source(node, last), *map(self.stub, shown)])


def modules(root):
    "All modules that notebooks export, by name."
    paths = sorted(Path(root, "dgcl_nb").rglob("*.py"))
    found = [Module(path, root) for path in paths if path.name not in ("_modidx.py", "__init__.py")]
    return [module for module in found if module.public]

"Every public function says what it takes and gives: a type checker of whoever uses the package reads it."

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = [path for path in sorted((ROOT / "dgcl_nb").rglob("*.py")) if path.name != "_modidx.py"]


def is_public(name):
    return not name.startswith("_") or name.endswith("__")


def functions_in(body, prefix=""):
    "(dotted name, function, whether it is a method) of the public functions, those of public classes too."
    for node in body:
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from functions_in(node.body, f"{prefix}{node.name}.")
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_public(node.name):
            yield prefix + node.name, node, bool(prefix)


def untyped_in(text):
    "What of a module's public signatures has no type: 'name: argument', or 'name: result'."
    found = []
    for name, function, is_method in functions_in(ast.parse(text).body):
        a = function.args
        arguments = a.posonlyargs + a.args + a.kwonlyargs + [x for x in (a.vararg, a.kwarg) if x]
        if is_method and arguments and arguments[0].arg in ("self", "cls"):
            del arguments[0]
        found += [f"{name}: {x.arg}" for x in arguments if x.annotation is None]
        # what __init__ gives is known
        if function.returns is None and not (function.name == "__init__" and arguments):
            found.append(f"{name}: result")
    return found


def test_public_signatures__are_complete():
    untyped = {str(path.relative_to(ROOT)): untyped_in(path.read_text(encoding="utf-8")) for path in MODULES}
    assert len(untyped) > 100 and not any(untyped.values()), {k: v for k, v in untyped.items() if v}


def test_public_signatures__a_gap_is_found():
    text = "class A:\n def f(self, x, *, y: int): ...\n def _g(self, x): ...\ndef h() -> int: ..."
    assert untyped_in(text) == ["A.f: x", "A.f: result"]

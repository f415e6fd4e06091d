"""The documentation site: `make docs` writes it to _docs/html; open index.html there, no server is needed.

    python docs/make.py [OUT]    stage pages and notebooks under OUT/source, build OUT/html, check its links

Notebooks are shown with the outputs that they carry, none is run. What the package knows of itself (settings,
presets, methods, the run folder, signatures) is written from it (pages.py, api.py). The rest is text of the
project.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import api
import links
import pages

from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.report_views import AMOUNTS, explorer_view, overlay_view
from dgcl_nb.looking.runs import open_run
from dgcl_nb.looking.static import read_styles

HERE, ROOT = pages.HERE, pages.ROOT
GUIDES = ("presets", "settings", "run_folder", "methods", "faq", "demo")
AMOUNT = AMOUNTS[3]
"How much of the made-up run the demo holds: half a megabyte a view."
SHOWN = (".html", ".json", ".png", ".svg")
"Files beside the tables of results/ that these may lead to."
DIRECTIVE = re.compile(r"^#\| ?(\w+).*\n?", re.M)
DEMO = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>
<style>{css}body {{ background: var(--ground); }}</style>{view}
<script>
  new ResizeObserver(() => {{
    parent.postMessage({{ height: document.documentElement.offsetHeight }}, "*");
  }}).observe(document.body);
</script></html>
"""
"A view as a page of its own, which tells the page around it how high it is."


def text_of(cell):
    return "".join(cell["source"])


def module_of(notebook):
    "The module that a notebook exports, or None."
    found = re.search(r"^#\| ?default_exp (\S+)", "\n".join(map(text_of, notebook["cells"])), re.M)
    return found and f"dgcl_nb.{found[1]}"


def shown(cell):
    "A cell as a reader sees it, without nbdev's directives; None where it is hidden or nothing is left."
    text = text_of(cell)
    words = DIRECTIVE.findall(text)
    rest = DIRECTIVE.sub("", text)
    return None if "hide" in words or not rest.strip() else cell | {"source": rest}


def staged_notebook(notebook, name, known):
    "A notebook as a page: hidden cells are left out, and it says where its module is described."
    module = module_of(notebook)
    cells = [cell for cell in map(shown, notebook["cells"]) if cell]
    if module in known:
        up = "../" * name.count("/")
        where = f"Exports [`{module}`]({up}api/{module}.md); its source is `{name}`."
        cells.insert(1, dict(cell_type="markdown", id="exports", metadata={}, source=where))
    return json.dumps(notebook | {"cells": cells})


def toctree(names, caption=""):
    "An entry in the contents of the site, which the sidebar shows."
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def families():
    "{page: its text} for each family of rooms, in the order of nbs/index.ipynb."
    plan = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))
    text = "\n\n".join(text_of(cell) for cell in plan["cells"] if cell["cell_type"] == "markdown")
    found = {}
    for section in re.split(r"^### ", text, flags=re.M)[1:]:
        title, body = section.split("\n", 1)
        body = body.split("\n## ")[0].strip()
        rooms = [link.removesuffix(".ipynb") for link in re.findall(r"^\| \[.*?\]\((.*?)\)", body, re.M)]
        found[f"family_{title.split()[0].lower()}"] = f"# {title}\n\n{body}\n\n{toctree(rooms)}"
    return found


def home(family_names):
    "The first page: the README, and the contents of the site."
    tutorials = sorted(str(p.relative_to(ROOT).with_suffix("")) for p in ROOT.glob("nbs/tutorials/*.ipynb"))
    parts = [
        (ROOT / "README.md").read_text(encoding="utf-8"),
        toctree(tutorials, "Tutorials"),
        toctree(GUIDES, "Using it"),
        toctree(["nbs/index", *(f"nbs/{name}" for name in family_names), "api/index"], "Room by room"),
        toctree(["results/README", "data/README", "LOG", "CHANGELOG", "CONTRIBUTING"], "Project"),
    ]
    return "\n\n".join(parts)


def texts():
    "{path below the source: text} of all pages."
    modules, found, rooms = api.modules(ROOT), {}, {}
    known = {m.name for m in modules}
    for path in ROOT.glob("nbs/**/*.ipynb"):
        name, notebook = str(path.relative_to(ROOT)), json.loads(path.read_text(encoding="utf-8"))
        found[name] = staged_notebook(notebook, name, known)
        rooms[module_of(notebook)] = (name, "\n\n".join(map(text_of, notebook["cells"])))
    by_hand = {name: (HERE / f"{name}.md").read_text(encoding="utf-8") for name in GUIDES}
    found |= {f"{name}.md": text for name, text in by_hand.items()}
    found["settings.md"] = pages.settings_page(by_hand["settings"])
    found["presets.md"] = pages.presets_page(by_hand["presets"])
    found["methods.md"] = pages.methods_page(by_hand["methods"], rooms)
    found["run_folder.md"] = pages.run_folder_page(by_hand["run_folder"])
    found |= {f"api/{m.name}.md": pages.api_page(m, rooms[m.name][0]) for m in modules}
    found["api/index.md"] = pages.api_index(modules)
    of_families = families()
    found |= {f"nbs/{name}.md": text for name, text in of_families.items()}
    results = sorted(ROOT.glob("results/**/*.md"))
    for path in (*ROOT.glob("*.md"), *results, ROOT / "data" / "README.md"):
        found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    del found["README.md"]
    others = [str(p.relative_to(ROOT / "results").with_suffix("")) for p in results if p.stem != "README"]
    found["results/README.md"] += f"\n\n{toctree(others)}"
    return found | {"index.md": home(of_families)}


def demo_views():
    "{path below the source: text} of the views of a made-up run, as pages without a kernel."
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(make_demo_run(folder))
        views = dict(explorer=explorer_view(run, AMOUNT), overlay=overlay_view(run, AMOUNT))
    css = read_styles("report/colours.css")  # light or dark, as the reader's system is
    return {
        f"extra/demo/{name}.html": DEMO.format(name=name, css=css, view=view) for name, view in views.items()
    }


def stage(source):
    "Write all pages under a folder; what has not changed keeps its time, so that it is not built again."
    wanted = texts() | demo_views()
    for path in (p for p in source.rglob("*") if p.is_file() and str(p.relative_to(source)) not in wanted):
        path.unlink()
    for name, text in wanted.items():
        path = source / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    shown = (path for path in ROOT.glob("results/**/*") if path.suffix in SHOWN)
    for path in (*shown, ROOT / "CITATION.cff"):
        place = source / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    # where a language model looks for it
    shutil.copy2(ROOT / "llms-ctx.txt", source / "extra")


def build(out):
    "Build the site; returns what is wrong with it."
    from sphinx.cmd.build import build_main  # late: what is staged can be looked at without it

    source, site = Path(out) / "source", Path(out) / "html"
    stage(source)
    options = ["-c", HERE, "-d", f"{out}/cache", "-D", f"html_extra_path={source}/extra"]
    status = build_main([*map(str, options), "-q", "-W", "--keep-going", str(source), str(site)])
    return ["Sphinx found faults, see above"] * bool(status) + links.problems(site)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_docs").resolve()
    wrong = build(out)
    print("\n".join(wrong) or f"docs: {out}/html/index.html")
    sys.exit(bool(wrong))

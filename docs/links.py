"What is wrong with the links of a built site: files and anchors that are missing, what comes from the net."

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "iframe": "src", "link": "href", "source": "src", "object": "data"}
"Elements that a browser fetches by itself, and where they say what."


class Page(HTMLParser):
    "The anchors of a page, what it loads, and where it leads to."

    def __init__(self, path):
        super().__init__()
        self.anchors, self.loads, self.leads = {"", "top"}, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        target = attrs.get(LOADED.get(tag))
        if target and not target.startswith("data:"):
            self.loads.append(target)
        if tag == "a" and attrs.get("href"):
            self.leads.append(attrs["href"])


def problems(site):
    "One sentence for each link that leads nowhere and each file that would come from the net."
    pages = {path.resolve(): Page(path) for path in sorted(Path(site).rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(Path(site).resolve())
        for target in page.loads + page.leads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads:
                    found.append(f"{name} loads {target} from the net")
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.is_file():
                found.append(f"{name} leads to {target}: no such file")
            elif there in pages and unquote(parts.fragment) not in pages[there].anchors:
                found.append(f"{name} leads to {target}: no such anchor")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems(sys.argv[1])) or None)

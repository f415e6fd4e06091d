"""A real JupyterLab and a real browser for tests: start the server, run a notebook, press keys, look at pictures.

    lab.write("x", "1 + 1")             a notebook of these cells, in the server's folder
    run_notebook(page, lab, "x")        opens it, runs all cells, fails with the traceback of a cell that failed
    kernel_says(page, "len(points)")    a value of the kernel
    picture(locator); differ(a, b)      what an element looks like; the share of pixels in which two pictures differ
"""
import ast
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import nbformat
import numpy as np
from helpers import clean_environment
from PIL import Image
from sync_gate import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--enable-unsafe-swiftshader"]
INSIDE = {"127.0.0.1", "localhost"}
IDLE = """()=>{const k = window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel;
               return !!k && k.status === 'idle' && k.connectionStatus === 'connected'}"""
STATUS = "()=>jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.status"
RUN_ALL = "async()=>{await jupyterapp.commands.execute('notebook:run-all-cells')}"
START_ALL = "()=>{window.ranAll = false; jupyterapp.commands.execute('notebook:run-all-cells').then(()=>{window.ranAll = true})}"
ERRORS = """()=>{const found = [];
    for (const cell of jupyterapp.shell.currentWidget.content.widgets) for (const o of cell.model.outputs?.toJSON() ?? [])
        if (o.output_type === 'error') found.push(o.ename + ': ' + o.evalue + '\\n' + o.traceback.join('\\n'));
    return found}"""
COUNTS = "()=>jupyterapp.shell.currentWidget.content.widgets.filter(c=>c.model.type === 'code').map(c=>c.model.executionCount)"
ASK = """async code=>{const kernel = jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
    const reply = (await kernel.requestExecute({code: '', user_expressions: {it: code}, store_history: false}).done).content.user_expressions.it;
    if (reply.status !== 'ok') throw new Error(reply.ename + ': ' + reply.evalue);
    return reply.data['text/plain']}"""


def is_inside(url):
    "Whether a request stays on this machine."
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "file", "about", "chrome-error") or parts.hostname in INSIDE


def find_browser():
    "The path of Chromium, and why there is no browser test without it."
    path = next((p for b in BROWSERS if (p := shutil.which(b))), None)
    if path is None: return None, f"no browser: none of {', '.join(BROWSERS)} is installed (on Debian: apt-get install chromium)"
    try: import playwright.sync_api  # noqa: F401
    except ImportError: return None, "no playwright: pip install 'dgcl_nb[dev]'"
    return path, ""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


class Lab:
    "A `jupyter lab` with a home of its own, whose kernel is this Python."
    def __init__(self, place):
        self.root, self.port = place/"notebooks", free_port()
        self.base, self.log = f"http://127.0.0.1:{self.port}", place/"server.log"
        homes = {f"JUPYTER_{name}_DIR": str(place/name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")} | dict(IPYTHONDIR=str(place/"ipython"), HOME=str(place))
        for folder in (self.root, place/"config"/"labconfig", place/"data"/"kernels"/"python3", place/"runtime", place/"ipython"): folder.mkdir(parents=True)
        (place/"config"/"labconfig"/"page_config.json").write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
        (place/"data"/"kernels"/"python3"/"kernel.json").write_text(json.dumps(dict(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="Python 3 (ipykernel)", language="python")))
        command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}", "--port-retries=0",
                   "--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
                   "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={self.root}"]
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT, cwd=self.root,
                                        env=clean_environment(**homes, BROWSER="true"))
        self.wait()

    def wait(self, seconds=90):
        end = time.time() + seconds
        while time.time() < end and self.process.poll() is None:
            try: urllib.request.urlopen(f"{self.base}/api", timeout=5).read(); return
            except (urllib.error.URLError, OSError): time.sleep(.1)
        self.close()
        raise RuntimeError(f"jupyter lab did not answer within {seconds} s:\n{self.log.read_text()[-3000:]}")

    def write(self, name, *cells):
        "A notebook of code cells in the server's folder."
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells],
                                        metadata=dict(kernelspec=dict(name="python3", display_name="Python 3", language="python")))
        nbformat.write(book, self.root/f"{name}.ipynb")

    def end_kernels(self):
        "A test leaves no kernel to the next one."
        for kernel in json.load(urllib.request.urlopen(f"{self.base}/api/sessions", timeout=20)):
            urllib.request.urlopen(urllib.request.Request(f"{self.base}/api/sessions/{kernel['id']}", method="DELETE"), timeout=20).read()

    def close(self):
        if self.process.poll() is None: self.process.terminate()
        try: self.process.wait(15)
        except subprocess.TimeoutExpired: self.process.kill(); self.process.wait()


def watch_context(context, page):
    "Let nothing leave this machine, and note what tried to, and every error of the page."
    page.outside, page.errors, page.console = [], [], []
    def decide(route):
        if is_inside(route.request.url): return route.continue_()
        page.outside.append(route.request.url); route.abort()
    context.route("**/*", decide)
    page.on("websocket", lambda socket: None if urlsplit(socket.url).hostname in INSIDE else page.outside.append(socket.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.console.append(f"{message.type}: {message.text}"))
    return page


def assert_quiet(page):
    "No request to the outside, no error in the page."
    assert page.outside == [], f"requests to the outside: {page.outside[:5]}"
    assert page.errors == [], f"errors of the page: {page.errors[:3]}"


def open_notebook(page, lab, name, seconds=90):
    "Show a notebook of the server's folder and wait for its kernel."
    page.goto(f"{lab.base}/doc/tree/{name}.ipynb")
    page.wait_for_function(IDLE, timeout=1000 * seconds)


def cell_errors(page):
    "What failed cells of the notebook on view say."
    return page.evaluate(ERRORS)


def assert_ran(page):
    "All cells of the notebook on view ran, and none failed."
    errors = cell_errors(page)
    assert not errors, "\n".join(errors)
    assert all(page.evaluate(COUNTS)), f"not all cells ran: {page.evaluate(COUNTS)}"


def run_notebook(page, lab, name, *cells, seconds=120):
    "Open a notebook (made of `cells`, if any are given), run all of it and fail with the traceback of a cell that failed."
    if cells: lab.write(name, *cells)
    open_notebook(page, lab, name)
    page.set_default_timeout(1000 * seconds)
    page.evaluate(RUN_ALL)
    page.set_default_timeout(30_000)
    assert_ran(page)


def run_code(page, code, wait=True):
    "Run code in the notebook's kernel, outside its cells; with wait=False return while it runs."
    page.evaluate("""([code, wait])=>{const k = jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
                     const done = k.requestExecute({code, store_history: false}).done; if (wait) return done.then(()=>null)}""", [code, wait])


def kernel_says(page, expression):
    "The value of an expression in the notebook's kernel; waits until the kernel is free."
    return ast.literal_eval(page.evaluate(ASK, f"({expression})"))


def kernel_status(page): return page.evaluate(STATUS)
def interrupt(page): page.evaluate("()=>jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.interrupt()")


def wait_until(fn, seconds=20, what="it"):
    "The first true value of `fn()`."
    end = time.time() + seconds
    while time.time() < end:
        if value := fn(): return value
        time.sleep(.1)
    raise AssertionError(f"{what} did not happen within {seconds} s; last: {value!r}")


def press(locator, *keys):
    "Give an element the focus, press keys, and wait until what they do is painted."
    locator.focus()
    for key in keys: locator.page.keyboard.press(key)
    two_frames(locator.page)


def two_frames(page):
    "Wait until what was asked for is painted."
    page.evaluate("()=>new Promise(done=>requestAnimationFrame(()=>requestAnimationFrame(done)))")


def picture(locator):
    "What an element looks like: (H, W, 3) uint8."
    two_frames(locator.page)
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))


def differ(a, b, by=8):
    "The share of pixels in which two pictures of one size differ by more than a shade."
    assert a.shape == b.shape, f"pictures of {a.shape} and {b.shape}"
    return float((np.abs(a.astype(int) - b.astype(int)).max(-1) > by).mean())


def colours(a):
    "How many colours a picture has: an element that drew nothing has one or two."
    return len(np.unique(a.reshape(-1, 3), axis=0))


def must_have_browser(): return os.environ.get("CI", "").lower() == "true"


def copy_tutorial(lab, name, shown):
    "Put a tutorial where it finds the data, with the views of the cells that end with one of `shown` on show."
    book = nbformat.read(ROOT/"nbs"/"tutorials"/f"{name}.ipynb", 4)
    for cell in book.cells:
        if cell.cell_type == "code": cell.outputs, cell.execution_count = [], None
        if cell.cell_type == "code" and cell.source.rstrip().endswith(shown): cell.source = cell.source.rstrip().removesuffix(";")
    target = lab.root/"nbs"/"tutorials"/f"{name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True); nbformat.write(book, target)
    if not (lab.root/"data").exists(): (lab.root/"data").symlink_to(ROOT/"data")
    return target.relative_to(lab.root).with_suffix("").as_posix()

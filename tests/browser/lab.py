"""A real JupyterLab and a real browser for tests: start the server, run a notebook, press keys, look.

lab.write("x", "1 + 1")             a notebook of these cells, in the server's folder
run_notebook(page, lab, "x")        opens it, runs all cells, fails with the traceback of one that failed
kernel_says(page, "len(points)")    a value of the kernel
picture(locator)                    what an element looks like
differ(a, b)                        the share of pixels in which two pictures differ
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
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
]
INSIDE = {"127.0.0.1", "localhost"}

# What the page is asked, in its own language; `jupyterapp` is there since the server exposes it.
KERNEL = "jupyterapp.shell.currentWidget.context.sessionContext.session.kernel"
CELLS = "jupyterapp.shell.currentWidget.content.widgets"
IDLE = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session;
    const kernel = session?.kernel;
    return !!kernel && kernel.status === 'idle' && kernel.connectionStatus === 'connected';
}"""
STATUS = f"() => {KERNEL}.status"
INTERRUPT = f"() => {KERNEL}.interrupt()"
RUN_ALL = "async () => { await jupyterapp.commands.execute('notebook:run-all-cells'); }"
START_ALL = """() => {
    window.ranAll = false;
    jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ranAll = true; });
}"""
ERRORS = f"""() => {{
    const outputs = {CELLS}.flatMap((cell) => cell.model.outputs?.toJSON() ?? []);
    const errors = outputs.filter((output) => output.output_type === 'error');
    return errors.map((error) => [`${{error.ename}}: ${{error.evalue}}`, ...error.traceback].join('\\n'));
}}"""
COUNTS = f"""() => {{
    const code = {CELLS}.filter((cell) => cell.model.type === 'code');
    return code.map((cell) => cell.model.executionCount);
}}"""
ASK = f"""async (code) => {{
    const request = {{code: '', user_expressions: {{it: code}}, store_history: false}};
    const reply = await {KERNEL}.requestExecute(request).done;
    const {{it}} = reply.content.user_expressions;
    if (it.status !== 'ok') throw new Error(`${{it.ename}}: ${{it.evalue}}`);
    return it.data['text/plain'];
}}"""
EXECUTE = f"""async ([code, wait]) => {{
    const done = {KERNEL}.requestExecute({{code, store_history: false}}).done;
    if (wait) await done;
}}"""
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def is_inside(url):
    "Whether a request stays on this machine."
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "file", "about", "chrome-error") or parts.hostname in INSIDE


def find_browser():
    "The path of Chromium, and why there is no browser test without it."
    paths = [path for path in map(shutil.which, BROWSERS) if path]
    if not paths:
        names = ", ".join(BROWSERS)
        return None, f"no browser: none of {names} is installed (on Debian: apt-get install chromium)"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return None, "no playwright: pip install 'dgcl_nb[dev]'"
    return paths[0], ""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write_json(path, **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def write_settings(place):
    "JupyterLab's settings: no news, and this Python as the kernel."
    announcements = {"@jupyterlab/apputils-extension:announcements": True}
    write_json(place / "config" / "labconfig" / "page_config.json", disabledExtensions=announcements)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = dict(argv=argv, display_name="Python 3 (ipykernel)", language="python")
    write_json(place / "data" / "kernels" / "python3" / "kernel.json", **kernel)


def lab_command(root, port):
    "How a server of the notebooks in `root` is started."
    options = {
        "ip": "127.0.0.1",
        "port": port,
        "port-retries": 0,
        "IdentityProvider.token": "",
        "ServerApp.password": "",
        "LabApp.expose_app_in_browser": True,
        "LabApp.news_url": "",
        "ServerApp.disable_check_xsrf": True,
        "ServerApp.root_dir": root,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", *given]


def homes_in(place):
    "The environment that keeps JupyterLab within a folder."
    homes = {f"JUPYTER_{name}_DIR": str(place / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    return homes | dict(IPYTHONDIR=str(place / "ipython"), HOME=str(place), BROWSER="true")


class Lab:
    "A `jupyter lab` with a home of its own, whose kernel is this Python."

    def __init__(self, place):
        self.root, self.port = place / "notebooks", free_port()
        self.base, self.log = f"http://127.0.0.1:{self.port}", place / "server.log"
        for folder in (self.root, place / "runtime", place / "ipython"):
            folder.mkdir(parents=True)
        write_settings(place)
        self.process = subprocess.Popen(
            lab_command(self.root, self.port),
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            cwd=self.root,
            env=clean_environment(**homes_in(place)),
        )
        self.wait()

    def wait(self, seconds=90):
        end = time.time() + seconds
        while time.time() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.base}/api", timeout=5).read()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.close()
        raise RuntimeError(f"jupyter lab did not answer within {seconds} s:\n{self.log.read_text()[-3000:]}")

    def write(self, name, *cells):
        "A notebook of code cells in the server's folder."
        code = [nbformat.v4.new_code_cell(cell) for cell in cells]
        kernel = dict(name="python3", display_name="Python 3", language="python")
        book = nbformat.v4.new_notebook(cells=code, metadata=dict(kernelspec=kernel))
        nbformat.write(book, self.root / f"{name}.ipynb")

    def ask(self, path, method="GET"):
        "What the server answers."
        request = urllib.request.Request(f"{self.base}/api{path}", method=method)
        return urllib.request.urlopen(request, timeout=20).read()

    def end_kernels(self):
        "A test leaves no kernel to the next one."
        for session in json.loads(self.ask("/sessions")):
            self.ask(f"/sessions/{session['id']}", method="DELETE")

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def watch_context(context, page):
    "Let nothing leave this machine, and note what tried to, and every error of the page."
    page.outside, page.errors, page.console = [], [], []

    def decide(route):
        if is_inside(route.request.url):
            return route.continue_()
        page.outside.append(route.request.url)
        route.abort()

    def note_socket(socket):
        if urlsplit(socket.url).hostname not in INSIDE:
            page.outside.append(socket.url)

    context.route("**/*", decide)
    page.on("websocket", note_socket)
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
    "Open a notebook (made of `cells`, if any are given) and run it; fails with the traceback of a cell."
    if cells:
        lab.write(name, *cells)
    open_notebook(page, lab, name)
    page.set_default_timeout(1000 * seconds)
    page.evaluate(RUN_ALL)
    page.set_default_timeout(30_000)
    assert_ran(page)


def run_code(page, code, wait=True):
    "Run code in the notebook's kernel, outside its cells; with wait=False return while it runs."
    page.evaluate(EXECUTE, [code, wait])


def kernel_says(page, expression):
    "The value of an expression in the notebook's kernel; waits until the kernel is free."
    return ast.literal_eval(page.evaluate(ASK, f"({expression})"))


def kernel_status(page):
    return page.evaluate(STATUS)


def interrupt(page):
    page.evaluate(INTERRUPT)


def wait_until(fn, seconds=20, what="it"):
    "The first true value of `fn()`."
    end = time.time() + seconds
    while time.time() < end:
        if value := fn():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s; last: {value!r}")


def press(locator, *keys):
    "Give an element the focus, press keys, and wait until what they do is painted."
    locator.focus()
    for key in keys:
        locator.page.keyboard.press(key)
    two_frames(locator.page)


def two_frames(page):
    "Wait until what was asked for is painted."
    page.evaluate(TWO_FRAMES)


def picture(locator):
    "What an element looks like: (H, W, 3) uint8."
    two_frames(locator.page)
    shot = Image.open(io.BytesIO(locator.screenshot()))
    return np.asarray(shot.convert("RGB"))


def differ(a, b, by=8):
    "The share of pixels in which two pictures of one size differ by more than a shade."
    assert a.shape == b.shape, f"pictures of {a.shape} and {b.shape}"
    distance = np.abs(a.astype(int) - b.astype(int)).max(-1)
    return float((distance > by).mean())


def colours(a):
    "How many colours a picture has: an element that drew nothing has one or two."
    return len(np.unique(a.reshape(-1, 3), axis=0))


def must_have_browser():
    return os.environ.get("CI", "").lower() == "true"


def copy_tutorial(lab, name):
    "Put a tutorial, as it is but without its outputs, where it finds the data."
    book = nbformat.read(ROOT / "nbs" / "tutorials" / f"{name}.ipynb", 4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    target = lab.root / "nbs" / "tutorials" / f"{name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, target)
    if not (lab.root / "data").exists():
        (lab.root / "data").symlink_to(ROOT / "data")
    return target.relative_to(lab.root).with_suffix("").as_posix()

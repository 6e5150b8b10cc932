"""A real browser, a JupyterLab on this machine and a lesson in it: for tests."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT

CHROMIUM = Path("/usr/bin/chromium")
# WebGL is drawn by the processor where there is no graphics card.
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")

# A camera that shows a moving test picture, and a browser that does not ask whether it may be used.
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@contextlib.contextmanager
def playwright():
    """Playwright, or a skip with its reason. Two may not run at once, so a fixture that holds it ends with
    its file."""
    module = pytest.importorskip(
        "playwright.sync_api", reason="the browser test needs playwright (the extra `dev`)"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"the browser test needs {CHROMIUM}; on Debian: apt-get install chromium")
    with module.sync_playwright() as running:
        yield running


def launch(running, *args):
    """Chromium with these arguments, in a container too."""
    return running.chromium.launch(
        executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage", *args]
    )


@contextlib.contextmanager
def chromium():
    """A browser that draws WebGL."""
    with playwright() as running, launch(running, *WEBGL) as browser:
        yield browser


@contextlib.contextmanager
def jupyterlab(folder, settings):
    """A JupyterLab for this machine only that shows `folder`; yields its address."""
    news = settings / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--LabApp.expose_app_in_browser=True",
            "--IdentityProvider.token=",
            "--ServerApp.password=",
            f"--ServerApp.root_dir={folder}",
        ],
        env={**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(settings), "RAF_FAST": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            assert server.poll() is None, "JupyterLab ended by itself"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api", timeout=5)
                break
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


@contextlib.contextmanager
def lab(tmp_path_factory, *names):
    """JupyterLab with copies of these lessons (they write beside themselves) and a browser; yields (browser,
    address)."""
    pytest.importorskip("jupyterlab", reason="the browser test needs JupyterLab (the extra `dev`)")
    with chromium() as browser:
        folder = tmp_path_factory.mktemp("lessons")
        for name in names:
            shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder)
        with jupyterlab(folder, tmp_path_factory.mktemp("settings")) as address:
            yield browser, address


def open_notebook(page, address, name):
    """Open a notebook of a JupyterLab and wait until its kernel is ready."""
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    page.wait_for_function("""() => {
        const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
        return kernel?.connectionStatus === 'connected' && kernel.status === 'idle'; }""")


class OpenLesson:
    """A lesson in the browser, all cells told to run; remembers complaints and requests that leave the
    machine."""

    def __init__(self, browser, address, name):
        self.page = browser.new_page(viewport={"width": 1300, "height": 1100})
        self.page.set_default_timeout(300_000)
        self.complaints, self.outside = [], []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on(
            "request",
            lambda r: None if r.url.startswith((address, "blob:", "data:")) else self.outside.append(r.url),
        )
        open_notebook(self.page, address, name)
        # The committed outputs go first, so that an output is one of this run.
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def cells(self):
        """(execution count, names of the errors) of every code cell."""
        return self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells
            .filter((c) => c.cell_type === 'code')
            .map((c) => [c.execution_count,
                         c.outputs.filter((o) => o.output_type === 'error')
                             .map((o) => o.ename + ': ' + o.evalue)])"""
        )

    def run_to_the_end(self, seconds=300):
        """Wait until every cell has run; AssertionError where one raised, or time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            cells = self.cells()
            failed = [errors for _, errors in cells if errors]
            assert not failed, failed
            if [count for count, _ in cells] == list(range(1, len(cells) + 1)):
                return
            self.page.wait_for_timeout(500)
        raise AssertionError(f"after {seconds} s only these cells have run: {[count for count, _ in cells]}")

    def close(self):
        """Nobody complained, nothing was asked of another machine; ends the kernel."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close(run_before_unload=False)
        assert self.complaints == [] and self.outside == []

"""A headless Chromium, driven over its DevTools protocol: pages, what they say, keys, pictures, and axe on them."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import axe_core_python
import websocket

AXE = pathlib.Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
PATIENCE = 30.0


def program():
    """The browser, where there is one."""
    named = os.environ.get("NEGSTREAM_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """A browser with a profile of its own, which is gone with it."""

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        arguments = [
            program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-extensions", "--disable-background-networking", "--force-color-profile=srgb",
            "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={self.profile.name}", "about:blank",
        ]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = pathlib.Path(self.profile.name, "DevToolsActivePort")
        wait_for(lambda: port.exists() and len(port.read_text().split()) == 2, "the browser starts")
        number, path = port.read_text().split()
        self.address = f"ws://127.0.0.1:{number}"
        self.socket = websocket.create_connection(self.address + path, timeout=PATIENCE)
        self.number = 0
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()

    def page(self, width=1280, height=900, dark=False):
        """A new page of that size, in that light."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            pass
        return Page(f"{self.address}/devtools/page/{answer['result']['targetId']}", width, height, dark)


class Page:
    """A page, and everything that it complained about."""

    def __init__(self, address, width, height, dark):
        self.socket = websocket.create_connection(address, timeout=PATIENCE)
        self.number = 0
        self.complaints = []
        self.loaded = 0
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.send(f"{domain}.enable")
        self.resize(width, height)
        self.light(dark)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.send("Page.close")
        self.socket.close()

    def send(self, method, **parameters):
        self.number += 1
        number = self.number
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.note(message)

    def note(self, message):
        """Takes down what a page must not do: errors, and what its policy forbids."""
        method, told = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded += 1
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Audits.issueAdded" and told["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.complaints.append(f"content security policy: {told['issue']['details']}")

    def open(self, url):
        before = self.loaded
        self.send("Page.navigate", url=url)
        wait_for(lambda: self.send("Runtime.evaluate", expression="1") and self.loaded > before, f"{url} loads")

    def resize(self, width, height):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def light(self, dark):
        value = "dark" if dark else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}, {"name": "prefers-reduced-motion", "value": "reduce"}])

    def run(self, expression):
        """The value of an expression of JavaScript, awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression, why=None):
        """Waits until the expression is true."""
        wait_for(lambda: self.run(f"Boolean({expression})"), why or expression)

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def type(self, text):
        for character in text:
            self.send("Input.dispatchKeyEvent", type="char", text=character)

    def key(self, key, code=None):
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
        number = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27}.get(key, 0)
        parameters = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        if text:
            parameters["text"] = text
        self.send("Input.dispatchKeyEvent", type="keyDown", **parameters)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=code or key, windowsVirtualKeyCode=number)

    def axe(self):
        """What axe finds wrong: rule, impact, the first element, what to do."""
        # By the protocol, so that no policy of the page is in its way.
        self.send("Runtime.evaluate", expression=AXE)
        found = self.run("axe.run().then(found => found.violations.map(v => [v.id, v.impact, v.nodes.length, v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary]))")
        return found

    def is_too_wide(self):
        """Whether it has to be scrolled sideways."""
        return self.run("document.documentElement.scrollWidth > innerWidth")

    def picture(self, path, whole=True, clip=None):
        parameters = {"format": "png", "captureBeyondViewport": whole}
        if clip:
            parameters["clip"] = {**clip, "scale": 1}
        elif whole:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            parameters["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = base64.b64decode(self.send("Page.captureScreenshot", **parameters)["data"])
        pathlib.Path(path).write_bytes(data)
        return len(data)

    def box(self, selector):
        """Where an element is in the document."""
        return self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return { x: b.left + scrollX, y: b.top + scrollY, width: b.width, height: b.height }; })()"
        )


def wait_for(condition, why, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"in vain: {why}")
        time.sleep(0.05)

"""A real headless browser, driven over two pipes in its own protocol: what `check-report` and
`check-page` open their pages in. It knows no page and reaches no network: every name but those it is
given stays unresolved, and the proxy leads nowhere.

Standard library only."""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time

# A page may take this long to be drawn, on a busy machine.
PATIENCE_S = 60
NAME = pathlib.Path(sys.argv[0]).name
# What a key is called, and what it types.
KEYS = {"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, None), "Tab": ("Tab", 9, None)}
SHIFT = 8


def stop(*words):
    raise SystemExit(f"{NAME}: " + " ".join(map(str, words)))


def check(right, *words):
    if not right:
        stop(*words)


def chrome():
    names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, names)), None)
    return found or stop("no chromium here; apt-get install chromium")


class Browser:
    """One headless browser with one page."""

    def __init__(self, profile, hosts=()):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        rules = ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in hosts)])
        args = [
            chrome(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-extensions", "--disable-features=BackForwardCache", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--host-resolver-rules={rules}", "--proxy-server=127.0.0.1:9",
            f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        ]

        def pipes():
            # The browser reads from 3 and writes to 4; neither may be overwritten on the way.
            read, write = os.dup(theirs_in), os.dup(theirs_out)
            read, write = (os.dup2(fd, 20 + at) for at, fd in enumerate((read, write)))
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            args, preexec_fn=pipes, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.read, self.write = ours_in, ours_out
        self.buffer, self.calls, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.page = None
        self.page = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params}
        if getattr(self, "page", None):
            message["sessionId"] = self.page
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next(PATIENCE_S)
            if answer.get("id") == self.calls:
                if "error" in answer:
                    stop(method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def next(self, patience_s):
        deadline = time.monotonic() + patience_s
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.read, 1 << 20) if ready else b""
            if not chunk:
                stop("the browser does not answer")
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            stop(expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def shape(self, width, dark, height=900, still=False):
        """The size of the window, and what the reader prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        wishes = {"prefers-color-scheme": "dark" if dark else "light",
                  "prefers-reduced-motion": "reduce" if still else "no-preference"}
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": name, "value": value} for name, value in wishes.items()])

    def open(self, url, width, dark):
        self.events.clear()
        self.shape(width, dark)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE_S
        while not self.value("document.documentElement?.dataset.ready === 'true'"):
            if time.monotonic() > deadline:
                stop(url, "does not get ready:", self.complaints())
            time.sleep(0.05)
        self.settle()

    def settle(self):
        """Two frames: what was asked to be drawn is drawn."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def complaints(self):
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"].get("exception", params))
            if event.get("method") == "Runtime.consoleAPICalled" and params["type"] != "log":
                found.append(params["args"])
            if event.get("method") == "Log.entryAdded" and params["entry"]["level"] != "verbose":
                found.append(params["entry"])
        return found

    def requests(self):
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def screenshot(self, path):
        size = self.value("[innerWidth, Math.ceil(document.documentElement.getBoundingClientRect().height)]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def key(self, key, modifiers=0):
        more = {"modifiers": modifiers}
        if key in KEYS:
            code, number, types = KEYS[key]
            more |= {"code": code, "windowsVirtualKeyCode": number}
            more |= {"text": types} if types else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        more.pop("text", None)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    def type(self, text):
        """Real keys, one letter at a time; a line break is Shift+Enter."""
        for letter in text:
            if letter == "\n":
                self.key("Enter", SHIFT)
                continue
            self.call("Input.dispatchKeyEvent", type="keyDown", key=letter, text=letter)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def until(self, expression, what, patience_s=20):
        """Waits until `expression` holds in the page."""
        deadline = time.monotonic() + patience_s
        while not self.value(f"!!({expression})"):
            if time.monotonic() > deadline:
                stop("waited in vain for", what, self.complaints() or "")
            time.sleep(0.02)

    def close(self):
        os.close(self.write)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

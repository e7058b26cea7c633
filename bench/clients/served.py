"""A server that runs for the checks, and how a check says what is wrong."""

import http.client
import json
import re
import signal
import subprocess
import threading
import time

START_S, STOP_S = 120, 60


class Wrong(Exception):
    """A check that does not hold, in words."""


class Skipped(Exception):
    """A check that cannot be made here, and why."""


def same(got, wanted, what):
    if got != wanted:
        raise Wrong(f"{what} is {got!r}, not {wanted!r}")


def holds(condition, otherwise):
    if not condition:
        raise Wrong(otherwise)


def raised(kind, call):
    """The error of that class that the call has to raise."""
    try:
        answer = call()
    except kind as error:
        return error
    except Exception as error:
        raise Wrong(f"{kind.__name__} was due and {type(error).__name__} came: {error}") from error
    raise Wrong(f"{kind.__name__} was due, and there was an answer: {answer}")


class Served:
    """`engine serve` on a free port."""

    def __init__(self, engine, *flags, key=None):
        self.key = key
        given = ["--api-key", key] if key else []
        self.process = subprocess.Popen(
            [engine, "serve", "--port", "0", *given, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log, self.port = [], None
        threading.Thread(target=self.listen, daemon=True).start()
        self.until_ready()

    def listen(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"Listening on http://[^ ]*:(\d+)", line)
            if found and self.port is None:
                self.port = int(found[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def until_ready(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit("error: the server ended:\n" + "".join(self.log))
            try:
                if self.port is not None and self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit("error: the server is not ready:\n" + "".join(self.log))

    def figure(self, name):
        """A figure of /metrics."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        if not found:
            raise Wrong(f"/metrics has no {name}")
        return float(found[1])

    def until_are(self, running, waiting):
        """Waits until so many requests run and wait."""
        end, now = time.monotonic() + STOP_S, None
        while time.monotonic() < end:
            now = tuple(int(self.figure(f"engine_requests_{name}")) for name in ("running", "waiting"))
            if now == (running, waiting):
                return
            time.sleep(0.05)
        raise Wrong(f"(running, waiting) are {now}, not {(running, waiting)}, for {STOP_S} s")

    def post(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise Wrong(f"{path} gives {answer.status}: {text}")
        return json.loads(text)

    def stop(self):
        """Ends it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Wrong(f"the server does not end within {STOP_S} s") from None

"""A stand-in for `engine serve`, as far as its page needs one: health that is loading at first, a
model, a panel, and streamed answers. What an answer does is asked for by a word in the last message
(`ANSWERS`). Its streams are cut at odd places. It notes every request, and knows no browser."""

import base64
import hashlib
import http.server
import json
import re
import threading
import time

# What a page must show and never run. `window.ran` stays unset.
HOSTILE = """Before <script>window.ran = "script"</script> after.

<img src=x onerror="window.ran = 'img'"> <svg onload="window.ran = 'svg'"></svg>
<iframe srcdoc="<script>parent.ran = 'iframe'</script>"></iframe> <style>body { display: none }</style>

[a](javascript:window.ran='link') [b](JaVaScRiPt:window.ran=1) [c](data:text/html,<script>ran=1</script>)
[d]( javascript:window.ran=1) [e](\x01javascript:window.ran=1) <javascript:window.ran=1> [f](vbscript:ran)
![picture](http://outside.test/pixel.png) [good](https://good.test/path "a title") https://bare.test/x.

[g](https://x.test/"onmouseover="window.ran=1) [`h`](//outside.test/y) **[i](file:///etc/passwd)**

| <b onclick="window.ran=1">x</b> | y |
|---|---|
| <img src=y onerror=window.ran=1> | [j](javascript:ran=1) |

```html"><img src=x onerror=window.ran=1>
</code></pre><script>window.ran = "fence"</script>
```
"""

MARKDOWN = """## A bus, in short

A bus carries bytes between two parts of a machine. It has a **width** and a *rate*, and what it carries at most is their product: a value like `25.6 GB/s`, naïve as that is for 𝔹.

1. The weights of a layer are read once for each token.
2. So the time of a token is at least
   - the bytes that are streamed,
   - over the rate of the link.

> A link that is busy all the time is not a link that is fast.

| layers streamed | bytes a token | at 25 GB/s |
|---|---|---|
| 4 | 374 MB | 15.0 ms |
| 8 | 749 MB | 30.0 ms |

```python
def floor_ms(streamed_bytes, link_gbps):
    return streamed_bytes / link_gbps / 1e6
```

More is in [the notes](https://example.test/notes)."""

REASONING = "The question is about buses in computers, not on roads. I should say what one is, why it matters for weights that are streamed, and show the sum."

USAGE = {
    "prompt_tokens": 1204, "completion_tokens": 212, "total_tokens": 1416,
    "prompt_tokens_details": {"cached_tokens": 1024},
    "engine": {"queue_ms": 12.4, "prompt_ms": 318.0, "tokens_per_s": 8.41, "stall_ms": 940.0,
               "link_bytes": 158_788_000_000, "link_gbps": 24.1, "link_share": 0.963},
}

# The first word of the last message -> reasoning, text, seconds between pieces, and how it ends.
ANSWERS = {
    "hostile": (HOSTILE, HOSTILE, 0, "done"),
    "slow": ("", "word " * 4000, 0.05, "done"),
    "broken": ("", "Half of an answer", 0.01, "error"),
    "cut": ("", "Half of an answer", 0.01, "cut"),
    "short": ("", "Up to here", 0.01, "length"),
    "long": ("", "\n\n".join(f"Paragraph {n} of a long answer, **bold** and `code`." for n in range(400)), 0.003, "done"),
}
PLAIN = (REASONING, MARKDOWN, 0.012, "done")
KEY = "sesame"


class Server:
    """Serves what `page()` gives, on a free port; its fields say how, and what was asked."""

    def __init__(self, page):
        self.page = page
        self.loading = 0          # so many more looks at its health, and it is there
        self.refuse = []          # statuses and headers that the next requests get
        self.key = None
        self.half = threading.Event()  # answers wait in their middle until this is set
        self.half.set()
        self.panel = True
        self.policy = True
        self.bodies, self.gone, self.seen = [], threading.Event(), []
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def content_policy(self, page):
        digest = lambda tag: base64.b64encode(hashlib.sha256(
            re.search(f"<{tag}>(.*)</{tag}>".encode(), page, re.DOTALL)[1]).digest()).decode()
        return (f"default-src 'none'; style-src 'sha256-{digest('style')}'; script-src 'sha256-{digest('script')}'; "
                "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                "require-trusted-types-for 'script'; trusted-types 'none'")

    def handler(server):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def reply(self, status, body, kind="application/json", **headers):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                try:
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # A reader may leave at any time.

            def stream(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()

            def allowed(self):
                server.seen.append((self.command, self.path, self.headers.get("Authorization")))
                if server.key is None or self.headers.get("Authorization") == f"Bearer {server.key}":
                    return True
                self.reply(401, {"error": {"message": "wrong key", "code": "invalid_api_key"}})
                return False

            def do_GET(self):
                if self.path == "/":
                    page = server.page()
                    policy = {"Content_Security_Policy": server.content_policy(page)} if server.policy else {}
                    return self.reply(200, page, "text/html; charset=utf-8", **policy)
                if self.path == "/health":
                    if server.loading > 0:
                        server.loading -= 1
                        return self.reply(503, {"status": "loading", "progress": 0.4})
                    return self.reply(200, {"status": "ok"})
                if not self.allowed():
                    return None
                if self.path == "/v1/models":
                    return self.reply(200, {"object": "list", "data": [{"id": "bench-1.3b", "object": "model"}]})
                if self.path == "/panel" and server.panel:
                    return self.panel()
                return self.reply(404, {"error": {"message": "no such page"}})

            def panel(self):
                self.stream()
                step = 0
                try:
                    while True:
                        speed = 8.4 + 1.8 * ((step * 7) % 5 - 2) / 4 if step > 3 else 0.0
                        event = {"tok_s": speed, "stall_ms": 108.2, "link_gbps": 23.9 if step > 3 else 0.0,
                                 "link_peak_gbps": 25.0, "async_percent": 100, "running": 2, "waiting": 1,
                                 "kv_used": 1416 + step, "kv_total": 8192,
                                 "layers": "RRSRRRSRRSRRRSRRSRRRSRRSRRRS", "layer_now": step % 28}
                        self.wfile.write(f": hello\r\ndata: {json.dumps(event)}\r\n\r\n".encode())
                        self.wfile.flush()
                        step += 1
                        time.sleep(0.1 if step < 60 else 0.5)
                except OSError:
                    pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self.allowed():
                    return
                if server.refuse:
                    status, answer, headers = server.refuse.pop(0)
                    return self.reply(status, answer, **headers)
                server.bodies.append(body)
                server.gone.clear()
                first = body["messages"][-1]["content"].split()[0]
                self.stream()
                try:
                    self.answer(*ANSWERS.get(first, PLAIN))
                except OSError:
                    server.gone.set()

            def answer(self, reasoning, text, pause_s, end):
                events = [": keep-alive\n\n", chunk({"role": "assistant", "content": ""})]
                events += [f"data: {json.dumps({'choices': [], 'engine': {'prompt': {'read': 600, 'of': 1204}}})}\r\n\r\n"]
                events += [chunk({"reasoning_content": part}) for part in pieces(reasoning)]
                thought = len("".join(events).encode()) if reasoning else 0
                events += [chunk({"content": part}) for part in pieces(text)]
                if end == "error":
                    events.append(f"data: {json.dumps({'error': {'message': 'the disk is gone', 'code': 'io'}})}\n\n")
                elif end != "cut":
                    events.append(chunk({}, {"length": "length"}.get(end, "stop")))
                    events.append(f"event: message\rdata: {json.dumps({'choices': [], 'usage': USAGE})}\r\r")
                    events.append("data: [DONE]\n\n")
                raw = "".join(events).encode()
                # Odd lengths, so that letters, lines and ends of lines are cut anywhere.
                fast = pause_s < 0.004
                at, step = 0, 0
                while at < len(raw):
                    size = 4099 if fast else (1, 7, 320, 3, 490, 2)[step % 6]
                    self.wfile.write(raw[at:at + size])
                    self.wfile.flush()
                    at, step = at + size, step + 1
                    # A thought takes long enough to be told, though a busy browser reads it late.
                    time.sleep(0.4 if at - size < thought <= at else pause_s)
                    if at > len(raw) / 2:
                        server.half.wait(60)

        return Handler


def chunk(delta, finish=None):
    body = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def pieces(text):
    return [text[at:at + 9] for at in range(0, len(text), 9)]

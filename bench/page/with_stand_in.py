"""What only a stand-in can show: a model that loads, hostile answers, every refusal, streams that break,
settings as they reach the server, files of conversations, storage that is full."""

import json
import pathlib
import tempfile
import time

from browser import check
from page.server import KEY

# Nothing of a model's text may become one of these.
FOREIGN = "#messages :is(script, img, iframe, svg, style, form, object, embed, link, video, audio)"
LINKS = "[...document.querySelectorAll('#messages a')].map((one) => [one.href, one.rel, one.target])"


def loading(reader):
    """A model that is loading is waited for, with a bar; writing is possible, sending is not."""
    reader.server.loading = 6
    reader.fresh()
    reader.server.loading = 6
    reader.fresh(forget=False)
    reader.until("document.getElementById('loading-words').textContent.includes('40\u00a0%')", "the progress")
    reader.write("plain early")
    reader.key("Enter")
    check(reader.talk() == [] and "still loading" in reader.text("#status"), "sent while loading:", reader.text("#status"))
    reader.fits("loading")
    reader.legible("loading")
    reader.shot("loading")
    reader.ready()
    check(reader.value("document.getElementById('loading').hidden"), "the bar stays")
    check(reader.text("#model") == "bench-1.3b", "the model is", reader.text("#model"))
    reader.key("Enter")
    reader.answered()


def hostile(reader):
    """Nothing in an answer, a message, a name or a file runs or is fetched: with the policy, and without."""
    for policy in (True, False):
        reader.server.policy = policy
        reader.fresh()
        reader.ask("hostile <img src=x onerror=\"window.ran='title'\">")
        time.sleep(0.3)
        check(reader.value(f"document.querySelectorAll({json.dumps(FOREIGN)}).length") == 0, "became elements:",
              reader.value(f"[...document.querySelectorAll({json.dumps(FOREIGN)})].map((one) => one.outerHTML)"))
        links = reader.value(LINKS)
        check(links and all(href.startswith(("http://", "https://")) and "noopener" in rel and target == "_blank"
                            for href, rel, target in links), "links:", links)
        check(["https://good.test/path", "https://bare.test/x"] == [href for href, *_ in links if "outside" not in href and "x.test" not in href][:2], "links:", links)
        check("<script>window.ran = \"script\"</script>" in reader.answer(), "not shown as text:", reader.answer()[:200])
        check(reader.value("[...document.querySelectorAll('#messages *')].every((one) => [...one.attributes].every((two) => !two.name.startsWith('on')))"), "handlers")
        check("javascript:window.ran" in reader.answer(), "a link that is none is not shown")
        reader.value("for (const one of document.querySelectorAll('#messages details')) one.open = true")
        reader.quiet("hostile")
        reader.fits("hostile")
    reader.shot("hostile")
    reader.server.policy = True
    reader.fresh(360, True, 740)
    reader.ask("hostile")
    reader.fits("hostile, 360")


def refusals(reader):
    """Each way a request can fail is told in words, with what to do; then it works again."""
    error = lambda message, code=None: {"error": {"message": message, "code": code}}
    cases = [
        (403, error("origin not allowed"), {}, ["does not answer pages under this address", "allowed"]),
        (400, error("17000 tokens, 8192 fit", "context_length_exceeded"), {}, ["longer than the model can read", "17000 tokens", "Start a new one"]),
        (400, error("top_k must be whole"), {}, ["refused the request (400)", "top_k must be whole"]),
        (413, error("32 MiB"), {}, ["too large to be sent"]),
        (429, error("busy"), {"Retry_After": "2"}, ["All places are taken", "wait 2 seconds"]),
        (503, {"status": "loading", "progress": 0.5}, {}, ["still loading"]),
        (503, error("draining"), {}, ["takes no requests now", "draining"]),
        (500, error("disk"), {}, ["server failed (500)", "disk"]),
        (502, b"<html>bad</html>", {}, ["server failed (502)", "log"]),
    ]
    for status, answer, headers, words in cases:
        reader.fresh()
        reader.ready()
        reader.server.refuse = [(status, answer, headers)]
        reader.write("plain")
        reader.key("Enter")
        reader.answered()
        told = reader.text(".trouble")
        check(all(word in told for word in words), status, "is told as", told)
        reader.legible(str(status))
        if status == 429:
            reader.until("document.querySelector('.trouble button').disabled && document.querySelector('.trouble button').textContent.includes('in ')", "a countdown", 3)
            reader.shot("refused-429")
            reader.until("!document.querySelector('.trouble button').disabled", "the end of the countdown", 5)
        reader.press("Try again")
        reader.until("document.querySelector('.assistant.busy, .stats')", "another try")
        check("A bus carries" in reader.answered(), "no answer after", status)
        check(len(reader.server.bodies[-1]["messages"]) == 1, "asked was", reader.server.bodies[-1])


def breaks(reader):
    """An error in the middle, a stream that is cut, a server that is gone: what came is kept."""
    for word, told in (("broken", "The server says: the disk is gone"), ("cut", "The connection ended before")):
        reader.fresh()
        reader.ask(f"{word} please")
        check(reader.answer() == "Half of an answer" and told in reader.text(".trouble"), word, "gives", reader.answer(), reader.text(".trouble"))
    reader.shot("broken")
    reader.ask("plain after that")
    check([one["role"] for one in reader.server.bodies[-1]["messages"]] == ["user", "assistant", "user"], "asked was", reader.server.bodies[-1])
    reader.ask("short please")
    check("reached the most tokens" in reader.text(".message:last-child"), "the length is not told")
    reader.browser.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    reader.write("plain without a network")
    reader.key("Enter")
    reader.answered()
    check("does not answer" in reader.text(".message:last-child .trouble"), "gone is told as", reader.text(".message:last-child"))
    reader.until("document.getElementById('status').textContent.includes('keeps trying')", "the status", 10)
    reader.shot("gone")
    reader.browser.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    reader.until("document.documentElement.dataset.server === 'ready'", "the server to be found again", 20)
    # Two messages of one side are one: templates want turns. The answer that never came is no turn.
    reader.ask("plain once more")
    roles = [one["role"] for one in reader.server.bodies[-1]["messages"]]
    check(roles == ["user", "assistant"] * 3 + ["user"], "asked was", reader.server.bodies[-1])


def settings(reader):
    """Settings reach the request as they were typed; what is empty is not sent."""
    reader.ready()
    reader.press("Settings")
    wanted = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7, "max_tokens": 300}
    for name, value in wanted.items():
        reader.focus(name)
        reader.browser.type(str(value))
    reader.focus("top_k")
    reader.browser.type("x5")  # 405 after this: letters are no number
    reader.value("document.getElementById('thinking').value = 'off', document.getElementById('thinking').dispatchEvent(new Event('change'))")
    reader.focus("system")
    reader.browser.type("Be brief.")
    reader.key("Escape")
    reader.ask("plain")
    body = reader.server.bodies[-1]
    wanted["top_k"] = 405
    check({name: body.get(name) for name in wanted} == wanted, "sent was", body)
    check(body["chat_template_kwargs"] == {"enable_thinking": False}, "sent was", body)
    check(body["messages"][0] == {"role": "system", "content": "Be brief."}, "sent was", body)
    reader.fresh(forget=False)
    reader.ask("plain")
    check({name: reader.server.bodies[-1].get(name) for name in wanted} == wanted, "forgotten:", reader.server.bodies[-1])
    reader.press("Settings")
    for name in wanted:
        reader.value(f"((one) => {{ one.value = ''; one.dispatchEvent(new Event('input')); }})(document.getElementById('{name}'))")
    reader.press("Done")
    reader.ask("plain")
    check(not set(wanted) & set(reader.server.bodies[-1]), "sent though empty:", reader.server.bodies[-1])


def key(reader):
    """A server that wants a key says so; the key is sent, and is not kept beyond the tab."""
    reader.server.key = KEY
    try:
        reader.fresh()
        reader.until("document.getElementById('notices').textContent.includes('wants an API key')", "word of the key")
        reader.shot("key")
        reader.press("Open Settings")
        check(reader.value("document.activeElement.id") == "key", "the key's field is not chosen")
        reader.browser.type("wrong")
        reader.key("Escape")
        reader.until("document.getElementById('notices').textContent.includes('does not know this API key')", "word of a wrong key")
        reader.press("Open Settings")
        reader.value("document.getElementById('key').select()")
        reader.browser.type(KEY)
        reader.key("Escape")
        reader.ask("plain")
        check(KEY not in reader.value("JSON.stringify({...localStorage})"), "the key is kept")
        reader.until("!document.getElementById('panel').hidden", "the panel")
        check(("GET", "/panel", f"Bearer {KEY}") in reader.server.seen, "the panel was asked without the key")
    finally:
        reader.server.key = None


def files(reader):
    """Conversations go out to a file and come back; files of other kinds are refused in words."""
    with tempfile.TemporaryDirectory() as temp:
        temp = pathlib.Path(temp)
        reader.browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(temp))
        reader.ask("plain to export")
        talk = reader.talk()
        reader.press("Export all")
        file = temp / "conversations.json"
        for _ in range(200):
            if file.exists() and file.stat().st_size > 0:
                break
            time.sleep(0.05)
        check(file.exists(), "nothing was exported")
        written = json.loads(file.read_text())
        check(len(written["conversations"]) == 1, "exported was", written)
        reader.fresh()
        evil = {"id": "../x", "title": "<img src=x onerror=window.ran=1>", "updated": "no", "system": 3,
                "messages": [{"role": "system", "content": "x"}, None, {"role": "user", "content": ["no"]},
                             {"role": "assistant", "content": "<img src=x onerror=window.ran=1>", "usage": {"engine": None, "completion_tokens": {}}, "error": {"title": 4}},
                             {"role": "assistant", "content": "odd", "usage": {"prompt_tokens": 3, "engine": {"prompt_ms": "5", "link_bytes": "5"}}}]}
        written["conversations"].append(evil)
        written["conversations"].append({"messages": 7})
        file.write_text(json.dumps(written))
        reader.browser.call("DOM.enable")

        def give(path):
            root = reader.browser.call("DOM.getDocument")["root"]["nodeId"]
            node = reader.browser.call("DOM.querySelector", nodeId=root, selector="#import-file")["nodeId"]
            reader.browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

        give(file)
        reader.until("document.querySelectorAll('#list .open').length === 2", "two conversations")
        check("2 conversations imported; 1 could not be read" in reader.text("#notices"), "told was", reader.text("#notices"))
        # What is there already is not overwritten: a second time, they stand beside it.
        give(file)
        reader.until("document.querySelectorAll('#list .open').length === 4", "four conversations")
        for title in ("plain to export", "<img"):
            reader.press(title, "#list")
            if title.startswith("plain"):
                check(reader.talk() == talk, "came back as", reader.talk())
        reader.quiet("files")
        for text in ("[]", "no json", '{"format": "engine-conversations", "conversations": []}'):
            file.write_text(text)
            give(file)
            reader.until("document.querySelector('#notices .bad')", "a refusal")
            reader.press("Dismiss")


def full(reader):
    """A browser that keeps no more says so, and the conversation goes on."""
    reader.ready()
    reader.value("""(() => { for (let size = 1 << 22; size > 0; size >>= 1) {
      try { for (let i = 0; ; i++) localStorage.setItem("fill" + size + "." + i, "x".repeat(size)); } catch {} } })()""")
    check("A bus carries" in reader.ask("plain although it is full"), "no answer")
    check("storage is full" in reader.text("#notices"), "told is", reader.text("#notices"))
    reader.shot("full")
    reader.value("localStorage.clear()")


def panel(reader):
    """The live figures, the strip of layers and the line of speeds follow the server's events."""
    reader.until("speeds.length > 8 && !document.getElementById('panel').hidden", "the panel")
    cells = reader.value("[...document.querySelectorAll('#strip i')].map((one) => one.classList.contains('r') ? 'R' : 'S').join('')")
    check(cells == "RRSRRRSRRSRRRSRRSRRRSRRSRRRS", "the strip is", cells)
    check(reader.value("document.querySelectorAll('#strip .now').length") == 1, "no layer is the one now")
    for id, words in (("p-link", "23.9 GB/s of 25.0, 96 %"), ("p-stall", "108 ms a pass"), ("p-async", "100 %"), ("p-running", "2"), ("p-waiting", "1")):
        check(reader.text(f"#{id}") == words, id, "is", reader.text(f"#{id}"))
    slow = reader.value("""(() => { showPanel({ tok_s: 1.234, link_gbps: 0.0207, link_peak_gbps: 0.03, running: 1, layers: "RS", kv_used: 3, kv_total: 0, layer_now: null });
      return ["p-speed", "p-link", "p-kv", "l-now", "p-stall"].map((id) => document.getElementById(id).textContent.replaceAll("\\u00a0", " ")); })()""")
    check(slow == ["1.23 tok/s", "20.7 MB/s of 30.0, 69 %", "3 tokens", "none now", "–"], "a slow link is told as", slow)
    for odd in ("null", "7", "{}", '{layers: 3, tok_s: "x", layer_now: "y"}'):
        reader.value(f"showPanel({odd})")
    reader.until("document.getElementById('panel-words').textContent.includes('limit')", "the next event")
    check("The link is the limit" in reader.text("#panel-words"), "in words:", reader.text("#panel-words"))
    before = reader.value("document.querySelector('#spark .line').getAttribute('d')")
    reader.until(f"document.querySelector('#spark .line').getAttribute('d') !== {json.dumps(before)}", "the line to move", 5)
    check(len(before.split("L")) > 5, "the line is", before)
    reader.server.panel = False
    reader.fresh()
    reader.until("document.getElementById('panel-words').textContent.includes('no live panel')", "word of no panel")
    reader.server.panel = True


def streams(reader):
    """Events are read the same however their bytes are cut; comments and half events are none."""
    found = reader.value("""(async () => {
      const said = ": hi\\r\\n\\r\\ndata: é🚌\\r\\n\\r\\nevent: x\\rdata:a\\rdata: b\\r\\rdata\\n\\nid: 3\\ndata:  c\\n\\ndata: d\\r\\ndata: e\\r\\n\\r\\ndata: half";
      const bytes = new TextEncoder().encode(said);
      const wanted = JSON.stringify(["é🚌", "a\\nb", " c", "d\\ne"]);
      for (let cut = 0; cut <= bytes.length; cut++) for (const size of [1, 2, 3, bytes.length]) {
        const parts = [bytes.slice(0, cut)];
        for (let at = cut; at < bytes.length; at += size) parts.push(bytes.slice(at, at + size));
        const got = [];
        const body = new ReadableStream({ start(to) { for (const part of parts) to.enqueue(part); to.close(); } });
        for await (const data of events(body)) got.push(data);
        if (JSON.stringify(got) !== wanted) return [cut, size, got];
      }
      return "same";
    })()""")
    check(found == "same", "cut at", found)


MARKDOWN = {
    "a **b** *c* `d*e*` ~~f~~": "<p>a <strong>b</strong> <em>c</em> <code>d*e*</code> <s>f</s></p>",
    "snake_case_name and 2 * 3 * 4": "<p>snake_case_name and 2 * 3 * 4</p>",
    "***both***": "<p><em><strong>both</strong></em></p>",
    "**a *b* c**": "<p><strong>a <em>b</em> c</strong></p>",
    "*a **b** c*": "<p><em>a <strong>b</strong> c</em></p>",
    "**a *b***": "<p><strong>a <em>b</em></strong></p>",
    "*a **b***": "<p><em>a <strong>b</strong></em></p>",
    "open **bold": "<p>open **bold</p>",
    "# T\nx\ny": "<h3>T</h3><p>x<br>y</p>",
    "### C# ###": "<h4>C#</h4>",
    "- a\n  - b\n- c": "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>",
    "3. a\n4. b\n\nend": '<ol start="3"><li>a</li><li>b</li></ol><p>end</p>',
    "1. a\n\n   ```c\n   x\n   ```\n2. b": None,
    "> a\n> - b": "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>",
    "a\n\n---\nb": "<p>a</p><hr><p>b</p>",
    "|a|b|\n|-|-|\n|1|**2**|": '<div class="scroll" tabindex="0"><table><tbody><tr><th>a</th><th>b</th></tr><tr><td>1</td><td><strong>2</strong></td></tr></tbody></table></div>',
    "\\*no\\*": "<p>*no*</p>",
    "``a`b``": "<p><code>a`b</code></p>",
    "(see https://a.test/x_y.)": '<p>(see <a href="https://a.test/x_y" title="https://a.test/x_y" target="_blank" rel="noopener noreferrer nofollow">https://a.test/x_y</a>.)</p>',
}
# Each is a text of a hundred thousand letters.
HEAVY = ["*a ", "**a ", "[", "[a](", "`a ``b ", "> ", "- ", "|", "_a", " ", "# ", "\\", "<http://", "***", "~~", "1. a\n", "> > > > > a\n", "a|b\n", "``` "]


def markdown(reader):
    """Blocks and inline marks become the elements that are meant; no text takes long."""
    html = lambda text: reader.value(f"((box) => {{ showText(box, {json.dumps(text)}); return box.innerHTML; }})(document.createElement('div'))")
    for text, wanted in MARKDOWN.items():
        if wanted:
            check(html(text) == wanted, repr(text), "becomes", html(text))
    listed = html("1. a\n\n   ```c\n   x\n   ```\n2. b")
    check(listed.count("<ol") == 1 and "<code>x</code>" in listed, "a list with code becomes", listed)
    # Grown letter by letter it is the same as at once.
    whole = json.dumps("\n".join(MARKDOWN) + "\n\n```py\na\n```\n\n- x\n  1. y\n\nend")
    same = reader.value(f"""(() => {{ const text = {whole}, [a, b] = [document.createElement("div"), document.createElement("div")];
      for (let i = 0; i <= text.length; i++) showText(a, text.slice(0, i));
      showText(b, text);
      return a.innerHTML === b.innerHTML; }})()""")
    check(same, "an answer that grows is shown otherwise than a whole one")
    # So is any text, and it comes to an end.
    odd = reader.value("""(() => {
      let seed = 7;
      const next = (most) => (seed = (seed * 48271) % 2147483647) % most;
      const parts = ["*", "**", "_", "~~", "`", "```", "[", "](", ")", "!", "<", ">", "http://a.b", "\\n", "\\n\\n", "- ", "1. ", "  ", "# ", "|", "|-|", "a", "é ", "\\\\", "***", "> "];
      for (let i = 0; i < 3000; i++) {
        let text = "";
        const [a, b] = [document.createElement("div"), document.createElement("div")];
        for (let n = next(24); n >= 0; n--) { text += parts[next(parts.length)]; showText(a, text); }
        showText(b, text);
        if (a.innerHTML !== b.innerHTML) return text;
      }
      return null;
    })()""")
    check(odd is None, "grown otherwise than whole:", repr(odd))
    # The best of three: others share the machine.
    for part in HEAVY:
        took = reader.value(f"""(() => {{ const text = {json.dumps(part)}.repeat(Math.ceil(1e5 / {len(part)})), took = [1, 2, 3].map(() => {{
          const start = performance.now(); showText(document.createElement("div"), text); return performance.now() - start; }});
          return Math.min(...took); }})()""")
        check(took < 1000, "a text of", repr(part), "takes", round(took), "ms")


def long(reader):
    """A long answer stays quick to draw, and what was above is left alone while it grows."""
    reader.ready()
    reader.value("(() => { const real = showText; window.most = 0; window.showText = (...all) => { const start = performance.now(); const made = real(...all); most = Math.max(most, performance.now() - start); return made; }; })()")
    reader.send("long please")
    reader.until("document.querySelector('.assistant > .text')?.childElementCount > 3", "some paragraphs")
    reader.value("window.first = document.querySelector('.assistant > .text').firstElementChild")
    reader.answered()
    check(reader.value("first.isConnected"), "the first paragraph was drawn again")
    check(reader.value("document.querySelector('.assistant > .text').childElementCount") == 400, "not all is there")
    check(reader.value("most") < 250, "a frame took", reader.value("most"), "ms")


CHECKS = {"loading": loading, "hostile": hostile, "refusals": refusals, "breaks": breaks, "settings": settings,
          "key": key, "files": files, "full": full, "panel": panel, "streams": streams, "markdown": markdown, "long": long}

"""What holds for the page beside any server: a conversation by keys, what is kept, how it looks. With
the stand-in an answer's text is known, and is compared too."""

from browser import check
from page.server import MARKDOWN

# Lengths of an answer's text, one a frame, while it comes, what the button says meanwhile, and what is
# put where it is read aloud. In the page: from outside, a busy machine sees only some of it.
WATCH = """(() => {
  window.lengths = []; window.spoken = []; window.labels = [];
  new MutationObserver((all) => { for (const one of all) for (const node of one.addedNodes) spoken.push(node.textContent); })
    .observe(document.getElementById("spoken"), { childList: true });
  const look = () => { lengths.push(document.querySelector(".assistant > .text")?.textContent.length ?? 0);
    if (document.querySelector(".assistant.busy")) labels.push(document.getElementById("send").textContent);
    requestAnimationFrame(look); };
  look();
})()"""


def conversation(reader):
    """Keys write and send; the answer is seen to grow, is complete, and is read aloud by the paragraph."""
    reader.ready()
    reader.value(WATCH)
    if reader.server:
        reader.server.half.clear()
    reader.write("plain question,\nin two lines")
    check(reader.value("document.getElementById('draft').value") == "plain question,\nin two lines", "Shift+Enter makes no line")
    reader.key("Enter")
    if reader.server:
        reader.until("document.querySelector('.assistant.busy > .text')?.textContent.length > 100", "half of the answer")
        reader.server.half.set()
    answer = reader.answered()
    check(reader.talk()[0] == ["user", "plain question,\nin two lines"], "sent was", reader.talk())
    check(answer.strip(), "the answer is empty")
    lengths = sorted(set(reader.value("lengths")))
    check(len(lengths) >= 3, "the answer came at once:", lengths)
    check(set(reader.value("labels")) == {"Stop"}, "meanwhile the button says", reader.value("labels"))
    check(reader.value("document.activeElement.id") == "draft", "the box lost the focus")
    live = reader.value("[...document.querySelectorAll('[aria-live]')].map((one) => one.id)")
    check(live == ["spoken"], "read aloud are", live)
    spoken = reader.value("spoken")
    blocks = reader.value("document.querySelector('.assistant > .text').childElementCount")
    check(2 <= len(spoken) <= blocks + 2, "read aloud", len(spoken), "pieces for", blocks, "paragraphs:", spoken)
    check(reader.value("document.querySelector('.stats')?.textContent ?? ''") != "", "no figures below the answer")
    if reader.server:
        body = reader.server.bodies[-1]
        check(body["messages"] == [{"role": "user", "content": "plain question,\nin two lines"}] and body["stream"] is True
              and body["model"] == "bench-1.3b", "asked was", body)
        check("naïve as that is for 𝔹" in answer and answer.endswith("the notes (example.test)."), "the answer is", answer)
        code = reader.text(".assistant .code code")
        check(code == MARKDOWN.split("```python\n")[1].split("\n```")[0], "the code is", code)
        figures = reader.text(".stats")
        for part in ("212 tokens at 8.41 tok/s", "1,204 tokens (1,024 cached) in 318 ms", "queued 12.4 ms",
                     "waited 940 ms for weights", "link 159 GB at 24.1 GB/s, 96 % of its peak"):
            check(part in figures, "no", part, "in", figures)
        thought = reader.text(".thought summary")
        check(thought.startswith("Thought for") and not reader.value("document.querySelector('.thought').open"), "the thought:", thought)
        check(reader.text(".thought .text").endswith("show the sum."), "thought was", reader.text(".thought .text"))
    # The second turn has the first.
    reader.ask("and again")
    check([who for who, _ in reader.talk()] == ["user", "assistant"] * 2, "the talk:", reader.talk())


def stopping(reader):
    """Escape stops, and so does the button; what came stays, and the server is told."""
    for how in ("Escape", "Stop"):
        reader.fresh(most_tokens=None)
        reader.send("slow please tell a very long story")
        reader.until("document.querySelector('.assistant > .text').textContent.length > 20", "some of the answer")
        reader.key("Escape") if how == "Escape" else reader.press("Stop")
        reader.until("!document.querySelector('.assistant.busy')", f"the end, by {how}", 10)
        check("Stopped." in reader.text(".assistant"), how, "is not told:", reader.text(".assistant"))
        kept = reader.answer()
        check(len(kept) > 20, "nothing was kept:", kept)
        if reader.server:
            check(reader.server.gone.wait(10), "the server was not told of", how)
        check(reader.text("#send") == "Send", "the button says", reader.text("#send"))


def again(reader):
    """An answer is made again, and had back; a sent message is changed."""
    reader.ask("plain one")
    reader.ask("plain two")
    first = reader.talk()
    reader.press("Regenerate")
    check(reader.value("document.activeElement.id") == "talk", "the focus is lost")
    check("earlier answer is replaced" in reader.text("#notices"), "told was", reader.text("#notices"))
    reader.answered()
    check([who for who, _ in reader.talk()] == ["user", "assistant"] * 2, "the talk:", reader.talk())
    if reader.server:
        check(len(reader.server.bodies[-1]["messages"]) == 3 and reader.server.bodies[-1] == reader.server.bodies[-2], "asked was", reader.server.bodies[-1])
    reader.press("Undo")
    check(reader.talk() == first, "not had back:", reader.talk())
    # The first message is changed: what followed it goes, and can be had back.
    reader.value("document.querySelector('.user button').click()")
    reader.until("document.activeElement.closest('.editing')", "a box to edit in")
    reader.browser.type(" more")
    reader.key("Escape")
    check(reader.talk() == first, "Escape left the talk as", reader.talk())
    check(reader.value("document.activeElement === document.querySelector('.user button')"), "the focus is lost")
    reader.value("document.querySelector('.user button').click()")
    reader.until("document.activeElement.closest('.editing')", "a box to edit in")
    reader.browser.type(" more")
    reader.key("Enter")
    reader.answered()
    check([said for who, said in reader.talk() if who == "user"] == ["plain one more"], "the talk:", reader.talk())
    if reader.server:
        check(reader.server.bodies[-1]["messages"] == [{"role": "user", "content": "plain one more"}], "asked was", reader.server.bodies[-1])
    reader.press("Undo")
    check(reader.talk() == first, "not had back:", reader.talk())


def apart(reader):
    """Two conversations are answered at a time, each in its place; a reload keeps what came."""
    length = "document.querySelector('.assistant > .text')?.textContent.length ?? 0"
    reader.fresh(most_tokens=None)
    reader.send("slow first")
    reader.until(f"({length}) > 10", "some of the first answer")
    reader.press("New conversation")
    check(reader.talk() == [], "the new one has", reader.talk())
    second = reader.ask("plain second") if reader.server else "?"
    check(reader.value("document.querySelectorAll('#list .busy').length") == 1 and "word word" not in second, "mixed up:", second)
    reader.value("[...document.querySelectorAll('#list .open')].find((one) => one.textContent === 'slow first').click()")
    seen = reader.value(length)
    reader.until(f"({length}) > {seen} && document.querySelector('.assistant.busy')", "the first answer to go on")
    before = reader.answer()
    reader.fresh(forget=False)
    reader.press("slow first", "#list")
    check(reader.answer().startswith(before[:10]) and len(reader.answer()) >= len(before), "kept was", reader.answer()[:80])
    check(not reader.value("document.querySelector('.assistant.busy')"), "it is still waited for")


def kept(reader):
    """Conversations are there after a reload; they are renamed and deleted, by keys too."""
    reader.ask("plain to keep")
    talk = reader.talk()
    reader.fresh(forget=False)
    names = lambda: reader.value("[...document.querySelectorAll('#list .open')].map((one) => one.textContent)")
    check(names() == ["plain to keep"], "kept are", names())
    reader.value("document.querySelector('#list .open').focus()")
    reader.key("Enter")
    reader.until("document.querySelectorAll('.message').length === 2", "the conversation")
    check(reader.talk() == talk, "kept was", reader.talk())
    reader.press("Rename")
    reader.until("document.activeElement.closest('#list')", "a box for the name")
    reader.value("document.activeElement.select()")
    reader.browser.type("Buses")
    reader.key("Enter")
    check(names() == ["Buses"] and reader.text("#title") == "Buses", "renamed to", names())
    reader.press("New conversation")
    reader.ask("plain second")
    check(names() == ["plain second", "Buses"], "two are", names())
    reader.press("Delete plain second")
    check(names() == ["Buses"], "left are", names())
    reader.press("Undo")
    check(sorted(names()) == ["Buses", "plain second"], "had back are", names())
    reader.fresh(forget=False)
    check(sorted(names()) == ["Buses", "plain second"], "after a reload there are", names())


def keyboard(reader):
    """Tab reaches every button in view, and shows where it is."""
    reader.ask("plain")
    wanted = set(reader.value("""[...document.querySelectorAll("button, textarea, summary, a[href]")]
      .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled && !one.closest('[hidden]')).map((one, at) => (one.dataset.tab = String(at)))"""))
    check(len(wanted) > 10, "there are", len(wanted), "things to reach")
    reader.value("document.activeElement.blur()")
    seen = set()
    for _ in range(80):
        reader.key("Tab")
        at, ring = reader.value("""((one) => { const style = getComputedStyle(one), box = one.closest(".write") ?? one;
          return [one.dataset.tab ?? one.tagName, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 || getComputedStyle(box).boxShadow !== "none"]; })(document.activeElement)""")
        check(ring or at == "BODY", "no ring around", reader.value("document.activeElement.outerHTML.slice(0, 200)"))
        seen.add(at)
    check(wanted <= seen, "not reached:", [reader.value(f"document.querySelector('[data-tab=\"{at}\"]').outerHTML.slice(0, 120)") for at in wanted - seen])
    check(reader.value("[...document.querySelectorAll('[onclick], [style*=expression]')].length") == 0, "inline handlers")


def looks(reader):
    """Fits and can be read at every width, light and dark, with all of its parts open in turn."""
    for width, height in ((1360, 860), (1000, 800), (360, 740)):
        for dark in (False, True):
            name = f"{width}-{'dark' if dark else 'light'}"
            reader.fresh(width, dark, height)
            reader.ready()
            reader.fits(f"{name}, empty")
            reader.shot(f"empty-{name}")
            reader.ask("plain: what is a bus, and why does it limit a model that is streamed?")
            reader.value("document.querySelector('.thought')?.setAttribute('open', '')")
            if reader.server:
                reader.until("document.querySelectorAll('#strip i').length === 28 && speeds.length > 30", "the panel")
            reader.value("document.getElementById('talk').scrollTop = 0")
            reader.fits(name)
            least = reader.legible(name)
            reader.shot(f"chat-{name}")
            reader.value("document.getElementById('talk').scrollTop = 1e6")
            reader.shot(f"chat-end-{name}")
            for drawer in ("list", "panel"):
                if reader.value(f"document.getElementById('show-{drawer}').checkVisibility()"):
                    reader.value(f"document.getElementById('show-{drawer}').click()")
                    reader.until(f"document.getElementById('{drawer}-side').getAnimations().length === 0", "the drawer")
                    reader.fits(f"{name}, {drawer}")
                    least = min(least, reader.legible(f"{name}, {drawer}"))
                    reader.shot(f"{drawer}-{name}")
                    reader.key("Escape")
                    check(reader.value(f"document.activeElement.id") == f"show-{drawer}", "Escape leaves the focus elsewhere")
            reader.value("document.getElementById('show-settings').click()")
            reader.fits(f"{name}, settings")
            least = min(least, reader.legible(f"{name}, settings"))
            reader.shot(f"settings-{name}")
            reader.key("Escape")
            reader.quiet(name)
            print(f"check-page: {name}: fits, least contrast {least:.2f}")
    # The button chooses against the system, and the choice is kept.
    page = "getComputedStyle(document.documentElement).backgroundColor"
    reader.fresh(dark=False)
    light = reader.value(page)
    reader.value("document.getElementById('theme').click(), document.getElementById('theme').click()")
    dark = reader.value(page)
    check(light != dark, "the theme does not change")
    reader.fresh(dark=False, forget=False)
    check(reader.value(page) == dark, "the theme is forgotten")
    reader.browser.shape(1360, False, still=True)
    moving = reader.value("[...document.querySelectorAll('*')].filter((one) => parseFloat(getComputedStyle(one).transitionDuration) > 0).length")
    check(moving == 0, moving, "things move although that is not wanted")


CHECKS = {"conversation": conversation, "stopping": stopping, "again": again, "apart": apart, "kept": kept,
          "keyboard": keyboard, "looks": looks}

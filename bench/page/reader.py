"""A reader of the page: opens it, writes, waits for answers, and looks at what is there. It knows the
page's parts by name, and no answer's text."""

import base64
import json
import urllib.parse

from browser import check

TOO_WIDE = """[...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return element.checkVisibility({ visibilityProperty: true }) && !element.closest(".unseen")
      && (box.right > innerWidth + 1 || box.left < -1)
      && ![...ancestors(element)].some((one) => getComputedStyle(one).overflowX === "auto" && one.tagName !== "MAIN");
    function* ancestors(one) { while ((one = one.parentElement)) yield one; }
  }).map((element) => element.tagName + "#" + element.id + "." + element.className)
  .concat(document.documentElement.scrollWidth > innerWidth ? ["the page scrolls sideways"] : [],
    [...document.querySelectorAll(".side, #talk, dialog")].filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)
      .map((one) => one.id + " scrolls sideways"))"""

# Each text that can be seen, with its contrast against what lies below it.
CONTRASTS = """(() => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return colour.startsWith("color(srgb") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const over = (top, low) => [0, 1, 2].map((i) => top[i] * top[3] + low[i] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const below = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.push(parse(getComputedStyle(one).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((low, top) => over(top, low), [255, 255, 255, 1]);
  };
  const found = [];
  const root = document.querySelector("dialog[open]") ?? document.body;
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const look = (element, colour, text) => {
    const low = below(element);
    const [a, b] = [light(over(parse(colour), low)), light(low)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.trim().slice(0, 40)]);
  };
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const text = walk.currentNode.data;
    if (!text.trim() || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(element.tagName)) continue;
    if (element.closest(".unseen, :disabled") || !element.checkVisibility({ visibilityProperty: true })) continue;
    look(element, getComputedStyle(element).color, text);
  }
  for (const field of root.querySelectorAll("input, textarea, select")) {
    if (field.checkVisibility({ visibilityProperty: true })) look(field, field.value ? getComputedStyle(field).color : getComputedStyle(field, "::placeholder").color, "field " + field.id);
  }
  return found;
})()"""


class Reader:
    def __init__(self, browser, url, server, shots):
        self.browser, self.url, self.server, self.shots = browser, url, server, shots
        self.host = urllib.parse.urlsplit(url).netloc
        self.value, self.until, self.key = browser.value, browser.until, browser.key

    def fresh(self, width=1360, dark=False, height=860, forget=True, most_tokens=80):
        """The page, as one sees it who was never here; with `forget` off, one who was."""
        self.browser.events.clear()
        self.browser.shape(width, dark, height)
        if forget:
            self.browser.call("Page.navigate", url=self.url)
            self.until("document.documentElement?.dataset.ready === 'true'", "the page")
            self.value("localStorage.clear(), sessionStorage.clear()")
            # A real model may have much to say.
            if not self.server and most_tokens:
                self.value(f"localStorage.setItem('engine.settings', '{{\"max_tokens\": {most_tokens}}}')")
        self.browser.call("Page.navigate", url="about:blank")
        self.browser.call("Page.navigate", url=self.url)
        self.until("document.documentElement?.dataset.ready === 'true'", "the page")

    def ready(self):
        self.until("document.documentElement.dataset.server === 'ready'", "the server to be ready")

    def focus(self, id):
        self.value(f"document.getElementById({json.dumps(id)}).focus()")

    def write(self, text):
        self.focus("draft")
        self.browser.type(text)

    def send(self, text):
        self.ready()
        self.write(text)
        self.key("Enter")

    def answered(self, patience_s=60):
        """Waits for the end of the answer under way, and gives its text."""
        self.until("document.querySelectorAll('.assistant').length > 0 && !document.querySelector('.assistant.busy')", "an answer", patience_s)
        self.browser.settle()
        return self.answer()

    def ask(self, text):
        self.send(text)
        return self.answered()

    def answer(self):
        return self.value("[...document.querySelectorAll('.assistant > .text')].at(-1)?.textContent ?? ''")

    def talk(self):
        """Who said what, as it is shown."""
        return self.value("""[...document.querySelectorAll(".message")].map((one) =>
          [one.classList.contains("user") ? "user" : "assistant", one.querySelector(":scope > .said, :scope > .text")?.textContent ?? ""])""")

    def press(self, words, within="body"):
        """Clicks the last button of these words."""
        found = self.value(f"""(() => {{
          const all = [...document.querySelectorAll({json.dumps(within + ' button')})].filter((one) =>
            (one.getAttribute("aria-label") ?? one.textContent).startsWith({json.dumps(words)}) && one.checkVisibility());
          all.at(-1)?.click();
          return all.length;
        }})()""")
        check(found, "there is no button", words)

    def text(self, selector):
        found = self.value(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")
        return found.replace("\u00a0", " ")

    def shot(self, name):
        self.browser.settle()
        shot = self.browser.call("Page.captureScreenshot")
        (self.shots / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def fits(self, what):
        check(self.value(TOO_WIDE) == [], what, "is too wide:", self.value(TOO_WIDE))

    def legible(self, what, least=4.5):
        """Every text in view has this contrast; gives the least that was found."""
        found = self.value(CONTRASTS)
        check(len(found) > 5, what, "shows no text")
        faint = [(round(ratio, 2), text) for ratio, text in found if ratio < least]
        check(not faint, what, "has faint text:", faint)
        return min(ratio for ratio, _ in found)

    def quiet(self, what):
        """Nothing went wrong unseen, and nothing was asked of another host."""
        # A refused request is told on the console by the browser itself, and in the page by ours.
        wrong = [one for one in self.browser.complaints()
                 if not (isinstance(one, dict) and one.get("source") == "network")]
        check(not wrong, what, "console:", wrong)
        away = [url for url in self.browser.requests()
                if urllib.parse.urlsplit(url).netloc != self.host and not url.startswith(("about:", "data:", "blob:"))]
        check(not away, what, "asked for", away)
        check(self.value("window.ran === undefined"), what, "a model's text ran:", self.value("String(window.ran)"))

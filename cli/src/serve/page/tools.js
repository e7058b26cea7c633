"use strict";

// What all scripts of the page use: elements, words, and how numbers are written. Knows neither
// conversations nor the server.

const byId = (id) => document.getElementById(id);
const on = (id, event, act) => byId(id).addEventListener(event, act);
const write = (id, words) => {
  byId(id).textContent = words;
};

// An element; `text` becomes a text node. There is no other way in these scripts that text enters
// the page, so that what a model or a file said cannot be HTML.
function make(tag, look, text) {
  const element = document.createElement(tag);
  if (look) element.className = look;
  if (text !== undefined) element.textContent = text;
  return element;
}

// What screen readers call it.
function named(element, name) {
  element.setAttribute("aria-label", name);
  return element;
}

function makeButton(text, look, act) {
  const button = make("button", look, text);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

// `words` gives what is copied.
function copyButton(words) {
  const button = makeButton("Copy", "quiet", async () => {
    button.textContent = (await copied(words())) ? "Copied" : "Not copied";
    await wait(1500);
    button.textContent = "Copy";
  });
  return button;
}

async function copied(words) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    // The clipboard is for secure addresses; this is the way of all others.
    const field = make("textarea", "unseen", words);
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

// What Enter and Escape do in `field`. While letters are composed, both are the composition's.
function onKeys(field, enter, escape) {
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      enter();
    }
    if (event.key === "Escape" && escape) {
      event.stopPropagation();
      escape();
    }
  });
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
// `value` where it is a string, at most so long.
const text = (value, most) => (typeof value === "string" ? value.slice(0, most) : "");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const within = (share) => Math.max(0, Math.min(1, share));
const sentences = (...all) => all.filter(Boolean).join(" ");
const count = (value) => Math.round(value).toLocaleString("en");
const plural = (value, noun) => count(value) + " " + noun + (value === 1 ? "" : "s");

// Three digits that matter, and the unit that fits; as the report page writes them.
function digits(value) {
  if (value === 0 || Math.abs(value) >= 100) return count(value);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
function time(ms) {
  if (ms < 1000) return digits(ms) + "\u00a0ms";
  return ms < 120e3 ? digits(ms / 1000) + "\u00a0s" : digits(ms / 60e3) + "\u00a0min";
}
function traffic(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; unit++) bytes /= 1000;
  return (unit === 0 ? count(bytes) : digits(bytes)) + "\u00a0" + units[unit];
}
// Slow links are told in MB/s, so that three digits are left; `beside` has the unit of both.
function rate(gbps, beside = gbps) {
  return beside < 0.1 ? [digits(gbps * 1000), "MB/s"] : [digits(gbps), "GB/s"];
}
const percent = (share) => (share * 100).toFixed(share < 0.0995 && share > 0 ? 1 : 0) + "\u00a0%";

function fill(meter, share) {
  meter.style.width = within(share) * 100 + "%";
}

// A line above the message box, in place of the one before it. `actions` are [text, act] pairs.
function notify(words, actions = [], look = "") {
  const box = make("div", look);
  const close = () => box.remove();
  const buttons = actions.map(([label, act]) =>
    makeButton(label, "", () => {
      close();
      act();
    }),
  );
  box.append(make("p", "", words), ...buttons, makeButton("Dismiss", "quiet", close));
  byId("notices").replaceChildren(box);
}

// Screen readers get an answer by the paragraph: the messages are no live region, and each block of
// an answer is put into this hidden one when it is whole.
function announce(words) {
  const spoken = byId("spoken");
  spoken.append(make("p", "", words));
  while (spoken.childElementCount > 4) spoken.firstElementChild.remove();
}

// ---- What is kept in the browser --------------------------------------------------------------

const CHAT = "engine.chat.";
const FORMAT = "engine-conversations";
const chats = new Map();
let current;
let settings = {};

// Reading the property itself fails where a browser is set to keep nothing.
function store(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}

function read(kind, key) {
  try {
    return JSON.parse(store(kind).getItem(key));
  } catch {
    return null;
  }
}

let toldFull = false;
function keep(key, value) {
  try {
    store("localStorage").setItem(key, JSON.stringify(value));
    toldFull = false;
  } catch (error) {
    if (toldFull) return;
    toldFull = true;
    const full = error?.name === "QuotaExceededError";
    notify(full
      ? "This browser keeps no more for this page: its storage is full. What is on the screen stays until the page is closed. Export it, or delete conversations that you no longer need."
      : "This browser does not let the page keep anything, so conversations end with this tab. Export what you want to have later.",
    [["Export all", exportAll]], "bad");
  }
}

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36)).join("");
const text = (value, most) => (typeof value === "string" ? value.slice(0, most) : "");

// A conversation of which every field has the type that the rest of this file counts on, or null:
// an imported file can hold anything.
function cleaned(found) {
  if (!found || typeof found !== "object" || !Array.isArray(found.messages)) return null;
  const messages = [];
  for (const message of found.messages) {
    if (!["user", "assistant"].includes(message?.role)) continue;
    const { role, stopped } = message;
    const one = { role, content: text(message.content), reasoning: text(message.reasoning) };
    if (stopped === true) one.stopped = true;
    if (isNumber(message.thought_ms)) one.thought_ms = message.thought_ms;
    if (message.finish === "length") one.finish = "length";
    if (message.usage && typeof message.usage === "object") one.usage = message.usage;
    if (typeof message.error?.title === "string") {
      one.error = { title: text(message.error.title, 2000), hint: text(message.error.hint, 2000) };
    }
    messages.push(one);
  }
  return {
    id: /^[0-9a-z]{4,40}$/.test(found.id) ? found.id : newId(),
    title: text(found.title, 200), system: text(found.system),
    updated: isNumber(found.updated) ? found.updated : Date.now(), messages,
  };
}

function loadChats() {
  for (const key of Object.keys(store("localStorage") ?? {})) {
    const chat = key.startsWith(CHAT) ? cleaned(read("localStorage", key)) : null;
    if (chat) chats.set(chat.id, chat);
  }
}

// One that nothing was said in is not kept.
function keepChat(chat) {
  if (chat.messages.length > 0 && chats.has(chat.id)) keep(CHAT + chat.id, chat);
}

const newestFirst = () => [...chats.values()].sort((a, b) => b.updated - a.updated);
const shortened = (words) => (words.length <= 60 ? words : words.slice(0, 60).replace(/ \S*$/, "") + "…");
const titleOf = (chat) => chat.title || "New conversation";


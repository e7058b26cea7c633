// What is kept in the browser: conversations, settings. Knows no element of the page.

const CHAT = "engine.chat.";
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

function read(key) {
  try {
    return JSON.parse(store("localStorage").getItem(key));
  } catch {
    return null;
  }
}

const FULL =
  "This browser keeps no more for this page: its storage is full. What is on the screen stays " +
  "until the page is closed. Export it, or delete conversations that you no longer need.";
const CLOSED =
  "This browser does not let the page keep anything, so conversations end with this tab. Export " +
  "what you want to have later.";

let toldFull = false;
function keep(key, value) {
  try {
    store("localStorage").setItem(key, JSON.stringify(value));
    toldFull = false;
  } catch (error) {
    if (toldFull) return;
    toldFull = true;
    const words = error?.name === "QuotaExceededError" ? FULL : CLOSED;
    notify(words, [["Export all", exportAll]], "bad");
  }
}

const keepSettings = () => keep("engine.settings", settings);

const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36)).join("");

// A conversation of which every field has the type that the scripts count on, or null: an imported
// file can hold anything.
function cleaned(found) {
  if (!found || typeof found !== "object" || !Array.isArray(found.messages)) return null;
  const messages = [];
  for (const message of found.messages) {
    if (!["user", "assistant"].includes(message?.role)) continue;
    const { role, stopped, error } = message;
    const one = { role, content: text(message.content), reasoning: text(message.reasoning) };
    if (stopped === true) one.stopped = true;
    if (isNumber(message.thought_ms)) one.thought_ms = message.thought_ms;
    if (message.finish === "length") one.finish = "length";
    if (message.usage && typeof message.usage === "object") one.usage = message.usage;
    if (typeof error?.title === "string") {
      one.error = { title: text(error.title, 2000), hint: text(error.hint, 2000) };
    }
    messages.push(one);
  }
  return {
    id: /^[0-9a-z]{4,40}$/.test(found.id) ? found.id : newId(),
    title: text(found.title, 200),
    system: text(found.system),
    updated: isNumber(found.updated) ? found.updated : Date.now(),
    messages,
  };
}

function loadChats() {
  for (const key of Object.keys(store("localStorage") ?? {})) {
    const chat = key.startsWith(CHAT) ? cleaned(read(key)) : null;
    if (chat) chats.set(chat.id, chat);
  }
}

// One that nothing was said in is not kept.
function keepChat(chat) {
  if (chat.messages.length > 0 && chats.has(chat.id)) keep(CHAT + chat.id, chat);
}

// Those that something was said in, the newest first.
const listed = () =>
  [...chats.values()]
    .filter((chat) => chat.messages.length > 0)
    .sort((a, b) => b.updated - a.updated);
const shortened = (words) =>
  words.length <= 60 ? words : words.slice(0, 60).replace(/ \S*$/, "") + "…";
const titleOf = (chat) => chat.title || "New conversation";

// The server: how it is asked, what its refusals mean, and whether it is ready.

// state: "unknown", "loading" (with `progress`), "ready", "refused", "gone".
const server = { state: "unknown", progress: null, model: "", refusal: null };

const keyOf = () => store("sessionStorage")?.getItem("engine.key") ?? "";

function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (keyOf()) headers.Authorization = "Bearer " + keyOf();
  return fetch(path, { cache: "no-store", credentials: "same-origin", ...options, headers });
}

// What went wrong, in words: what it is, and what to do. `again` are the seconds to wait before
// another try can help, `status` is the answer's, or 0.
class Trouble extends Error {
  constructor(title, hint = "", again = 0) {
    super(title);
    Object.assign(this, { title, hint, again, status: 0 });
  }
}

function serversWords(body) {
  const error = body?.error;
  return text(error?.message ?? body?.message ?? (typeof error === "string" ? error : ""), 1000);
}

// Not every refusal has a body.
const refusal = async (response) => explain(response, await response.json().catch(() => null));
const explain = (response, body) =>
  Object.assign(reasonOf(response, body), { status: response.status });

function reasonOf(response, body) {
  const words = serversWords(body);
  const told = words ? "The server says: " + words : "";
  const after = Number(response.headers.get("retry-after"));
  const again = Number.isFinite(after) && after > 0 ? Math.min(after, 3600) : 0;
  const shorter = "Start a new one, or shorten an earlier message.";
  if (body?.error?.code === "context_length_exceeded") {
    const title = "The conversation is longer than the model can read.";
    const larger = "A larger --context at the server helps too.";
    return new Trouble(title, sentences(told, shorter, larger));
  }
  switch (response.status) {
    case 401:
      return new Trouble(
        keyOf() ? "The server does not know this API key." : "The server wants an API key.",
        "Enter it under Settings: it is the one the server was started with.",
      );
    case 403: {
      const hint =
        "Open the page under the address that the server printed, or start the server with this " +
        "one allowed.";
      return new Trouble(
        "The server does not answer pages under this address.",
        sentences(hint, told),
      );
    }
    case 404:
      return new Trouble("The server does not know " + new URL(response.url).pathname + ".", told);
    case 413:
      return new Trouble("The conversation is too large to be sent.", sentences(shorter, told));
    case 429: {
      const hint = again
        ? "The server asks to wait " + plural(again, "second") + "."
        : "Try again in a few seconds.";
      return new Trouble("All places are taken, and the queue is full.", hint, again || 5);
    }
    case 503: {
      if (body?.status !== "loading" && !/load/i.test(words)) {
        const hint = told || "It may be shutting down.";
        return new Trouble("The server takes no requests now.", hint, again);
      }
      const hint = "Try again when it is there: the bar below shows how far it is.";
      return new Trouble("The model is still loading.", hint, again);
    }
    default:
      return response.status >= 500
        ? new Trouble("The server failed (" + response.status + ").", told || "Its log says more.")
        : new Trouble("The server refused the request (" + response.status + ").", told);
  }
}

function inWords(error) {
  if (error instanceof Trouble) return error;
  return new Trouble(
    "The server does not answer.",
    "Is it still running, and is the network there? What was written so far is kept.",
  );
}

let watching = false;

// Asks for the server's health until it is ready, and then for its model and its panel.
async function watch() {
  if (watching) return;
  watching = true;
  await untilReady();
  watching = false;
  if (server.state === "ready") followPanel();
}

async function untilReady() {
  for (let pause = 600; ; pause = Math.min(pause * 1.4, 5000)) {
    const before = server.state;
    await look();
    showServer();
    if (server.state === "ready") return;
    if (server.refusal?.status === 401) {
      // Asking on is no use: another key starts it again.
      const words = sentences(server.refusal.title, server.refusal.hint);
      return notify(words, [["Open Settings", () => openSettings("key")]], "bad");
    }
    if (server.state === "loading" || before !== server.state) pause = 600;
    await wait(pause);
  }
}

async function look() {
  server.refusal = null;
  try {
    const response = await ask("health");
    const body = await response.json().catch(() => null);
    server.progress = isNumber(body?.progress) ? within(body.progress) : null;
    server.state = response.ok ? "ready" : body?.status === "loading" ? "loading" : "refused";
    if (server.state === "refused") server.refusal = explain(response, body);
  } catch {
    server.state = "gone";
  }
  if (server.state === "ready" && !(await readModel())) server.state = "refused";
}

// Whether the server told its model; a refusal is told, and it is the key that can mend it.
async function readModel() {
  try {
    const response = await ask("v1/models");
    if (!response.ok) throw await refusal(response);
    server.model = text((await response.json())?.data?.[0]?.id, 200);
    return true;
  } catch (error) {
    server.refusal = inWords(error);
    return false;
  }
}

function showServer() {
  const { state, progress } = server;
  const loading = state === "loading";
  byId("loading").hidden = !loading;
  const far = progress === null ? "." : ": " + percent(progress);
  write("loading-words", "The model is loading" + far);
  const meter = byId("loading-meter");
  if (progress === null) meter.removeAttribute("aria-valuenow");
  else meter.setAttribute("aria-valuenow", Math.round(progress * 100));
  fill(meter.firstElementChild, progress ?? 0);
  write("model", server.model || (loading ? "loading" : state === "gone" ? "no answer" : "engine"));
  document.documentElement.dataset.server = state;
  drawComposer();
}

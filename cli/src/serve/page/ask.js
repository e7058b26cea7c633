// Asking: what is sent, the answer's stream, and the box that messages are written in.

function endRun(chat) {
  runs.get(chat.id)?.controller.abort();
  runs.delete(chat.id);
}

// Takes `message` and all after it out of the conversation; gives all that there was.
function cutAt(chat, message) {
  const before = chat.messages.slice();
  chat.messages.splice(chat.messages.indexOf(message));
  return before;
}

// What a change took away can be had back.
function offerBack(chat, messages, words) {
  const undo = () => {
    endRun(chat);
    chat.messages = messages;
    chats.set(chat.id, chat);
    keepChat(chat);
    if (chat === current) drawTalk();
    drawList();
    talk.focus();
  };
  notify(words, [["Undo", undo]]);
}

// Whether a message can be sent now; tells why not.
function mayAsk() {
  if (runs.has(current.id)) return false;
  if (server.state !== "loading") return true;
  write("status", "The model is still loading. Send when it is there.");
  return false;
}

function send(chat, content) {
  if (!chat.title) chat.title = shortened(content.replace(/\s+/g, " "));
  // An answer that never began leaves no trace in the conversation.
  const last = chat.messages.at(-1);
  if (last?.role === "assistant" && !last.content) chat.messages.pop();
  chat.messages.push({ role: "user", content });
  chats.set(chat.id, chat);
  answer(chat);
}

function regenerate(chat, message) {
  if (!mayAsk()) return;
  const before = cutAt(chat, message);
  answer(chat);
  // The button that had the focus is gone with the old answer.
  talk.focus();
  if (message.content) offerBack(chat, before, "The earlier answer is replaced.");
}

function bodyFor(chat) {
  const messages = [];
  if (chat.system.trim()) messages.push({ role: "system", content: chat.system });
  for (const { role, content } of chat.messages) {
    if (!content) continue;
    // Templates want the two sides to take turns: what stands together is one message.
    const last = messages.at(-1);
    if (last?.role === role) last.content += "\n\n" + content;
    else messages.push({ role, content });
  }
  const stream_options = { include_usage: true, include_progress: true };
  const body = { messages, stream: true, stream_options };
  if (server.model) body.model = server.model;
  for (const [name] of FIELDS) if (isNumber(settings[name])) body[name] = settings[name];
  const { thinking } = settings;
  if (thinking) body.chat_template_kwargs = { enable_thinking: thinking === "on" };
  return body;
}

async function answer(chat) {
  const body = bodyFor(chat);
  const message = { role: "assistant", content: "", reasoning: "" };
  const run = { chat, message, controller: new AbortController(), phase: "Waiting for the server" };
  chat.messages.push(message);
  chat.updated = Date.now();
  runs.set(chat.id, run);
  keepChat(chat);
  if (chat === current) drawTalk();
  drawList();
  announce("The model is answering.");
  const keeping = setInterval(() => keepChat(chat), 3000);
  try {
    const response = await ask("v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: run.controller.signal,
    });
    if (!response.ok) throw await refusal(response);
    if (!(await take(run, response.body))) {
      throw broken(
        "The connection ended before the server said that it was done. What came is kept.",
      );
    }
  } catch (error) {
    if (run.controller.signal.aborted) message.stopped = true;
    else {
      const { title, hint, again, status } = inWords(error);
      message.error = { title, hint, again, status, at: Date.now() };
      if (!(error instanceof Trouble) || status === 503) watch();
    }
  } finally {
    clearInterval(keeping);
    // An undo may have taken the run away, and another may be in its place.
    if (runs.get(chat.id) === run) runs.delete(chat.id);
    endThought(run);
    chat.updated = Date.now();
    keepChat(chat);
    finish(run);
  }
}

const broken = (hint) => new Trouble("The answer broke off.", hint);

// Takes the stream of an answer; whether it came to its end.
async function take(run, body) {
  let ended = false;
  for await (const data of events(body)) {
    if (data === "[DONE]") return true;
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      const title = "The server sent something that this page cannot read.";
      throw new Trouble(title, "What came before it is kept.");
    }
    if (event?.error) {
      throw broken("The server says: " + (serversWords(event) || "an error without a text."));
    }
    if (takeEvent(run, event)) ended = true;
    drawSoon(run);
  }
  return ended;
}

// Whether it was the last of the text.
function takeEvent(run, event) {
  const { message } = run;
  if (event?.usage) message.usage = event.usage;
  const { read, of } = event?.engine?.prompt ?? {};
  if (isNumber(read) && isNumber(of)) {
    run.phase = "Reading the prompt: " + count(read) + " of " + plural(of, "token");
  }
  const choice = event?.choices?.[0];
  const { reasoning_content: reasoning, content } = choice?.delta ?? {};
  if (reasoning) {
    run.thinking ??= performance.now();
    message.reasoning += text(reasoning);
  }
  if (content) {
    endThought(run);
    message.content += text(content);
  }
  if (!choice?.finish_reason) return false;
  message.finish = choice.finish_reason;
  return true;
}

function endThought({ message, thinking }) {
  if (thinking && !message.thought_ms) message.thought_ms = performance.now() - thinking;
}

// At most once a frame, however fast the tokens come.
function drawSoon(run) {
  if (run.asked || run.chat !== current) return;
  run.asked = true;
  requestAnimationFrame(() => {
    run.asked = false;
    if (run.chat !== current || runs.get(run.chat.id) !== run) return;
    drawAnswer(run.message);
    drawComposer();
  });
}

function finish({ chat, message }) {
  if (chat === current) {
    drawAnswer(message);
    const view = views.get(message);
    if (view) speak(view, 0);
    drawComposer();
  }
  const { stopped, error } = message;
  if (stopped) announce("Stopped.");
  else announce(error ? sentences(error.title, error.hint) : "The answer is complete.");
  drawList();
}

function drawComposer() {
  const run = runs.get(current.id);
  const button = byId("send");
  button.textContent = run ? "Stop" : "Send";
  button.classList.toggle("main", !run);
  button.disabled = !run && (server.state === "loading" || byId("draft").value.trim() === "");
  write("status", statusOf(run));
}

function statusOf(run) {
  if (run) {
    const { content, reasoning } = run.message;
    const doing = content ? "Answering" : reasoning ? "Thinking" : run.phase;
    return doing + ". Escape stops.";
  }
  switch (server.state) {
    case "gone":
      return "The server does not answer. This page keeps trying.";
    case "refused":
      return sentences(server.refusal?.title, server.refusal?.hint);
    case "loading":
      return "You can write already.";
    default:
      return "Enter sends, Shift+Enter makes a new line.";
  }
}

function submit() {
  const content = byId("draft").value.trim();
  if (!content || !mayAsk()) return;
  byId("draft").value = "";
  growDraft();
  byId("notices").replaceChildren();
  send(current, content);
}

function stop() {
  runs.get(current.id)?.controller.abort();
}

function growDraft() {
  const draft = byId("draft");
  draft.style.height = "auto";
  draft.style.height = draft.scrollHeight + "px";
  draft.style.overflowY = draft.scrollHeight > innerHeight * 0.38 ? "auto" : "hidden";
}

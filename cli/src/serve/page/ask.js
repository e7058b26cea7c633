// ---- Asking -----------------------------------------------------------------------------------

const snapshot = (chat) => chat.messages.slice();

// What a change took away can be had back.
function offerBack(chat, messages, words) {
  notify(words, [["Undo", () => {
    runs.get(chat.id)?.controller.abort();
    runs.delete(chat.id);
    chat.messages = messages;
    chats.set(chat.id, chat);
    keepChat(chat);
    if (chat === current) drawTalk();
    drawList();
    talk.focus();
  }]]);
}

// Whether a message can be sent now; tells why not.
function mayAsk() {
  if (runs.has(current.id)) return false;
  if (server.state === "loading") setStatus("The model is still loading. Send when it is there.");
  return server.state !== "loading";
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
  const before = snapshot(chat);
  chat.messages.splice(chat.messages.indexOf(message));
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
  const body = { messages, stream: true, stream_options: { include_usage: true, include_progress: true } };
  if (server.model) body.model = server.model;
  for (const { name } of FIELDS) if (isNumber(settings[name])) body[name] = settings[name];
  if (settings.thinking) body.chat_template_kwargs = { enable_thinking: settings.thinking === "on" };
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
      method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify(body), signal: run.controller.signal,
    });
    if (!response.ok) throw await refusal(response);
    if (!(await take(run, response.body))) {
      throw new Trouble("The answer broke off.", "The connection ended before the server said that it was done. What came is kept.");
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
    endThought(message, run);
    chat.updated = Date.now();
    keepChat(chat);
    finish(run);
  }
}

// Takes the stream of an answer; whether it came to its end.
async function take(run, body) {
  let ended = false;
  for await (const data of events(body)) {
    if (data === "[DONE]") return true;
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      throw new Trouble("The server sent something that this page cannot read.", "What came before it is kept.");
    }
    if (event?.error) throw new Trouble("The answer broke off.", "The server says: " + (serversWords(event) || "an error without a text."));
    const { message } = run;
    if (event?.usage) message.usage = event.usage;
    const prompt = event?.engine?.prompt;
    if (isNumber(prompt?.read) && isNumber(prompt?.of)) run.phase = "Reading the prompt: " + count(prompt.read) + " of " + plural(prompt.of, "token");
    const choice = event?.choices?.[0];
    const { reasoning_content: reasoning, content } = choice?.delta ?? {};
    if (reasoning) {
      run.thinking ??= performance.now();
      message.reasoning += text(reasoning);
    }
    if (content) {
      endThought(message, run);
      message.content += text(content);
    }
    if (choice?.finish_reason) {
      ended = true;
      message.finish = choice.finish_reason;
    }
    drawSoon(run);
  }
  return ended;
}

function endThought(message, run) {
  if (run.thinking && !message.thought_ms) message.thought_ms = performance.now() - run.thinking;
}

// At most once a frame, however fast the tokens come.
function drawSoon(run) {
  if (run.asked || run.chat !== current) return;
  run.asked = true;
  requestAnimationFrame(() => {
    run.asked = false;
    if (run.chat === current && runs.get(run.chat.id) === run) {
      drawAnswer(run.message);
      drawComposer();
    }
  });
}

function finish(run) {
  const { chat, message } = run;
  if (chat === current) {
    drawAnswer(message);
    const view = views.get(message);
    const blocks = shown.get(view?.text) ?? [];
    for (; view && view.spoken < blocks.length; view.spoken++) speak(blocks[view.spoken]);
    drawComposer();
  }
  announce(message.stopped ? "Stopped." : message.error ? message.error.title + " " + message.error.hint : "The answer is complete.");
  drawList();
}

function setStatus(words) {
  byId("status").textContent = words;
}

function drawComposer() {
  const run = runs.get(current.id);
  const button = byId("send");
  button.textContent = run ? "Stop" : "Send";
  button.classList.toggle("main", !run);
  button.disabled = !run && (server.state === "loading" || byId("draft").value.trim() === "");
  if (run) {
    const { message } = run;
    setStatus((message.content ? "Answering" : message.reasoning ? "Thinking" : run.phase) + ". Escape stops.");
  } else if (server.state === "gone") {
    setStatus("The server does not answer. This page keeps trying.");
  } else if (server.state === "refused") {
    setStatus([server.refusal?.title, server.refusal?.hint].join(" "));
  } else {
    setStatus(server.state === "loading" ? "You can write already." : "Enter sends, Shift+Enter makes a new line.");
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


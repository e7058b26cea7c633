// An answer as it is shown: what was thought, the text, and what stands below it.

function answerElement(message) {
  const box = named(make("article", "message assistant"), "Answer");
  const thought = make("details", "thought");
  const view = {
    box,
    thought,
    summary: make("summary"),
    reasoning: make("div", "text"),
    waiting: make("p", "waiting"),
    text: make("div", "text"),
    after: make("div", "after"),
    ended: false,
    spoken: Infinity,
  };
  thought.append(view.summary, view.reasoning);
  box.append(thought, view.text, view.waiting, view.after);
  views.set(message, view);
  drawAnswer(message);
  // What was there when the conversation was opened is not read again.
  view.spoken = Math.max(0, shown.get(view.text).length - 1);
  return box;
}

// Shows an answer as far as it is there.
function drawAnswer(message) {
  const view = views.get(message);
  if (!view) return;
  const run = [...runs.values()].find((one) => one.message === message);
  view.box.classList.toggle("busy", run !== undefined);
  view.thought.hidden = !message.reasoning;
  if (message.reasoning) {
    view.summary.textContent = thoughtOf(message, run);
    showText(view.reasoning, message.reasoning);
  }
  showText(view.text, message.content);
  view.waiting.hidden = !run || message.content !== "" || message.reasoning !== "";
  view.waiting.textContent = run?.phase ?? "";
  // The last block may still grow.
  if (run) speak(view, 1);
  if (!run !== view.ended) drawEnd(message, view, !run);
  toNewest();
}

function thoughtOf({ content, reasoning, thought_ms }, run) {
  if (run && !content) return "Thinking: " + plural(reasoning.split(/\s+/).length, "word");
  return thought_ms >= 100 ? "Thought for " + digits(thought_ms / 1000) + " s" : "Thought";
}

// Has the blocks read aloud that were not yet, but for the last `less`. Code is told by its length.
function speak(view, less) {
  const blocks = shown.get(view.text);
  for (; view.spoken < blocks.length - less; view.spoken++) {
    const { kind, text, element } = blocks[view.spoken];
    const code = kind === "code" && "Code, " + plural(text.split("\n").length, "line") + ".";
    announce(code || element.textContent);
  }
}

// What stands below an answer: how it ended, its figures, and what can be done with it.
function drawEnd(message, view, ended) {
  view.ended = ended;
  view.after.replaceChildren();
  if (!ended) return;
  const note = (words) => view.after.append(make("p", "small muted", words));
  if (message.stopped) note("Stopped.");
  if (message.finish === "length") {
    note("The answer reached the most tokens it may have; Settings can allow more.");
  }
  if (message.error) view.after.append(troubleElement(message));
  const figures = figuresOf(message);
  if (figures.length > 0) {
    const line = view.after.appendChild(make("p", "stats"));
    for (const figure of figures) line.append(make("span", "", figure), " ");
  }
  const tools = view.after.appendChild(make("div", "tools"));
  if (message.content) tools.append(copyButton(() => message.content));
  if (!message.error) {
    tools.append(makeButton("Regenerate", "quiet", () => regenerate(current, message)));
  }
}

function troubleElement(message) {
  const { title, hint, again = 0, status, at } = message.error;
  const box = make("div", "trouble");
  box.append(make("b", "", title), " ", make("span", "", hint));
  const row = box.appendChild(make("div", "row"));
  const retry = makeButton("Try again", "", () => regenerate(current, message));
  row.append(retry);
  if (status === 401) row.append(makeButton("Open Settings", "", () => openSettings("key")));
  const until = at + again * 1000;
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    retry.disabled = left > 0;
    retry.textContent = left > 0 ? "Try again in " + left + " s" : "Try again";
    if (left > 0 && retry.isConnected) setTimeout(tick, 250);
  };
  if (until > Date.now()) requestAnimationFrame(tick);
  return box;
}

// The line of figures from `usage`; what the server did not send is not there.
function figuresOf({ usage }) {
  if (!usage) return [];
  const { prompt_tokens: prompt, completion_tokens: made } = usage;
  const cached = usage.prompt_tokens_details?.cached_tokens;
  const engine = usage.engine ?? {};
  const { tokens_per_s, prompt_ms, queue_ms, stall_ms, link_bytes, link_gbps, link_share } = engine;
  const found = [];
  const some = (value) => isNumber(value) && value > 0;
  // One figure, of the parts that are known.
  const add = (...parts) => found.push(parts.filter(Boolean).join(""));
  if (isNumber(made)) {
    add(plural(made, "token"), isNumber(tokens_per_s) && " at " + digits(tokens_per_s) + " tok/s");
  }
  if (isNumber(prompt)) {
    add(
      "prompt " + plural(prompt, "token"),
      some(cached) && " (" + count(cached) + " cached)",
      some(prompt_ms) && " in " + time(prompt_ms),
    );
  }
  if (isNumber(queue_ms) && queue_ms >= 1) add("queued " + time(queue_ms));
  if (some(stall_ms)) add("waited " + time(stall_ms) + " for weights");
  if (some(link_bytes)) {
    add(
      "link " + traffic(link_bytes),
      isNumber(link_gbps) && " at " + rate(link_gbps).join("\u00a0"),
      isNumber(link_share) && ", " + percent(link_share) + " of its peak",
    );
  }
  return found;
}

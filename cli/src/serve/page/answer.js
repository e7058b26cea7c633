function answerElement(message) {
  const box = make("article", "message assistant");
  box.setAttribute("aria-label", "Answer");
  const thought = make("details", "thought");
  const view = {
    box, thought, summary: make("summary"), reasoning: make("div", "text"), waiting: make("p", "waiting"),
    text: make("div", "text"), after: make("div", "after"), spoken: Infinity,
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
    const thinking = run && !message.content;
    view.summary.textContent = thinking ? "Thinking: " + plural(message.reasoning.split(/\s+/).length, "word")
      : message.thought_ms >= 100 ? "Thought for " + digits(message.thought_ms / 1000) + " s" : "Thought";
    showText(view.reasoning, message.reasoning);
  }
  const blocks = showText(view.text, message.content);
  view.waiting.hidden = !run || message.content !== "" || message.reasoning !== "";
  view.waiting.textContent = run?.phase ?? "";
  if (run) {
    for (; view.spoken < blocks.length - 1; view.spoken++) speak(blocks[view.spoken]);
  }
  if (!run !== (view.ended ?? false) || view.ended === undefined) drawEnd(message, view, !run);
  toNewest();
}

function speak(block) {
  announce(block.kind === "code" ? "Code, " + plural(block.text.split("\n").length, "line") + "." : block.element.textContent);
}

// What stands below an answer: how it ended, its figures, and what can be done with it.
function drawEnd(message, view, ended) {
  view.ended = ended;
  view.after.replaceChildren();
  if (!ended) return;
  if (message.stopped) view.after.append(make("p", "small muted", "Stopped."));
  if (message.finish === "length") view.after.append(make("p", "small muted", "The answer reached the most tokens it may have; Settings can allow more."));
  if (message.error) view.after.append(troubleElement(message));
  const figures = figuresOf(message);
  if (figures.length > 0) {
    const line = view.after.appendChild(make("p", "stats"));
    for (const figure of figures) line.append(make("span", "", figure), " ");
  }
  const tools = view.after.appendChild(make("div", "tools"));
  if (message.content) {
    const copy = makeButton("Copy", "quiet", async () => {
      copy.textContent = (await copied(message.content)) ? "Copied" : "Not copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    tools.append(copy);
  }
  if (!message.error) tools.append(makeButton("Regenerate", "quiet", () => regenerate(current, message)));
}

function troubleElement(message) {
  const { title, hint, again, status } = message.error;
  const box = make("div", "trouble");
  box.append(make("b", "", title), " ", make("span", "", hint));
  const row = box.appendChild(make("div", "row"));
  const retry = makeButton("Try again", "", () => regenerate(current, message));
  row.append(retry);
  if (status === 401) row.append(makeButton("Open Settings", "", () => openSettings("key")));
  const until = message.error.at + (again ?? 0) * 1000;
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
  const { prompt_tokens, completion_tokens } = usage;
  const engine = usage.engine ?? {};
  const cached = usage.prompt_tokens_details?.cached_tokens;
  const found = [];
  const speed = isNumber(engine.tokens_per_s) ? " at " + digits(engine.tokens_per_s) + " tok/s" : "";
  if (isNumber(completion_tokens)) found.push(plural(completion_tokens, "token") + speed);
  if (isNumber(prompt_tokens)) {
    found.push("prompt " + plural(prompt_tokens, "token") + (cached > 0 ? " (" + count(cached) + " cached)" : "")
      + (engine.prompt_ms > 0 ? " in " + time(engine.prompt_ms) : ""));
  }
  if (engine.queue_ms >= 1) found.push("queued " + time(engine.queue_ms));
  if (engine.stall_ms > 0) found.push("waited " + time(engine.stall_ms) + " for weights");
  if (engine.link_bytes > 0) {
    found.push("link " + traffic(engine.link_bytes) + (isNumber(engine.link_gbps) ? " at " + rate(engine.link_gbps).join("\u00a0") : "")
      + (isNumber(engine.link_share) ? ", " + percent(engine.link_share) + " of its peak" : ""));
  }
  return found;
}


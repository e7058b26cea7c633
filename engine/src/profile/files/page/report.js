// The page around the charts: what ran, what came of it, the tables.
function startHeader() {
  byId("model").textContent = stats.model.replace(/^the /, "The ");
  const verdict = byId("verdict");
  if (stats.verdict) {
    const [first, rest] = stats.verdict.split(/\. (.*)/s);
    write(verdict, [{ b: first.charAt(0).toUpperCase() + first.slice(1).replace(/\.$/, "") + "." }, rest ? " " + rest : ""]);
  } else {
    write(verdict, ["Nothing was recorded: the run ended before its first pass did."]);
  }
  const notes = [];
  if (data.emulated) notes.push("The link is emulated: a bus of " + stats.link.emulated_gbps + " GB/s that this machine does not have.");
  if (stats.ended === "interrupted") notes.push("The run was interrupted; this is what came before.");
  if (stats.ended === "failed") notes.push("The run failed; this is what came before.");
  if (data.left_out) notes.push(data.left_out.charAt(0).toUpperCase() + data.left_out.slice(1) + ". Totals count them, charts do not show them.");
  for (const note of notes) byId("notes").append(make("li", note));

  const figure = (name, value, unit) => {
    const box = make("div");
    const shown = make("dd", value);
    if (unit) shown.append(" ", make("small", unit));
    box.append(make("dt", name), shown);
    byId("figures").append(box);
  };
  const unit = (text) => text.split(" ");
  figure("Generated", String(stats.tokens), stats.tokens === 1 ? "token" : "tokens");
  figure("Speed", stats.tokens_per_s === null ? "–" : digits(stats.tokens_per_s), "tok/s");
  if (stats.time_to_first_token_ms !== null) figure("First token after", ...unit(millis(stats.time_to_first_token_ms)));
  if (stats.loads.async_percent !== null) figure("Loads ahead of need", String(stats.loads.async_percent), "% ASYNC");
  if (data.token && stats.link) figure("Waiting, of a token's time", ...unit(percent(data.token.stalled_ms / data.token.total_ms)));
  if (stats.link && stats.link.share_of_peak !== null) {
    const { peak_too_low: low, share_of_peak: share } = stats.link;
    figure(low ? "Link, of a peak measured too low" : "Link, of its peak", ...unit(low ? "> 100 %" : percent(Math.min(share, 1))));
  }
  if (stats.memory.peak_bytes) figure("Peak memory", ...unit(storage(stats.memory.peak_bytes)));

  const plan = stats.plan;
  const setup = (name, value) => byId("setup").append(make("dt", name), make("dd", value));
  setup("Plan", plan.streamed === 0
    ? "all " + plan.layers + " layers resident, " + storage(plan.resident_bytes)
    : plan.resident + " of " + plan.layers + " layers resident (" + storage(plan.resident_bytes) + "), " + plan.streamed + " streamed through " + plural(plan.slots, "slot") + " of " + storage(plan.layer_bytes));
  if (stats.link) {
    const link = stats.link;
    const peak = link.peak_gbps === null ? "" : ", " + digits(link.peak_gbps) + " GB/s at its peak" + (data.emulated ? " (set)" : " (measured)");
    setup("Link", (data.emulated ? "emulated, from RAM" : link.home + ", " + link.access) + peak + (link.prefetch ? "" : "; prefetch is off"));
  }
  setup("Machine", stats.machine);
  const origin = stats.origin;
  setup("From", "engine " + origin.version + (origin.commit ? " (" + origin.commit + ")" : "") + ", " + origin.date + (origin.seed === null ? "" : ", seed " + origin.seed));
  setup("Command", origin.command);
  setup("Run", "prompt of " + plural(stats.prompt_tokens, "token") + ", loaded in " + millis(stats.model_load_ms) + ", ended: " + stats.ended.replaceAll("_", " "));

  canvas(byId("strip"), () => 26, (context, width) => {
    const cell = Math.min(26, width / plan.layers);
    for (let layer = 0; layer < plan.layers; layer++) {
      const gap = cell > 4 ? 2 : 0.5;
      const [x, w] = [layer * cell, cell - gap];
      if (isStreamed.has(layer)) {
        context.fillStyle = colours.compute;
        context.fillRect(x, 0, w, 26);
      } else {
        context.strokeStyle = colours.resident;
        context.fillStyle = colours.grid;
        context.fillRect(x, 6, w, 14);
        if (cell > 4) context.strokeRect(x + 0.5, 6.5, w - 1, 13);
      }
    }
  });
  byId("strip").setAttribute("aria-label", plan.streamed + " of " + plan.layers + " layers streamed");
  byId("strip-caption").textContent = plan.streamed === 0
    ? "Layers 0 to " + (plan.layers - 1) + ", all resident"
    : "Layers 0 to " + (plan.layers - 1) + "; the tall ones are streamed: " + traffic(plan.streamed_bytes_per_token) + " a token";
}

function startToken() {
  const box = byId("token");
  const token = data.token;
  if (!token) {
    box.append(make("p", "No pass was recorded.", "empty"));
    return;
  }
  const parts = [["compute", "c-compute", token.compute_ms], ["waiting", "c-wait", token.stalled_ms], ["everything else", "c-other", token.other_ms]];
  const bar = make("div", undefined, "bar");
  const list = make("ul", undefined, "parts");
  for (const [name, look, ms] of parts) {
    const piece = bar.appendChild(make("i", undefined, look));
    piece.style.width = (100 * ms) / token.total_ms + "%";
    const item = list.appendChild(make("li"));
    item.append(make("i", undefined, look), name + " ", make("strong", millis(ms)), " (" + percent(ms / token.total_ms) + ")");
  }
  const subject = stats.decode_passes > 0 ? "A token takes " : "The prompt’s pass takes ";
  const lead = make("p");
  lead.append(subject, make("b", millis(token.total_ms)));
  const share = token.floor_ms / token.total_ms;
  if (share > 0.985) lead.append(": no schedule of the same bytes and compute is faster.");
  else lead.append(". No schedule of the same bytes and compute is faster than ", make("b", millis(token.floor_ms)), ", " + percent(share) + " of that.");
  lead.style.marginTop = "8px";
  box.append(lead, bar, list);

  const meters = box.appendChild(make("div", undefined, "meters"));
  const meter = (name, value, share, text) => {
    const one = meters.appendChild(make("div"));
    one.append(make("h3", name), make("strong", value));
    if (share !== null) {
      const line = one.appendChild(make("div", undefined, "meter"));
      line.appendChild(make("i")).style.width = Math.min(100, share * 100) + "%";
    }
    one.append(make("p", text));
  };
  const emulated = data.emulated ? " (emulated)" : "";
  const link = stats.link;
  if (link && link.decode_gbps !== null) {
    meter("Link" + emulated, digits(link.decode_gbps) + " GB/s", link.share_of_peak,
      (link.share_of_peak === null ? "its peak was not measured" : (link.peak_too_low ? ofPeak(link.share_of_peak) : percent(Math.min(link.share_of_peak, 1))) + " of " + digits(link.peak_gbps) + " GB/s")
      + (link.copy_gbps === null ? "" : "; " + digits(link.copy_gbps) + " GB/s a copy while it ran"));
  }
  const { memory, prompt } = stats.utilisation;
  if (memory) {
    meter("Memory read while computing", digits(memory.gbps) + " GB/s", memory.share_of_peak,
      ofPeak(memory.share_of_peak) + " of " + digits(memory.peak_gbps) + " GB/s; weights and cache of the passes after the prompt's");
  } else {
    const inside = token.layer_bytes / Math.max(token.compute_ms, 1e-9) / 1e6;
    meter("Layer weights read while computing", digits(inside) + " GB/s", null,
      traffic(token.layer_bytes) + " in each pass, without embedding and head");
  }
  if (prompt) {
    meter("Prompt" + emulated, digits(prompt.gflops) + " GFLOP/s", prompt.share_of_peak,
      ofPeak(prompt.share_of_peak) + " of " + digits(prompt.peak_gflops) + " GFLOP/s (" + prompt.products + "); " + digits(prompt.tokens_per_s) + " tok/s");
  }
}

function startTable() {
  const table = byId("stages");
  const device = data.stages.some((row) => row.device_ms !== null);
  const names = ["Stage", "Wall, ms", ...(device ? ["Device, ms"] : []), "Count", "Mean, ms", "Share of the run"];
  const head = table.createTHead().insertRow();
  for (const name of names) head.append(Object.assign(make("th", name, name.startsWith("Mean") ? "mean" : ""), { scope: "col" }));
  const body = table.createTBody();
  for (const row of data.stages) {
    const line = body.insertRow();
    if (row.depth === 0) line.className = "root";
    line.insertCell().textContent = row.name;
    line.cells[0].style.paddingLeft = row.depth * 18 + "px";
    line.insertCell().textContent = row.wall_ms.toFixed(2);
    if (device) line.insertCell().textContent = row.device_ms === null ? "–" : row.device_ms.toFixed(2);
    line.insertCell().textContent = row.count.toLocaleString("en");
    const mean = line.insertCell();
    mean.className = "mean";
    mean.textContent = (row.wall_ms / row.count).toFixed(3);
    const cell = line.insertCell();
    cell.className = "share";
    const box = cell.appendChild(make("div"));
    const track = box.appendChild(make("b"));
    track.appendChild(make("i")).style.width = row.share * 100 + "%";
    box.append(make("span", (row.share * 100).toFixed(1) + " %"));
  }
}

startHeader();
startTimeline();
startHeat();
startCharts();
startToken();
startTable();
byId("summary").textContent = data.summary || "No pass was recorded.";
document.documentElement.dataset.ready = "true";

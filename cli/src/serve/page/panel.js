// The live panel: what the server's events say, as figures, a line and a strip of layers.

const MINUTE = 60e3;
// [when, tokens per second] of the last minute.
const speeds = [];
let [panelStream, layersShown] = [null, ""];

// Follows the events of /panel while the page is to be seen. By fetch, not EventSource, which
// cannot send a key.
async function followPanel() {
  if (panelStream || document.hidden) return;
  const controller = new AbortController();
  panelStream = controller;
  let again = true;
  try {
    const response = await ask("panel", { signal: controller.signal });
    if (response.ok) {
      for await (const data of events(response.body)) showPanel(JSON.parse(data));
    } else {
      again = response.status >= 500;
      const { title } = await refusal(response);
      hidePanel(response.status === 404 ? "This server has no live panel." : title);
    }
  } catch {
    // The health of the server says why.
  }
  panelStream = null;
  if (controller.signal.aborted || !again) return;
  hidePanel("No figures are coming. Trying again.");
  await wait(1500);
  watch();
}

function hidePanel(words) {
  byId("panel").hidden = true;
  write("panel-words", words);
  write("show-panel", "Live");
}

// What is not known is a dash, and has no unit.
function figure(id, value, unit = "") {
  byId(id).replaceChildren(value ?? "–");
  if (unit && value !== null) byId(id).append(" ", make("small", "", unit));
}

function showPanel(event) {
  if (!event || typeof event !== "object") return;
  const known = (value, show) => (isNumber(value) ? show(value) : null);
  const { tok_s, link_gbps: link, link_peak_gbps: peak, kv_used: used, kv_total: total } = event;
  const layers = text(event.layers, 1024);
  const streamed = layers.split("S").length - 1;
  const share = isNumber(link) && peak > 0 ? link / peak : null;

  noteSpeed(isNumber(tok_s) ? Math.max(0, tok_s) : 0);
  figure("p-speed", known(tok_s, digits), "tok/s");
  const [speed, unit] = isNumber(link) ? rate(link, peak > 0 ? peak : link) : [null, ""];
  const part = share === null ? "" : " of " + rate(peak)[0] + ", " + percent(within(share));
  figure("p-link", speed, unit + part);
  fill(byId("m-link"), share ?? 0);
  figure("p-stall", known(event.stall_ms, time), "a pass");
  figure("p-async", known(event.async_percent, (value) => percent(value / 100)));
  figure("p-running", known(event.running, count));
  figure("p-waiting", known(event.waiting, count));
  figure("p-kv", known(used, count), total > 0 ? "of " + plural(total, "token") : "tokens");
  fill(byId("m-kv"), total > 0 ? used / total : 0);
  drawLayers(layers, streamed, event.layer_now);
  write("panel-words", verdict(event.running > 0, streamed, share));
  write("show-panel", isNumber(tok_s) && event.running > 0 ? digits(tok_s) + " tok/s" : "Live");
  byId("panel").hidden = false;
}

// The figures in one sentence.
function verdict(running, streamed, share) {
  const layers = plural(streamed, "layer");
  if (!running && streamed > 0) return "Idle. " + layers + " will be streamed for each token.";
  if (!running) return "Idle. All layers are resident.";
  if (streamed === 0) return "All layers are resident: nothing goes over the link.";
  if (share === null) return layers + " streamed; the link’s peak is not known.";
  const carries = " carries " + percent(within(share)) + " of its peak.";
  return share >= 0.85 ? "The link is the limit: it" + carries : "The link" + carries;
}

function noteSpeed(speed) {
  const now = performance.now();
  speeds.push([now, speed]);
  while (speeds[0][0] < now - MINUTE || speeds.length > 2000) speeds.shift();
  const most = speeds.reduce((most, [, speed]) => Math.max(most, speed), 0);
  const [width, height] = [240, 54];
  const points = speeds.map(([when, speed]) => [
    (width * (1 - (now - when) / MINUTE)).toFixed(1),
    (height - 1 - (speed / (most || 1)) * (height - 4)).toFixed(1),
  ]);
  const line = "M" + points.map((point) => point.join(" ")).join("L");
  const spark = byId("spark");
  spark.querySelector(".line").setAttribute("d", line);
  spark.querySelector(".area").setAttribute("d", line + "V" + height + "H" + points[0][0] + "Z");
  write("p-most", "most " + digits(most) + " tok/s");
}

function drawLayers(layers, streamed, now) {
  const strip = byId("strip");
  if (layers !== layersShown) {
    layersShown = layers;
    // Rows of one length, as few as leave a layer wide enough to be seen.
    const rows = Math.max(1, Math.ceil(layers.length / 28));
    const columns = Math.ceil(layers.length / rows);
    strip.style.gridTemplateColumns = "repeat(" + columns + ", minmax(0, 16px))";
    strip.replaceChildren(...[...layers].map((kind) => make("i", kind === "S" ? "" : "r")));
    const resident = layers.length - streamed;
    named(strip, resident + " layers resident, " + streamed + " streamed");
    write("l-resident", resident + " resident");
    write("l-streamed", streamed + " streamed");
  }
  strip.querySelector(".now")?.classList.remove("now");
  const at = isNumber(now) ? strip.children[now] : null;
  at?.classList.add("now");
  write("l-now", at ? "now " + now : "none now");
}

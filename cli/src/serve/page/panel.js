// ---- The live panel ---------------------------------------------------------------------------

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
      hidePanel(response.status === 404 ? "This server has no live panel." : (await refusal(response)).title);
    }
  } catch { /* The health of the server says why. */ }
  panelStream = null;
  if (controller.signal.aborted || !again) return;
  hidePanel("No figures are coming. Trying again.");
  await wait(1500);
  watch();
}

function hidePanel(words) {
  byId("panel").hidden = true;
  byId("panel-words").textContent = words;
  byId("show-panel").textContent = "Live";
}

function showPanel(event) {
  if (!event || typeof event !== "object") return;
  const figure = (id, value, unit, rest = "") => {
    byId(id).replaceChildren(value);
    if (unit && value !== "–") byId(id).append(" ", make("small", "", unit + rest));
  };
  const known = (value, write) => (isNumber(value) ? write(value) : "–");
  const layers = text(event.layers, 1024);
  const streamed = layers.split("S").length - 1;
  const { link_gbps: link, link_peak_gbps: peak, kv_used: used, kv_total: total } = event;
  const share = isNumber(link) && peak > 0 ? link / peak : null;

  const now = performance.now();
  speeds.push([now, isNumber(event.tok_s) ? Math.max(0, event.tok_s) : 0]);
  while (speeds[0][0] < now - MINUTE || speeds.length > 2000) speeds.shift();
  figure("p-speed", known(event.tok_s, digits), "tok/s");
  drawSpeeds();
  const [speed, unit] = isNumber(link) ? rate(link, peak > 0 ? peak : link) : ["–", ""];
  figure("p-link", speed, unit, peak > 0 ? " of " + rate(peak)[0] + (share === null ? "" : ", " + percent(Math.min(1, share))) : "");
  fill(byId("m-link"), share ?? 0);
  figure("p-stall", known(event.stall_ms, time), "a pass");
  figure("p-async", known(event.async_percent, (value) => percent(value / 100)));
  figure("p-running", known(event.running, count));
  figure("p-waiting", known(event.waiting, count));
  figure("p-kv", known(used, count), total > 0 ? "of " + plural(total, "token") : "tokens");
  fill(byId("m-kv"), total > 0 ? used / total : 0);
  drawLayers(layers, streamed, event.layer_now);
  byId("panel-words").textContent = verdict(event, streamed, share);
  byId("show-panel").textContent = isNumber(event.tok_s) && event.running > 0 ? digits(event.tok_s) + " tok/s" : "Live";
  byId("panel").hidden = false;
}

// The figures in one sentence.
function verdict(event, streamed, share) {
  if (!(event.running > 0)) return "Idle." + (streamed > 0 ? " " + plural(streamed, "layer") + " will be streamed for each token." : " All layers are resident.");
  if (streamed === 0) return "All layers are resident: nothing goes over the link.";
  if (share === null) return plural(streamed, "layer") + " streamed; the link’s peak is not known.";
  if (share >= 0.85) return "The link is the limit: it carries " + percent(Math.min(1, share)) + " of its peak.";
  return "The link carries " + percent(share) + " of its peak.";
}

function drawSpeeds() {
  const most = speeds.reduce((most, [, speed]) => Math.max(most, speed), 0);
  const [width, height, end] = [240, 54, speeds.at(-1)[0]];
  const points = speeds.map(([when, speed]) => [
    (width * (1 - (end - when) / MINUTE)).toFixed(1),
    (height - 1 - (speed / (most || 1)) * (height - 4)).toFixed(1),
  ]);
  const line = "M" + points.map((point) => point.join(" ")).join("L");
  const spark = byId("spark");
  spark.querySelector(".line").setAttribute("d", line);
  spark.querySelector(".area").setAttribute("d", line + "V" + height + "H" + points[0][0] + "Z");
  byId("p-most").textContent = "most " + digits(most) + " tok/s";
}

function drawLayers(layers, streamed, now) {
  const strip = byId("strip");
  if (layers !== layersShown) {
    layersShown = layers;
    // Rows of one length, as few as leave a layer wide enough to be seen.
    const rows = Math.max(1, Math.ceil(layers.length / 28));
    strip.style.gridTemplateColumns = "repeat(" + Math.ceil(layers.length / rows) + ", minmax(0, 16px))";
    strip.replaceChildren(...[...layers].map((kind) => make("i", kind === "S" ? "" : "r")));
    strip.setAttribute("aria-label", layers.length - streamed + " layers resident, " + streamed + " streamed");
    byId("l-resident").textContent = layers.length - streamed + " resident";
    byId("l-streamed").textContent = streamed + " streamed";
  }
  strip.querySelector(".now")?.classList.remove("now");
  const at = isNumber(now) ? strip.children[now] : null;
  at?.classList.add("now");
  byId("l-now").textContent = at ? "now " + now : "none now";
}


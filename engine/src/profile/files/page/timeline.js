// Copies against compute on one clock. Lanes of stretches; what is narrower than a pixel is summed
// into its column and drawn as faint as it is rare, so that any length of run stays readable.
const SHORTEST = 100; // ticks across the view: 10 µs
const LANE_TOP = 24;

function slotLanes() {
  const slots = Math.min(stats.plan.slots, 8);
  const rows = Array.from({ length: slots }, () => []);
  for (let i = 0; i < copies.count; i++) if (copies.slot[i] < slots) rows[copies.slot[i]].push(i);
  return rows.map((row, slot) => {
    const pick = (column) => Float64Array.from(row, (i) => column[i]);
    const column = (values) => row.map((i) => values[i]);
    const more = { layer: column(copies.layer), step: column(copies.step), sync: column(copies.sync), load: row };
    const part = (from, to) => Object.assign({ from, to, count: row.length }, more);
    const [read, arrived, came, left] = [copies.from, copies.to, visits.from, visits.to].map(pick);
    const ordered = Float64Array.from(row, (i) => copies.from[i] - copies.queued[i]);
    return {
      name: "slot " + slot,
      height: 16,
      parts: [
        { lane: part(ordered, read), look: "queued", what: "waits for the link" },
        { lane: part(read, arrived), look: "copy", what: "is being filled" },
        { lane: part(arrived, Float64Array.from(came, (at, i) => Math.max(at, arrived[i]))), look: "ready", what: "holds it ready" },
        { lane: part(came, left), look: "compute", what: "is read by the compute" },
      ],
    };
  });
}

function outsideLane() {
  const found = { from: [], to: [], name: [], step: [] };
  data.startup.forEach(([name, from, took]) => {
    found.from.push(from); found.to.push(from + took); found.name.push(name); found.step.push(-1);
  });
  data.steps.outside.forEach((parts, step) => parts.forEach(([name, from, took]) => {
    found.from.push(steps.from[step] + from);
    found.to.push(steps.from[step] + from + took);
    found.name.push(name);
    found.step.push(step);
  }));
  return Object.assign(found, { count: found.from.length });
}

const lanes = [
  { name: "token", height: 20, parts: [{ lane: Object.assign({ whole: true }, steps), look: "token" }] },
  { name: "compute", height: 28, parts: [
    { lane: outsideLane(), look: "outside" },
    { lane: computes, look: "layer" },
  ] },
];
if (copies.count > 0) {
  lanes.push({ name: "waiting", height: 16, parts: [{ lane: waits, look: "wait" }] });
  lanes.push({ name: data.emulated ? "link (emul.)" : "link", height: 28, parts: [{ lane: copies, look: "copy" }] });
  lanes.push(...slotLanes());
}

const looks = {
  token: (c) => ({ fill: c.grid, edge: c.rule, ink: c.ink, text: (lane, i) => stepName(i) }),
  outside: (c) => ({ fill: c.outside, edge: c.page, ink: c.ink, text: (lane, i) => lane.name[i] }),
  layer: (c, lane, i) => (isStreamed.has(lane.layer[i])
    ? { fill: c.compute, edge: c.page, ink: c.page, text: () => String(lane.layer[i]) }
    : { fill: c.resident, edge: c.page, ink: c.ink, text: () => String(lane.layer[i]) }),
  wait: (c) => ({ fill: c.wait, hatched: true, edge: c.wait }),
  copy: (c, lane, i) => ({ fill: c.copy, edge: c.page, ink: c.page, mark: lane.sync[i], text: () => lane.layer[i] + (lane.sync[i] ? " SYNC" : "") }),
  queued: (c) => ({ fill: c.copy, thin: true }),
  ready: (c) => ({ fill: c.ready, edge: c.copy }),
  compute: (c, lane, i) => ({ fill: c.compute, edge: c.page, ink: c.page, text: () => String(lane.layer[i]) }),
};

const view = { a: 0, b: runEnds };

function gutter(width) { return width < 560 ? 74 : 84; }

function setView(a, b) {
  const span = Math.min(runEnds, Math.max(SHORTEST, b - a));
  const middle = (a + b) / 2;
  view.a = Math.min(Math.max(0, middle - span / 2), runEnds - span);
  view.b = view.a + span;
  paintTimeline();
  paintOverview();
}

function zoom(by, at) {
  const about = at === undefined ? (view.a + view.b) / 2 : at;
  setView(about - (about - view.a) * by, about + (view.b - about) * by);
}

function showTokens() {
  if (steps.count === 0) return setView(0, runEnds);
  // Three tokens from the middle of the run: the pace it settled into.
  const first = Math.min(steps.count - 1, Math.max(1, Math.floor(steps.count / 2)));
  const last = Math.min(steps.count - 1, first + 2);
  const room = (steps.to[last] - steps.from[first]) * 0.02;
  setView(steps.from[first] - room, steps.to[last] + room);
}

const act = {
  left: () => setView(view.a - (view.b - view.a) / 4, view.b - (view.b - view.a) / 4),
  right: () => setView(view.a + (view.b - view.a) / 4, view.b + (view.b - view.a) / 4),
  in: () => zoom(0.6),
  out: () => zoom(1 / 0.6),
  start: () => setView(0, Math.max(view.b - view.a, SHORTEST)),
  token: showTokens,
  all: () => setView(0, runEnds),
};

let paintTimeline = () => {};
let paintOverview = () => {};

function lanesHeight() { return LANE_TOP + lanes.reduce((sum, lane) => sum + lane.height + 6, 0) + 4; }

function drawLane(context, part, y, height, left, width) {
  const { lane, look } = part;
  const scale = width / (view.b - view.a);
  const columns = new Float32Array(Math.ceil(width) + 1);
  const c = colours;
  const pattern = look === "wait" ? hatch(context, c.wait) : null;
  let narrow = false;
  let shape = null;
  // Neighbours may end a little out of order on a disk link.
  for (let i = Math.max(0, firstFrom(lane.to, view.a) - 8); i < lane.count && lane.from[i] < view.b; i++) {
    if (lane.to[i] < view.a) continue;
    const x0 = Math.max(-2, (lane.from[i] - view.a) * scale);
    const x1 = Math.min(width + 2, (lane.to[i] - view.a) * scale);
    if (x1 - x0 < 1.5) {
      columns[Math.min(columns.length - 1, Math.max(0, Math.floor(x0)))] += Math.max(x1 - x0, 0);
      narrow = true;
      continue;
    }
    shape = looks[look](c, lane, i);
    const [top, tall] = shape.thin ? [y + height / 2 - 1, 2] : [y, height];
    context.fillStyle = shape.hatched ? pattern : shape.fill;
    context.fillRect(left + x0, top, x1 - x0, tall);
    if (shape.mark) {
      context.fillStyle = c.wait;
      context.fillRect(left + x0, top, x1 - x0, 4);
    }
    if (shape.edge && x1 - x0 > 4) {
      context.strokeStyle = shape.edge;
      context.strokeRect(left + x0 + 0.5, top + 0.5, x1 - x0 - 1, tall - 1);
    }
    if (shape.text && x1 - x0 > 12) {
      const text = shape.text(lane, i);
      const seen = [Math.max(x0, 0), Math.min(x1, width)];
      if (context.measureText(text).width + 6 <= seen[1] - seen[0]) {
        context.fillStyle = shape.ink;
        context.textAlign = "center";
        context.fillText(text, left + (seen[0] + seen[1]) / 2, y + height / 2 + 0.5);
      }
    }
  }
  if (!narrow) return;
  const one = looks[look](c, lane, firstFrom(lane.to, view.a) % lane.count);
  context.fillStyle = one.hatched ? c.wait : one.fill;
  const [top, tall] = one.thin ? [y + height / 2 - 1, 2] : [y, height];
  for (let x = 0; x < columns.length; x++) {
    if (columns[x] <= 0) continue;
    context.globalAlpha = Math.min(1, Math.max(0.12, columns[x]));
    context.fillRect(left + x, top, 1, tall);
  }
  context.globalAlpha = 1;
}

function unitOf(span) {
  if (span >= 2e7) return { by: 1e7, name: "s" };
  if (span >= 2e4) return { by: 1e4, name: "ms" };
  return { by: 10, name: "µs" };
}

function paintLanes(context, width, tall) {
  const left = gutter(width);
  const wide = width - left;
  const c = colours;
  const unit = unitOf(view.b - view.a);
  const marks = ticks(view.a / unit.by, view.b / unit.by, wide / 110);
  const step = marks.length > 1 ? marks[1] - marks[0] : 1;
  context.font = LABEL;
  context.textAlign = "left";
  context.fillStyle = c.muted;
  context.fillText("time, " + unit.name, 0, 9);
  for (const mark of marks) {
    const x = Math.round(left + ((mark * unit.by - view.a) / (view.b - view.a)) * wide) + 0.5;
    context.strokeStyle = c.grid;
    context.beginPath();
    context.moveTo(x, 17);
    context.lineTo(x, tall);
    context.stroke();
    context.fillStyle = c.muted;
    context.textAlign = x > width - 24 ? "right" : "center";
    context.fillText(tickText(mark, step), x, 9);
  }
  let y = LANE_TOP;
  for (const lane of lanes) {
    context.font = FONT;
    context.textAlign = "left";
    context.fillStyle = c.ink;
    context.fillText(lane.name, 0, y + lane.height / 2 + 0.5);
    context.save();
    context.beginPath();
    context.rect(left, y, wide, lane.height);
    context.clip();
    context.font = LABEL;
    for (const part of lane.parts) drawLane(context, part, y, lane.height, left, wide);
    context.restore();
    y += lane.height + 6;
  }
}

// Column by column over the whole run: how much of it computed and how much waited.
function busy(lane, columns) {
  const found = new Float32Array(columns);
  const scale = columns / runEnds;
  for (let i = 0; i < lane.count; i++) {
    let [a, b] = [lane.from[i] * scale, lane.to[i] * scale];
    for (let x = Math.floor(a); x < Math.min(columns, b); x++) {
      if (x >= 0) found[x] += Math.min(b, x + 1) - Math.max(a, x);
    }
  }
  return found;
}

const overviewCache = { width: 0 };

function paintRun(context, width, tall) {
  const left = gutter(width);
  const wide = Math.floor(width - left);
  if (overviewCache.width !== wide) {
    Object.assign(overviewCache, { width: wide, compute: busy(computes, wide), wait: busy(waits, wide) });
  }
  const c = colours;
  const waiting = hatch(context, c.wait);
  context.fillStyle = c.ink;
  context.fillText("whole run", 0, tall / 2);
  context.fillStyle = c.grid;
  context.fillRect(left, 0, wide, tall);
  for (let x = 0; x < wide; x++) {
    const compute = Math.min(1, overviewCache.compute[x]) * tall;
    const wait = Math.min(1, overviewCache.wait[x]) * tall;
    context.fillStyle = c.resident;
    context.fillRect(left + x, tall - compute, 1, compute);
    context.fillStyle = waiting;
    context.fillRect(left + x, tall - compute - wait, 1, wait);
  }
  const from = left + (view.a / runEnds) * wide;
  const to = left + (view.b / runEnds) * wide;
  context.fillStyle = c.page;
  context.globalAlpha = 0.55;
  context.fillRect(left, 0, from - left, tall);
  context.fillRect(to, 0, left + wide - to, tall);
  context.globalAlpha = 1;
  context.strokeStyle = c.ink;
  context.lineWidth = 2;
  context.strokeRect(Math.min(from, left + wide - 4) + 1, 1, Math.max(2, to - from - 2), tall - 2);
}

function describe(x, y, width) {
  const left = gutter(width);
  if (x < left) return null;
  const scale = (view.b - view.a) / (width - left);
  const when = view.a + (x - left) * scale;
  let top = LANE_TOP;
  for (const lane of lanes) {
    if (y >= top - 3 && y < top + lane.height + 3) {
      for (const part of [...lane.parts].reverse()) {
        const i = nearest(part.lane, when, 3 * scale);
        if (i >= 0) return words(part, i);
      }
      return [lane.name + ": nothing at " + time(when)];
    }
    top += lane.height + 6;
  }
  return null;
}

function nearest(lane, when, reach) {
  let best = -1;
  const start = Math.max(0, firstFrom(lane.to, when - reach) - 8);
  for (let i = start; i < lane.count && lane.from[i] <= when + reach; i++) {
    if (lane.from[i] <= when && when <= lane.to[i]) return i;
    if (lane.to[i] >= when - reach) best = i;
  }
  return best;
}

function words({ lane, look, what }, i) {
  const took = time(lane.to[i] - lane.from[i]);
  const at = ", at " + time(lane.from[i]);
  if (look === "token") return [{ b: stepName(i) }, " took " + took + at + "; " + plural(steps.rows[i], "row")];
  if (look === "outside") return [{ b: lane.name[i] }, " took " + took + at];
  const where = " (" + stepName(lane.step[i]) + ")";
  const layer = { b: "layer " + lane.layer[i] };
  if (look === "layer") {
    return [layer, (isStreamed.has(lane.layer[i]) ? ", streamed," : ", resident,") + " computed for " + took + at + where];
  }
  const load = lane.load ? lane.load[i] : i;
  const kind = copies.sync[load] ? "SYNC" : "ASYNC";
  const bytes = copies.kib[load] * 1024;
  const gbps = bytes / ((copies.to[load] - copies.from[load]) / 1e7) / 1e9;
  const moved = traffic(bytes) + " at " + digits(gbps) + " GB/s" + (data.emulated ? " (emulated)" : "");
  if (look === "wait") return [layer, " was waited for " + took + at + where + ", " + kind];
  if (lane.load) return ["slot " + copies.slot[load] + " " + what + " for " + took + ": ", layer, at + where + "; " + moved + ", " + kind];
  return [layer, " copied in " + took + at + where + ": " + moved + ", into slot " + copies.slot[load] + ", " + kind];
}

function startTimeline() {
  const lane = byId("timeline");
  const overview = byId("overview");
  paintTimeline = canvas(lane, lanesHeight, paintLanes);
  paintOverview = canvas(overview, () => 34, paintRun);
  lane.setAttribute("aria-label",
    "Timeline of " + plural(steps.count, "token") + ". Arrow keys move, plus and minus zoom, Home shows the start, 0 the whole run, t a few tokens.");

  document.querySelectorAll("[data-do]").forEach((button) => {
    button.addEventListener("click", () => act[button.dataset.do]());
  });
  const keys = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", Home: "start", 0: "all", t: "token" };
  lane.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act[keys[event.key]]();
  });
  const whenAt = (clientX) => {
    const box = lane.getBoundingClientRect();
    const left = gutter(box.width);
    return view.a + ((clientX - box.left - left) / (box.width - left)) * (view.b - view.a);
  };
  // The page scrolls over a timeline that was not clicked: a wheel zooms where it was asked to.
  lane.addEventListener("wheel", (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (!sideways && !event.ctrlKey && document.activeElement !== lane) return;
    event.preventDefault();
    const by = event.deltaMode === 1 ? 16 : 1;
    if (sideways) {
      const width = lane.clientWidth - gutter(lane.clientWidth);
      const ticks = ((event.deltaX || event.deltaY) * by / width) * (view.b - view.a);
      setView(view.a + ticks, view.b + ticks);
    } else {
      zoom(Math.exp(event.deltaY * by * 0.0022), whenAt(event.clientX));
    }
  }, { passive: false });

  const held = new Map();
  lane.addEventListener("pointerdown", (event) => {
    lane.setPointerCapture(event.pointerId);
    held.set(event.pointerId, whenAt(event.clientX));
    lane.classList.add("dragging");
  });
  const letGo = (event) => {
    held.delete(event.pointerId);
    if (held.size === 0) lane.classList.remove("dragging");
  };
  lane.addEventListener("pointerup", letGo);
  lane.addEventListener("pointercancel", letGo);
  const fingers = new Map();
  lane.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    fingers.set(event.pointerId, event.clientX);
    if (held.size === 1) {
      const moved = held.get(event.pointerId) - whenAt(event.clientX);
      setView(view.a + moved, view.b + moved);
      return;
    }
    // Two fingers keep the times they hold under them.
    const [[one, first], [two, second]] = held;
    const [x, y] = [fingers.get(one), fingers.get(two)];
    if (x === undefined || y === undefined || Math.abs(x - y) < 8) return;
    const box = lane.getBoundingClientRect();
    const left = gutter(box.width);
    const perPixel = (second - first) / (y - x);
    if (perPixel > 0) setView(first - (x - box.left - left) * perPixel, first + (box.right - x) * perPixel);
  });

  const jump = (event) => {
    if (event.type === "pointermove" && event.buttons === 0) return;
    const box = overview.getBoundingClientRect();
    const left = gutter(box.width);
    const at = ((event.clientX - box.left - left) / (box.width - left)) * runEnds;
    const half = (view.b - view.a) / 2;
    setView(at - half, at + half);
  };
  overview.addEventListener("pointerdown", jump);
  overview.addEventListener("pointermove", jump);

  readout(lane, byId("timeline-readout"),
    () => "Point at a stretch for its numbers. Drag to move; click, then turn the wheel to zoom; with the keyboard: arrows, + and −.",
    describe);
  legend();
  showTokens();
}

function legend() {
  const shown = [["layer", "compute, streamed layer"], ["resident", "resident layer"], ["outside", "outside the layers"]];
  if (copies.count > 0) {
    shown.push(["wait", "waiting for a layer"], ["copy", "copy into a slot"], ["queued", "slot queued"], ["ready", "copied, not yet read"]);
    if (copies.sync.some(Boolean)) shown.push(["sync", "SYNC: loaded at need"]);
  }
  for (const [look, text] of shown) {
    const item = make("li");
    const swatch = item.appendChild(make("canvas"));
    item.append(text);
    byId("legend").append(item);
    canvas(swatch, () => 12, (context, width, tall) => {
      const c = colours;
      const fills = { layer: c.compute, resident: c.resident, outside: c.outside, wait: hatch(context, c.wait), copy: c.copy, queued: c.copy, ready: c.ready, sync: c.copy };
      context.fillStyle = fills[look];
      if (look === "queued") context.fillRect(0, 5, width, 2); else context.fillRect(0, 0, width, tall);
      context.strokeStyle = { wait: c.wait, ready: c.copy }[look] || "transparent";
      context.strokeRect(0.5, 0.5, width - 1, tall - 1);
      if (look === "sync") { context.fillStyle = c.wait; context.fillRect(0, 0, width, 4); }
    });
  }
}

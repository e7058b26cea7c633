// What the engine recorded, decoded: differences become times, all in ticks of 100 ns.
const data = JSON.parse(document.getElementById("data").textContent);
const stats = data.stats;

function summed(differences) {
  const times = new Float64Array(differences.length);
  let at = 0;
  for (let i = 0; i < times.length; i++) times[i] = at += differences[i];
  return times;
}

// Columns of equal length as begin and end; `step` and the like stay beside them.
function stretch(from, took, more) {
  const to = new Float64Array(from.length);
  for (let i = 0; i < to.length; i++) to[i] = from[i] + Math.max(took[i], 0);
  return Object.assign({}, more, { from, to, count: from.length });
}

const steps = stretch(summed(data.steps.from), data.steps.took, data.steps);
const computes = stretch(summed(data.computes.from), data.computes.took, data.computes);
const copies = stretch(summed(data.loads.copy_from), data.loads.copy, data.loads);
const asked = Float64Array.from(copies.to, (to, i) => to + copies.ahead[i]);
const waits = stretch(asked, copies.pre, copies);
const visits = stretch(waits.to, copies.visit, copies);
const streamedLayers = stats.plan.streamed_layers;
const isStreamed = new Set(streamedLayers);

let runEnds = 1;
for (const lane of [steps, copies, visits]) {
  for (let i = 0; i < lane.count; i++) runEnds = Math.max(runEnds, lane.to[i]);
}

// Text. Three digits that matter, and the unit that fits.
function digits(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.01) return value.toPrecision(2);
  return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

function time(ticks) {
  const us = ticks / 10;
  const size = Math.abs(us);
  if (size < 1000) return digits(us) + " µs";
  if (size < 1e6) return digits(us / 1e3) + " ms";
  return digits(us / 1e6) + " s";
}

function millis(ms) { return time(ms * 1e4); }

function scaled(value, base, units) {
  let unit = 0;
  while (value >= base * 0.9995 && unit + 1 < units.length) { value /= base; unit++; }
  return unit === 0 ? value.toFixed(0) + " " + units[0] : digits(value) + " " + units[unit];
}
function traffic(bytes) { return scaled(bytes, 1000, ["B", "kB", "MB", "GB", "TB"]); }
function storage(bytes) { return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]); }
function percent(share) { return (share * 100).toFixed(share < 0.0995 ? 1 : 0) + " %"; }
// A share of a measured peak: above all of it the peak was measured too low.
function ofPeak(share) { return share > 1.005 ? "over 100 % (the peak was measured too low)" : percent(share); }
function plural(count, word) { return count + " " + word + (count === 1 ? "" : "s"); }
function stepName(step) { return step === 0 ? "prompt" : "token " + (step + 1); }

// A list of texts, each plain or in bold, put into `element`.
function write(element, parts) {
  element.replaceChildren(...parts.map((part) => {
    if (typeof part === "string") return document.createTextNode(part);
    const bold = document.createElement("b");
    bold.textContent = part.b;
    return bold;
  }));
}

function make(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}
const byId = (id) => document.getElementById(id);

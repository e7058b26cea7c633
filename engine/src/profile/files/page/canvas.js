// Canvases that follow the width of the page, the density of the screen and the theme.
const painters = new Set();

function theme() {
  const style = getComputedStyle(document.documentElement);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue("--" + name).trim() });
}
let colours = theme();

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const LABEL = FONT.replace("12px", "11px");

// `paint(context, width)` draws in CSS pixels; `height(width)` says how much room it wants.
function canvas(element, height, paint) {
  let asked = false;
  function now() {
    asked = false;
    const width = Math.max(1, Math.floor(element.clientWidth));
    const tall = Math.max(1, Math.round(height(width)));
    const density = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * density), Math.round(tall * density)];
    if (element.width !== w || element.height !== h) {
      element.width = w;
      element.height = h;
      element.style.height = tall + "px";
    }
    const context = element.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, tall);
    context.font = FONT;
    context.textBaseline = "middle";
    context.lineWidth = 1;
    paint(context, width, tall);
  }
  function soon() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(now);
  }
  painters.add(soon);
  new ResizeObserver(soon).observe(element);
  now();
  return soon;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours = theme();
  for (const paint of painters) paint();
});

// Diagonal lines, so that waiting is told apart without its colour.
function hatch(context, colour) {
  const size = 6;
  const density = window.devicePixelRatio || 1;
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(size * density);
  const ink = tile.getContext("2d");
  ink.scale(tile.width / size, tile.height / size);
  ink.strokeStyle = colour;
  ink.lineWidth = 2.4;
  ink.beginPath();
  for (const offset of [-size, 0, size]) {
    ink.moveTo(offset - 1, size + 1);
    ink.lineTo(offset + size + 1, -1);
  }
  ink.stroke();
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(1 / density));
  return pattern;
}

// Round numbers from `least` to `most`, about `count` of them.
function ticks(least, most, count) {
  const rough = (most - least) / Math.max(1, count);
  if (!(rough > 0)) return [least];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((by) => by * power).find((step) => step >= rough);
  const found = [];
  for (let i = Math.ceil(least / step - 1e-9); i * step <= most + step * 1e-9; i++) found.push(i * step);
  return found;
}

function tickText(value, step) {
  const places = Math.max(0, Math.min(9, -Math.floor(Math.log10(step) + 1e-9)));
  return value.toFixed(places);
}

// Where pointing at a canvas is told in the line below it.
function readout(element, line, resting, tell) {
  const rest = () => write(line, [resting()]);
  element.addEventListener("pointermove", (event) => {
    const box = element.getBoundingClientRect();
    const told = tell(event.clientX - box.left, event.clientY - box.top, box.width);
    if (told) write(line, told); else rest();
  });
  element.addEventListener("pointerleave", rest);
  rest();
}

// The first index whose time is at least `when`, in a column that grows.
function firstFrom(column, when) {
  let [low, high] = [0, column.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < when) low = middle + 1; else high = middle;
  }
  return low;
}

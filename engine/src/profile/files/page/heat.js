// How long each streamed layer was waited for, token by token. More tokens than pixels share a
// column, and a column shows the worst of them.
function startHeat() {
  if (streamedLayers.length === 0 || copies.count === 0) {
    byId("heat-body").hidden = true;
    const none = byId("heat-none");
    none.hidden = false;
    none.textContent = streamedLayers.length === 0
      ? "Every layer is resident: nothing is streamed, so nothing is waited for."
      : "No load was recorded.";
    return;
  }
  const rows = streamedLayers.length;
  const rowOf = new Map(streamedLayers.map((layer, row) => [layer, row]));
  const pre = new Float64Array(rows * steps.count);
  const sync = new Uint8Array(rows * steps.count);
  const seen = new Uint8Array(rows * steps.count);
  // A mark on every cell would mark none.
  const allSync = copies.sync.every(Boolean);
  for (let i = 0; i < copies.count; i++) {
    const cell = copies.step[i] * rows + rowOf.get(copies.layer[i]);
    pre[cell] = copies.pre[i];
    sync[cell] = copies.sync[i];
    seen[cell] = 1;
  }
  // Nearly the longest wait: one cold start must not turn all the rest pale.
  const sorted = Float64Array.from(pre).sort();
  const longest = sorted[sorted.length - 1];
  const full = Math.max(10, sorted[Math.floor((sorted.length - 1) * 0.99)]);

  const rowHeight = rows <= 16 ? 20 : rows <= 36 ? 14 : rows <= 64 ? 9 : 6;
  const LEFT = 48;
  const BOTTOM = 36;
  const layout = (width) => {
    const wide = width - LEFT;
    const bins = Math.min(steps.count, Math.floor(wide));
    return { wide, bins, cell: Math.min(26, wide / bins) };
  };
  const mix = (value) => {
    const part = Math.min(1, value / full);
    const stops = [0, 1, 2].map((stop) => rgb(colours["heat-" + stop]));
    const [a, b, t] = part < 0.5 ? [stops[0], stops[1], part * 2] : [stops[1], stops[2], part * 2 - 1];
    return "rgb(" + a.map((v, i) => Math.round(v + (b[i] - v) * t)).join(",") + ")";
  };
  const range = (bin, bins) => [Math.floor((bin * steps.count) / bins), Math.floor(((bin + 1) * steps.count) / bins)];

  canvas(byId("heat"), () => rows * rowHeight + BOTTOM, (context, width) => {
    const { bins, cell } = layout(width);
    const shades = Array.from({ length: 65 }, (_, i) => mix((full * i) / 64));
    const gap = cell >= 5 ? 1 : 0;
    for (let bin = 0; bin < bins; bin++) {
      const [first, end] = range(bin, bins);
      for (let row = 0; row < rows; row++) {
        let [worst, late, any] = [0, 0, 0];
        for (let step = first; step < end; step++) {
          const at = step * rows + row;
          worst = Math.max(worst, pre[at]);
          late |= sync[at];
          any |= seen[at];
        }
        if (!any) continue;
        const [x, y] = [LEFT + bin * cell, row * rowHeight];
        context.fillStyle = shades[Math.round(Math.min(1, worst / full) * 64)];
        context.fillRect(x, y, cell - gap, rowHeight - 1);
        if (late && !allSync) {
          context.fillStyle = worst / full > 0.6 ? colours.page : colours.ink;
          context.fillRect(x, y + rowHeight - 4, cell - gap, 2);
        }
      }
    }
    context.font = LABEL;
    context.fillStyle = colours.muted;
    context.textAlign = "right";
    const every = Math.ceil(13 / rowHeight);
    for (let row = 0; row < rows; row += every) {
      context.fillText(streamedLayers[row], LEFT - 8, row * rowHeight + rowHeight / 2);
    }
    const base = rows * rowHeight + 10;
    context.textAlign = "center";
    const marks = ticks(1, steps.count, Math.max(1, (bins * cell) / 80)).filter((mark) => Number.isInteger(mark) && mark >= 1);
    if (!marks.includes(1)) marks.unshift(1);
    let free = -1e9;
    for (const mark of marks) {
      const x = LEFT + ((mark - 0.5) / steps.count) * bins * cell;
      if (x < free) continue;
      free = x + 34;
      context.textAlign = x > width - 16 ? "right" : "center";
      context.fillText(String(mark), Math.min(x, width), base);
    }
    context.textAlign = "left";
    context.fillText("token (1: the prompt's pass)", LEFT, base + 17);
    context.fillText("layer", 0, rowHeight / 2);
  });
  byId("heat").setAttribute("aria-label",
    "Waiting time of " + plural(rows, "streamed layer") + " over " + plural(steps.count, "token") + "; the longest is " + time(longest));

  write(byId("heat-least"), ["waited 0"]);
  write(byId("heat-most"), [time(full) + (longest > full * 1.01 ? " and more (longest " + time(longest) + ")" : "")]);
  if (copies.sync.some(Boolean)) {
    write(byId("heat-sync"), [allSync ? "every load SYNC: loaded at need" : "a line at a cell’s foot: SYNC, loaded at need"]);
  }
  canvas(byId("heat-scale"), () => 10, (context, width) => {
    for (let x = 0; x < width; x++) {
      context.fillStyle = mix((full * x) / width);
      context.fillRect(x, 0, 1, 10);
    }
  });
  readout(byId("heat"), byId("heat-readout"),
    () => "Each row is a streamed layer, each column a token; the stronger, the longer the compute waited.",
    (x, y, width) => {
      const { bins, cell } = layout(width);
      const [bin, row] = [Math.floor((x - LEFT) / cell), Math.floor(y / rowHeight)];
      if (bin < 0 || bin >= bins || row < 0 || row >= rows) return null;
      const [first, end] = range(bin, bins);
      let worst = first;
      for (let step = first; step < end; step++) {
        if (pre[step * rows + row] > pre[worst * rows + row]) worst = step;
      }
      const at = worst * rows + row;
      const among = end - first > 1 ? " (the longest of " + (end - first) + " tokens here)" : "";
      return [{ b: "layer " + streamedLayers[row] }, ", " + stepName(worst) + ": waited " + time(pre[at]) + ", " + (sync[at] ? "SYNC" : "ASYNC") + among];
    });
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

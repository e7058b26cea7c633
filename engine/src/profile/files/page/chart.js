// A line over time, with labelled axes from zero. More points than pixels become a band from the
// least to the most; a mean over neighbours runs through it.
function chart(element, line, { xs, ys, unit, value, resting, smooth, mark, name }) {
  const [LEFT, TOP, RIGHT, BOTTOM] = [46, 22, 10, 36];
  const count = xs.length;
  if (count === 0) {
    element.hidden = true;
    write(line, [resting]);
    return;
  }
  const least = xs[0];
  const most = count > 1 ? xs[count - 1] : xs[0] + 1;
  let top = mark ? mark.value : 0;
  for (const y of ys) top = Math.max(top, y);
  top = top * 1.08 || 1;
  const means = smooth ? moving(ys, Math.max(1, Math.round(count / 40))) : null;
  const place = (width, tall) => ({
    x: (x) => LEFT + ((x - least) / (most - least)) * (width - LEFT - RIGHT),
    y: (y) => tall - BOTTOM - (y / top) * (tall - TOP - BOTTOM),
  });
  canvas(element, (width) => (width < 480 ? 190 : 230), (context, width, tall) => {
    const at = place(width, tall);
    const c = colours;
    context.font = LABEL;
    const levels = ticks(0, top, 4);
    for (const level of levels) {
      const y = Math.round(at.y(level)) + 0.5;
      line2(context, c.grid, [[LEFT, y], [width - RIGHT, y]]);
      context.fillStyle = c.muted;
      context.textAlign = "right";
      context.fillText(tickText(level, levels[1] - levels[0] || 1), LEFT - 7, y);
    }
    const marks = count > 1 ? ticks(least, most, (width - LEFT) / 90) : [least];
    for (const mark of marks) {
      context.textAlign = at.x(mark) > width - 24 ? "right" : "center";
      context.fillText(count > 1 ? tickText(mark, marks[1] - marks[0] || 1) : digits(least), Math.min(at.x(mark), width), tall - BOTTOM + 13);
    }
    context.textAlign = "left";
    context.fillText(unit, 0, 8);
    context.fillText("time since the start, s", LEFT, tall - 6);
    if (mark) {
      const y = at.y(mark.value);
      context.setLineDash([5, 4]);
      line2(context, c.muted, [[LEFT, y], [width - RIGHT, y]]);
      context.setLineDash([]);
      context.textAlign = "right";
      context.fillText(mark.text, width - RIGHT, y - 8);
    }
    const [faint, strong] = [c.resident, c.compute];
    const points = (values) => Array.from(values, (y, i) => [at.x(xs[i]), at.y(y)]);
    if (count > width) band(context, means ? faint : strong, points(ys), width);
    else line2(context, means ? faint : strong, points(ys), means ? 1 : 2);
    if (means) line2(context, strong, points(means), 2);
    if (count <= 60) {
      context.fillStyle = strong;
      for (const [x, y] of points(ys)) {
        context.beginPath();
        context.arc(x, y, 2.2, 0, 7);
        context.fill();
      }
    }
  });
  element.setAttribute("aria-label", name);
  readout(element, line, () => resting, (x, y, width) => {
    const when = least + ((x - LEFT) / (width - LEFT - RIGHT)) * (most - least);
    let i = Math.min(count - 1, firstFrom(xs, when));
    if (i > 0 && when - xs[i - 1] < xs[i] - when) i--;
    return value(i);
  });
}

function line2(context, colour, points, width) {
  context.strokeStyle = colour;
  context.lineWidth = width || 1;
  context.lineJoin = "round";
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
  context.lineWidth = 1;
}

function band(context, colour, points, width) {
  const columns = Array.from({ length: Math.ceil(width) + 1 }, () => null);
  for (const [x, y] of points) {
    const column = columns[Math.round(x)];
    if (column) { column[0] = Math.min(column[0], y); column[1] = Math.max(column[1], y); }
    else columns[Math.round(x)] = [y, y];
  }
  context.fillStyle = colour;
  columns.forEach((column, x) => column && context.fillRect(x, column[0], 1, Math.max(1, column[1] - column[0])));
}

// The mean of `reach` neighbours on either side.
function moving(values, reach) {
  const sums = new Float64Array(values.length + 1);
  for (let i = 0; i < values.length; i++) sums[i + 1] = sums[i] + values[i];
  return Array.from(values, (_, i) => {
    const [from, to] = [Math.max(0, i - reach), Math.min(values.length, i + reach + 1)];
    return (sums[to] - sums[from]) / (to - from);
  });
}

function startCharts() {
  const rates = { xs: [], ys: [] };
  for (let i = 1; i < steps.count; i++) {
    rates.xs.push(steps.to[i] / 1e7);
    rates.ys.push(steps.units[i] * 1e7 / Math.max(1, steps.to[i] - steps.from[i]));
  }
  const decoded = rates.xs.length;
  chart(byId("speed"), byId("speed-readout"), {
    ...rates,
    unit: "tok/s",
    smooth: decoded > 20,
    name: "Tokens per second over time" + (stats.tokens_per_s ? ", " + digits(stats.tokens_per_s) + " on the whole" : ""),
    resting: decoded === 0
      ? "No pass came after the prompt’s: there is no decode speed to show."
      : "Each pass after the prompt’s by its own time" + (decoded > 20 ? "; the strong line is a mean over neighbours." : "."),
    value: (i) => [{ b: stepName(i + 1) }, ": " + digits(rates.ys[i]) + " tok/s, " + time(steps.to[i + 1] - steps.from[i + 1]) + ", " + digits(rates.xs[i]) + " s after the start"],
  });
  const held = { xs: [], ys: [], step: [] };
  steps.memory_kib.forEach((kib, step) => {
    if (kib === null) return;
    held.xs.push(steps.to[step] / 1e7);
    held.ys.push(kib / 1024);
    held.step.push(step);
  });
  const peak = stats.memory.peak_bytes;
  chart(byId("memory"), byId("memory-readout"), {
    ...held,
    unit: "MiB",
    name: "Memory of the process over time",
    mark: peak ? { value: peak / 1048576, text: "peak " + storage(peak) } : null,
    resting: held.xs.length ? "Held at the end of each pass." : "The system does not say how much memory the process holds.",
    value: (i) => [{ b: stepName(held.step[i]) }, ": " + storage(held.ys[i] * 1048576) + ", " + digits(held.xs[i]) + " s after the start"],
  });
}

// A small part of markdown, made into elements: its blocks. The text is anything a model may write,
// so each search has a bound: no text takes more than a time that grows as it does.

const DEPTH = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6}) (.*)$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])(?: (.*))?$/;
const QUOTE = /^ {0,3}> ?(.*)$/;

// The blocks that `lines` are: {kind, source} and what each kind needs.
function blocksOf(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const [from, line] = [at, lines[at]];
    let found;
    if (line.trim() === "") {
      at++;
      continue;
    }
    const add = (block) => blocks.push({ ...block, source: lines.slice(from, at).join("\n") });
    if ((found = FENCE.exec(line))) {
      const inside = [];
      const ends = (end) => {
        const close = end.trim();
        return close.startsWith(found[1]) && close === found[1][0].repeat(close.length);
      };
      for (at++; at < lines.length && !ends(lines[at]); at++) inside.push(lines[at]);
      at++;
      const name = found[2].trim().split(/\s/)[0].slice(0, 40);
      add({ kind: "code", name, text: inside.join("\n") });
    } else if ((found = HEADING.exec(line))) {
      at++;
      add({ kind: "heading", level: found[1].length, text: found[2].trim().replace(/ #+$/, "") });
    } else if (RULE.test(line)) {
      at++;
      add({ kind: "rule" });
    } else if (QUOTE.test(line)) {
      const inside = [];
      for (; at < lines.length && (found = QUOTE.exec(lines[at])); at++) inside.push(found[1]);
      add({ kind: "quote", lines: inside });
    } else if (ITEM.test(line)) {
      const list = listAt(lines, at);
      at = list.end;
      add(list);
    } else if (line.includes("|") && isTableLine(lines[at + 1])) {
      const rows = [cellsOf(line)];
      for (at += 2; lines[at]?.includes("|"); at++) rows.push(cellsOf(lines[at]));
      add({ kind: "table", rows });
    } else {
      for (at++; at < lines.length && lines[at].trim() !== "" && !starts(lines[at]); at++);
      const trimmed = lines.slice(from, at).map((one) => one.trim());
      add({ kind: "text", text: trimmed.join("\n") });
    }
  }
  return blocks;
}

// The list that begins at `at`: its items, each as lines of blocks of its own, and where it ends.
function listAt(lines, at) {
  const [, { length: indent }, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const isOurs = (item) =>
    item && [0, 1].includes(item[1].length - indent) && /\d/.test(item[2]) === ordered;
  const items = [];
  let inner = 0;
  for (; at < lines.length; at++) {
    const line = lines[at];
    const item = RULE.test(line) ? null : ITEM.exec(line);
    const depth = line.length - line.trimStart().length;
    if (isOurs(item)) {
      inner = item[1].length + item[2].length + 1;
      items.push([item[3] ?? ""]);
    } else if (line.trim() === "") {
      // A blank line is inside where what follows it is the list's still.
      const after = lines[at + 1] ?? "";
      if (!after.startsWith(" ".repeat(indent + 2)) && !isOurs(ITEM.exec(after))) break;
      items.at(-1).push("");
    } else if (depth > indent || !starts(line)) {
      items.at(-1).push(line.slice(Math.min(depth, inner)));
    } else break;
  }
  return { kind: "list", ordered, first: ordered ? parseInt(mark, 10) : 1, items, end: at };
}

const starts = (line) => [FENCE, HEADING, QUOTE, ITEM, RULE].some((one) => one.test(line));
const cellsOf = (line) => {
  const cells = line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|");
  return cells.map((cell) => cell.trim());
};
const isTableLine = (line) =>
  line !== undefined && line.includes("-") && cellsOf(line).every((cell) => /^:?-+:?$/.test(cell));

function elementOf(block, depth) {
  switch (block.kind) {
    case "code":
      return codeElement(block);
    case "rule":
      return make("hr");
    case "heading":
      return inline(make(block.level < 3 ? "h3" : "h4"), block.text);
    case "quote":
      return nested(make("blockquote"), block.lines, depth);
    case "list": {
      const list = make(block.ordered ? "ol" : "ul");
      if (block.ordered && block.first !== 1) list.start = block.first;
      for (const item of block.items) list.append(nested(make("li"), item, depth));
      return list;
    }
    case "table": {
      const table = make("table");
      block.rows.forEach((row, index) => {
        const line = table.insertRow();
        for (const cell of row) line.append(inline(make(index === 0 ? "th" : "td"), cell));
      });
      const box = make("div", "scroll");
      box.tabIndex = 0;
      box.append(table);
      return box;
    }
    default:
      return inline(make("p"), block.text);
  }
}

function nested(parent, lines, depth) {
  if (depth >= DEPTH) return inline(parent, lines.join("\n"));
  for (const block of blocksOf(lines)) {
    // The first line of an item stands beside its mark.
    const beside = block.kind === "text" && parent.tagName === "LI" && !parent.firstChild;
    if (beside) inline(parent, block.text);
    else parent.append(elementOf(block, depth + 1));
  }
  return parent;
}

function codeElement(block) {
  const [box, head, pre, code] = [make("div", "code"), make("div"), make("pre"), make("code")];
  code.append(document.createTextNode(block.text));
  head.append(make("span", "", block.name || "text"), copyButton(() => code.textContent));
  pre.tabIndex = 0;
  pre.append(code);
  box.append(head, pre);
  return box;
}

// Shows `source` in `parent`. Blocks that did not change since the last call are left alone, so a
// growing answer costs what its last block costs, and a selection above it stays. Gives the
// elements of the blocks.
const shown = new WeakMap();
function showText(parent, source) {
  const before = shown.get(parent) ?? [];
  const blocks = blocksOf(source.split("\n"));
  const now = blocks.map((block, index) => {
    const old = before[index];
    if (old?.source === block.source) return old;
    if (old?.kind === "code" && block.kind === "code" && old.name === block.name) {
      old.element.querySelector("code").firstChild.data = block.text;
      return { ...block, element: old.element };
    }
    const element = elementOf(block, 0);
    if (old) old.element.replaceWith(element);
    else parent.append(element);
    return { ...block, element };
  });
  for (const gone of before.slice(blocks.length)) gone.element.remove();
  shown.set(parent, now);
  return now;
}

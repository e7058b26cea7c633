// Markdown within a line: code, bold, italic, struck, links; everything else as it stands.

// So far an end is looked for.
const REACH = 4000;
const SIGNS = /[\\`*_~[!<\n]|https?:\/\//g;
const MARKS = {
  "\n": (_, at) => ({ node: make("br"), end: at + 1 }),
  "\\": ({ source }, at) =>
    /[!-/:-@[-`{-~]/.test(source[at + 1] ?? "") ? { node: source[at + 1], end: at + 2 } : null,
  "`": codeAt,
  "*": emphasisAt,
  _: emphasisAt,
  "~": emphasisAt,
  "[": linkAt,
  "!": linkAt,
  "<": addressAt,
  h: addressAt,
};

// Appends `source` to `parent`.
function inline(parent, source, depth = 0) {
  const here = { source, depth, inLink: parent.tagName === "A", searched: {} };
  let [plain, at] = ["", 0];
  while (at < source.length) {
    SIGNS.lastIndex = at;
    const found = SIGNS.exec(source);
    plain += source.slice(at, found?.index);
    if (!found) break;
    at = found.index;
    const made = MARKS[source[at]](here, at);
    if (made?.node) {
      if (plain) parent.append(plain);
      plain = "";
      parent.append(made.node);
    } else {
      // A mark that ends nowhere is itself.
      plain += source.slice(at, made?.end ?? at + 1);
    }
    at = made?.end ?? at + 1;
  }
  if (plain) parent.append(plain);
  return parent;
}

// Each of these: what begins at `at` and where it ends; without a node, how far it is plain text.

function codeAt({ source }, at) {
  const ticks = /^`{1,8}/.exec(source.slice(at, at + 8))[0];
  const from = at + ticks.length;
  const length = source.slice(from, from + REACH).indexOf(ticks);
  if (length < 1) return { end: from };
  return {
    node: make("code", "", source.slice(from, from + length).replace(/^ (.+) $/s, "$1")),
    end: from + length + ticks.length,
  };
}

function emphasisAt({ source, depth, searched }, at) {
  const sign = source[at];
  let run = 1;
  while (run < 3 && source[at + run] === sign) run++;
  if (sign !== "*" && run === 3) run = 2;
  const mark = sign.repeat(run);
  const from = at + run;
  const inWord = sign === "_" && /\w/.test(source[at - 1] ?? "");
  const begins = mark !== "~" && !inWord && /\S/.test(source[from] ?? "");
  if (!begins || depth >= DEPTH) return { end: from };
  const end = emphasisEnd(source, mark, from, searched[mark] ?? 0);
  if (end < 0) {
    searched[mark] = from + REACH;
    return { end: from };
  }
  const node = make(sign === "~" ? "s" : run === 2 ? "strong" : "em");
  inline(run === 3 ? node.appendChild(make("strong")) : node, source.slice(from, end), depth + 1);
  return { node, end: end + run };
}

// Where the emphasis that began before `from` ends, or -1. Before `searched` there is no end.
function emphasisEnd(source, mark, from, searched) {
  const most = Math.min(source.length, from + REACH);
  for (let at = Math.max(from + 1, searched); at < most; at++) {
    if (source[at] === "`") {
      const end = source.indexOf("`", at + 1);
      if (end > 0 && end < most) at = end;
    } else if (source[at] === mark[0]) {
      let run = 1;
      while (source[at + run] === mark[0]) run++;
      const goesOn = mark[0] === "_" && /\w/.test(source[at + run] ?? "");
      // In a run of three the mark that began last ends first.
      const fits = run === mark.length || run === 3;
      if (fits && !goesOn && /\S/.test(source[at - 1])) return at + run - mark.length;
      at += run - 1;
    }
  }
  return -1;
}

const LINK = /^([^\]\n]{0,400})\]\(\s?<?([^\s<>]{1,2000}?)>?(?: "[^"\n]{0,200}")?\)/;

// A link, or a picture, which is shown as a link: nothing is fetched.
function linkAt({ source, depth, inLink }, at) {
  const open = at + (source[at] === "!" ? 2 : 1);
  if (source[open - 1] !== "[" || inLink || depth >= DEPTH) return null;
  if (!source.slice(open, open + 402).includes("](")) return null;
  const parts = LINK.exec(source.slice(open, open + 2700));
  const url = parts && webAddress(parts[2]);
  if (!url) return null;
  const link = linkTo(url);
  inline(link, (source[at] === "!" ? "Picture: " : "") + (parts[1] || url.href), depth + 1);
  const end = open + parts[0].length;
  if (link.textContent.includes(url.host)) return { node: link, end };
  // It says which host it leads to, where its text does not.
  const node = make("span");
  node.append(link, make("small", "", " (" + url.host + ")"));
  return { node, end };
}

// An address as it is, or between < and >.
function addressAt({ source, inLink }, at) {
  const bare = /^<?(https?:\/\/[^\s<>"`]{1,2000})/.exec(source.slice(at, at + 2010))?.[1];
  if (!bare || inLink) return null;
  const from = at + (source[at] === "<" ? 1 : 0);
  const enclosed = from > at && source[from + bare.length] === ">";
  // A full stop or a bracket after an address is the sentence's.
  const words = enclosed ? bare : bare.replace(/[.,;:!?*_'\])]{1,8}$/, "");
  const url = webAddress(words);
  if (!url) return null;
  const node = linkTo(url);
  node.textContent = words;
  return { node, end: from + words.length + (enclosed ? 1 : 0) };
}

// An address that may be a link: http and https, nothing that runs or opens a program.
function webAddress(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:"].includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

function linkTo(url) {
  return Object.assign(make("a"), {
    href: url.href,
    title: url.href,
    target: "_blank",
    rel: "noopener noreferrer nofollow",
  });
}

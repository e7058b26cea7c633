// Settings: how answers are drawn, the system prompt, the key and the theme.

// Name in a request, label, least, most, step, hint.
const FIELDS = [
  ["temperature", "Temperature", 0, 2, 0.05, "0 takes the likeliest; more is more varied."],
  ["top_p", "Top p", 0, 1, 0.01, "Only the likeliest that sum to this."],
  ["top_k", "Top k", 0, 100000, 1, "Only this many of the likeliest."],
  ["min_p", "Min p", 0, 1, 0.01, "Only what has this share of the likeliest."],
  ["seed", "Seed", 0, Number.MAX_SAFE_INTEGER, 1, "The same seed repeats an answer."],
  ["max_tokens", "Most tokens", 1, 10000000, 1, "Where an answer ends at the latest."],
];

function fieldElement([id, label, min, max, step, hint]) {
  const field = make("input");
  const limits = { type: "number", inputMode: "decimal", min, max, step };
  Object.assign(field, limits, { id, placeholder: "default" });
  const title = Object.assign(make("label", "", label), { htmlFor: id });
  const words = Object.assign(make("p", "hint", hint), { id: id + "-hint" });
  field.setAttribute("aria-describedby", words.id);
  field.addEventListener("input", () => {
    const good = field.checkValidity();
    const steps = step === 1 ? ", a whole number." : ", in steps of " + step + ".";
    words.textContent = good ? hint : "From " + min + " to " + max + steps;
    if (!good) return;
    if (field.value === "") delete settings[id];
    else settings[id] = Number(field.value);
    keepSettings();
  });
  const box = make("div");
  box.append(title, field, words);
  return box;
}

function buildSettings() {
  byId("fields").append(...FIELDS.map(fieldElement));
  on("thinking", "change", () => {
    settings.thinking = byId("thinking").value;
    keepSettings();
  });
  on("system", "input", () => {
    current.system = byId("system").value;
    keepChat(current);
  });
  on("settings-done", "click", () => byId("settings").close());
  on("settings", "close", takeKey);
  on("show-settings", "click", () => openSettings("system"));
}

function openSettings(at) {
  for (const [name] of FIELDS) byId(name).value = isNumber(settings[name]) ? settings[name] : "";
  byId("thinking").value = ["on", "off"].includes(settings.thinking) ? settings.thinking : "";
  byId("system").value = current.system;
  byId("key").value = keyOf();
  byId("settings").showModal();
  byId(at).focus();
}

function takeKey() {
  const key = byId("key").value.trim();
  if (key === keyOf()) return;
  if (/[^\x21-\x7e]/.test(key)) {
    const words = "An API key has letters, digits and signs of plain ASCII only; this one has ";
    return notify(words + "others, and was not taken.", [], "bad");
  }
  store("sessionStorage")?.setItem("engine.key", key);
  panelStream?.abort();
  watch();
}

// The theme of the system, or one of the two; the button goes through the three.
const THEMES = { "": "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  named(byId("theme"), THEMES[theme]).title = THEMES[theme];
}

function nextTheme() {
  const names = Object.keys(THEMES);
  const now = names.indexOf(document.documentElement.dataset.theme);
  const theme = names[(now + 1) % names.length];
  showTheme(theme);
  keep("engine.theme", theme);
}

// ---- Settings ---------------------------------------------------------------------------------

const FIELDS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, hint: "0 takes the likeliest; more is more varied." },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: 0.01, hint: "Only the likeliest that sum to this." },
  { name: "top_k", label: "Top k", min: 0, max: 100000, step: 1, hint: "Only this many of the likeliest." },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, hint: "Only what has this share of the likeliest." },
  { name: "seed", label: "Seed", min: 0, max: 9007199254740991, step: 1, hint: "The same seed repeats an answer." },
  { name: "max_tokens", label: "Most tokens", min: 1, max: 10000000, step: 1, hint: "Where an answer ends at the latest." },
];

function buildSettings() {
  for (const { name, label, hint, ...limits } of FIELDS) {
    const box = make("div");
    const field = Object.assign(make("input"), { type: "number", id: name, placeholder: "default", ...limits });
    field.inputMode = "decimal";
    const title = Object.assign(make("label", "", label), { htmlFor: name });
    const words = Object.assign(make("p", "hint", hint), { id: name + "-hint" });
    field.setAttribute("aria-describedby", words.id);
    field.addEventListener("input", () => {
      if (!field.checkValidity()) {
        words.textContent = "From " + limits.min + " to " + limits.max + (limits.step === 1 ? ", a whole number." : ", in steps of " + limits.step + ".");
        return;
      }
      words.textContent = hint;
      if (field.value === "") delete settings[name];
      else settings[name] = Number(field.value);
      keep("engine.settings", settings);
    });
    box.append(title, field, words);
    byId("fields").append(box);
  }
  byId("thinking").addEventListener("change", () => {
    settings.thinking = byId("thinking").value;
    keep("engine.settings", settings);
  });
  byId("system").addEventListener("input", () => {
    current.system = byId("system").value;
    keepChat(current);
  });
  byId("settings-done").addEventListener("click", () => byId("settings").close());
  byId("settings").addEventListener("close", takeKey);
  byId("show-settings").addEventListener("click", () => openSettings());
}

function openSettings(at) {
  for (const { name } of FIELDS) byId(name).value = isNumber(settings[name]) ? settings[name] : "";
  byId("thinking").value = ["on", "off"].includes(settings.thinking) ? settings.thinking : "";
  byId("system").value = current.system;
  byId("key").value = keyOf();
  byId("settings").showModal();
  byId(at ?? "system").focus();
}

function takeKey() {
  const key = byId("key").value.trim();
  if (key === keyOf()) return;
  if (/[^\x21-\x7e]/.test(key)) {
    notify("An API key has letters, digits and signs of plain ASCII only; this one has others, and was not taken.", [], "bad");
    return;
  }
  store("sessionStorage")?.setItem("engine.key", key);
  if (panelStream) panelStream.abort();
  watch();
}

// The theme of the system, or one of the two; the button goes through the three.
const THEMES = { "": "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  byId("theme").title = THEMES[theme];
  byId("theme").setAttribute("aria-label", THEMES[theme]);
}


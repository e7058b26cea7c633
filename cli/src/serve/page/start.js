// ---- Keys and start ---------------------------------------------------------------------------

// On a narrow screen the two sides are drawers over the talk.
function openSide(side, button) {
  side.classList.add("open");
  button.setAttribute("aria-expanded", "true");
  document.querySelector(".shade").hidden = false;
  document.querySelector("main").inert = true;
  side.querySelector(".close").focus();
}

function closeSides() {
  const open = document.querySelector(".side.open");
  if (!open) return false;
  open.classList.remove("open");
  document.querySelector(".shade").hidden = true;
  document.querySelector("main").inert = false;
  const button = document.querySelector('[aria-controls="' + open.id + '"]');
  button.setAttribute("aria-expanded", "false");
  button.focus();
  return true;
}

for (const name of ["list", "panel"]) {
  const [side, button] = [byId(name + "-side"), byId("show-" + name)];
  button.addEventListener("click", () => openSide(side, button));
  side.querySelector(".close").addEventListener("click", closeSides);
}
document.querySelector(".shade").addEventListener("click", closeSides);
matchMedia("(max-width: 800px)").addEventListener("change", closeSides);
matchMedia("(max-width: 1120px)").addEventListener("change", closeSides);

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || byId("settings").open) return;
  if (!closeSides()) stop();
});
byId("draft").addEventListener("keydown", (event) => {
  // While letters are being composed, Enter takes the composition.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
byId("draft").addEventListener("input", () => { growDraft(); drawComposer(); });
byId("send").addEventListener("click", () => { if (runs.has(current.id)) stop(); else submit(); byId("draft").focus(); });
byId("newest").addEventListener("click", () => { pinned = true; toNewest(); });
byId("new").addEventListener("click", () => { startChat(); closeSides(); byId("draft").focus(); });
byId("export").addEventListener("click", exportAll);
byId("import").addEventListener("click", () => byId("import-file").click());
byId("import-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) await importFile(file);
  event.target.value = "";
});
byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const theme = names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length];
  showTheme(theme);
  keep("engine.theme", theme);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) panelStream?.abort();
  else watch();
});
addEventListener("pagehide", () => { for (const { chat } of runs.values()) keepChat(chat); });
// Another tab of this page kept or removed a conversation.
addEventListener("storage", (event) => {
  if (!event.key?.startsWith(CHAT)) return;
  const id = event.key.slice(CHAT.length);
  if (runs.has(id)) return;
  const chat = cleaned(read("localStorage", event.key));
  if (chat) chats.set(id, chat);
  else chats.delete(id);
  if (current.id === id && chat && !editing) openChat(chat);
  else drawList();
});

const theme = read("localStorage", "engine.theme");
showTheme(theme in THEMES ? theme : "");
const kept = read("localStorage", "engine.settings");
if (kept && typeof kept === "object") settings = kept;
buildSettings();
loadChats();
startChat();
growDraft();
byId("draft").focus();
watch();
document.documentElement.dataset.ready = "true";

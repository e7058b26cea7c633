// Keys, the drawers of a narrow screen, other tabs, and the start.

const shade = document.querySelector(".shade");

// On a narrow screen the two sides are drawers over the talk.
function drawer(side, button, open) {
  side.classList.toggle("open", open);
  button.setAttribute("aria-expanded", open);
  shade.hidden = !open;
  document.querySelector("main").inert = open;
  (open ? side.querySelector(".close") : button).focus();
}

function closeSides() {
  const side = document.querySelector(".side.open");
  if (side) drawer(side, document.querySelector('[aria-controls="' + side.id + '"]'), false);
  return side !== null;
}

for (const name of ["list", "panel"]) {
  const [side, button] = [byId(name + "-side"), byId("show-" + name)];
  button.addEventListener("click", () => drawer(side, button, true));
  side.querySelector(".close").addEventListener("click", closeSides);
}
shade.addEventListener("click", closeSides);
// The widths at which a side becomes a drawer, as in the style.
for (const width of [800, 1120]) {
  matchMedia("(max-width: " + width + "px)").addEventListener("change", closeSides);
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || byId("settings").open) return;
  if (!closeSides()) stop();
});
onKeys(byId("draft"), submit);
on("draft", "input", () => {
  growDraft();
  drawComposer();
});
on("send", "click", () => {
  if (runs.has(current.id)) stop();
  else submit();
  byId("draft").focus();
});
on("newest", "click", () => {
  pinned = true;
  toNewest();
});
on("new", "click", () => {
  startChat();
  closeSides();
  byId("draft").focus();
});
on("export", "click", exportAll);
on("import", "click", () => byId("import-file").click());
on("import-file", "change", async (event) => {
  const [file] = event.target.files;
  if (file) await importFile(file);
  event.target.value = "";
});
on("theme", "click", nextTheme);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) panelStream?.abort();
  else watch();
});
addEventListener("pagehide", () => {
  for (const { chat } of runs.values()) keepChat(chat);
});
// Another tab of this page kept or removed a conversation.
addEventListener("storage", (event) => {
  if (!event.key?.startsWith(CHAT)) return;
  const id = event.key.slice(CHAT.length);
  if (runs.has(id)) return;
  const chat = cleaned(read(event.key));
  if (chat) chats.set(id, chat);
  else chats.delete(id);
  if (current.id === id && chat && !editing) openChat(chat);
  else drawList();
});

const theme = read("engine.theme");
showTheme(theme in THEMES ? theme : "");
const kept = read("engine.settings");
if (kept && typeof kept === "object") settings = kept;
buildSettings();
loadChats();
startChat();
growDraft();
byId("draft").focus();
watch();
document.documentElement.dataset.ready = "true";

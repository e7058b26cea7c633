// ---- The list of conversations ----------------------------------------------------------------

let renaming = null;

function startChat() {
  const newest = newestFirst()[0];
  current = { id: newId(), title: "", system: newest?.system ?? "", updated: Date.now(), messages: [] };
  openChat(current);
}

function openChat(chat) {
  current = chat;
  editing = null;
  drawTalk();
  drawList();
}

function drawList() {
  const list = byId("list");
  const focus = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...newestFirst().filter((chat) => chat.messages.length > 0).map(chatElement));
  if (focus) list.querySelector('[data-key="' + CSS.escape(focus) + '"]')?.focus();
}

function chatElement(chat) {
  const line = make("li", (chat === current ? "here" : "") + (runs.has(chat.id) ? " busy" : ""));
  if (renaming === chat) {
    const field = make("input");
    field.value = chat.title;
    field.maxLength = 200;
    field.setAttribute("aria-label", "New name");
    const done = (save) => {
      if (renaming !== chat) return;
      renaming = null;
      if (save && field.value.trim()) {
        chat.title = field.value.trim();
        keepChat(chat);
        if (chat === current) byId("title").textContent = chat.title;
      }
      drawList();
      byId("list").querySelector('[data-key="open ' + chat.id + '"]')?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") done(true);
      if (event.key === "Escape") { event.stopPropagation(); done(false); }
    });
    field.addEventListener("blur", () => done(true));
    line.append(field);
    requestAnimationFrame(() => field.select());
    return line;
  }
  const tool = (label, name, act) => {
    const button = makeButton(label, "quiet", act);
    button.setAttribute("aria-label", label + " " + titleOf(chat));
    button.dataset.key = name + " " + chat.id;
    return button;
  };
  const open = tool(titleOf(chat), "open", () => { openChat(chat); closeSides(); byId("draft").focus(); });
  open.className = "open";
  open.title = titleOf(chat);
  open.removeAttribute("aria-label");
  if (chat === current) open.setAttribute("aria-current", "true");
  line.append(open);
  if (chat === current) {
    const tools = line.appendChild(make("div", "tools"));
    tools.append(tool("Rename", "rename", () => { renaming = chat; drawList(); }), tool("Delete", "delete", () => remove(chat)));
  }
  return line;
}

function remove(chat) {
  const run = runs.get(chat.id);
  run?.controller.abort();
  runs.delete(chat.id);
  chats.delete(chat.id);
  try {
    store("localStorage").removeItem(CHAT + chat.id);
  } catch { /* What cannot be kept cannot be removed either. */ }
  if (chat === current) startChat();
  else drawList();
  offerBack(chat, snapshot(chat), "‘" + titleOf(chat) + "’ is deleted.");
  byId("new").focus();
}


// The list of conversations: opening, naming and removing them.

let renaming = null;

function startChat() {
  const system = listed()[0]?.system ?? "";
  openChat({ id: newId(), title: "", system, updated: Date.now(), messages: [] });
}

function openChat(chat) {
  current = chat;
  editing = null;
  drawTalk();
  drawList();
}

// The focus stays at the button of the same name.
function drawList(focus = null) {
  const list = byId("list");
  if (list.contains(document.activeElement)) focus ??= document.activeElement.dataset.key;
  list.replaceChildren(...listed().map(chatElement));
  if (focus) list.querySelector('[data-key="' + CSS.escape(focus) + '"]')?.focus();
}

function chatElement(chat) {
  const line = make("li", (chat === current ? "here" : "") + (runs.has(chat.id) ? " busy" : ""));
  if (renaming === chat) {
    line.append(nameField(chat));
    return line;
  }
  const tool = (label, act) => {
    const button = named(makeButton(label, "quiet", act), label + " " + titleOf(chat));
    button.dataset.key = label + " " + chat.id;
    return button;
  };
  const open = makeButton(titleOf(chat), "open", () => {
    openChat(chat);
    closeSides();
    byId("draft").focus();
  });
  open.dataset.key = "open " + chat.id;
  open.title = titleOf(chat);
  line.append(open);
  if (chat !== current) return line;
  open.setAttribute("aria-current", "true");
  const rename = tool("Rename", () => {
    renaming = chat;
    drawList();
  });
  const tools = line.appendChild(make("div", "tools"));
  tools.append(rename, tool("Delete", () => remove(chat)));
  return line;
}

function nameField(chat) {
  const field = named(make("input"), "New name");
  field.value = chat.title;
  field.maxLength = 200;
  const done = (name) => {
    if (renaming !== chat) return;
    renaming = null;
    if (name) {
      chat.title = name;
      keepChat(chat);
      if (chat === current) drawTitle();
    }
    drawList("open " + chat.id);
  };
  const save = () => done(field.value.trim());
  onKeys(field, save, () => done(""));
  field.addEventListener("blur", save);
  requestAnimationFrame(() => field.select());
  return field;
}

function remove(chat) {
  endRun(chat);
  chats.delete(chat.id);
  try {
    store("localStorage").removeItem(CHAT + chat.id);
  } catch {
    // What cannot be kept cannot be removed either.
  }
  if (chat === current) startChat();
  else drawList();
  offerBack(chat, chat.messages, "‘" + titleOf(chat) + "’ is deleted.");
  byId("new").focus();
}

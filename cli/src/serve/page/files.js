function exportAll() {
  download("conversations.json", newestFirst().filter((chat) => chat.messages.length > 0));
}

function download(name, list) {
  const file = new Blob([JSON.stringify({ format: FORMAT, version: 1, conversations: list }, null, 1)], { type: "application/json" });
  const link = make("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10e3);
}

async function importFile(file) {
  let found;
  try {
    found = JSON.parse(await file.text());
  } catch {
    found = null;
  }
  const list = found?.format === FORMAT && Array.isArray(found.conversations) ? found.conversations : null;
  const good = (list ?? []).map(cleaned).filter((chat) => chat !== null && chat.messages.length > 0);
  if (good.length === 0) {
    notify(list ? "There are no conversations in " + file.name + "."
      : file.name + " is not a file that this page exported. Choose one that ‘Export all’ made.", [], "bad");
    return;
  }
  for (const chat of good) {
    // One that is here already stays as it is, and the imported one stands beside it.
    if (chats.has(chat.id)) chat.id = newId();
    chats.set(chat.id, chat);
    keepChat(chat);
  }
  drawList();
  const left = list.length - good.length;
  notify(plural(good.length, "conversation") + " imported" + (left > 0 ? "; " + left + " could not be read." : "."));
}


// Conversations as a file, out and in.

const FORMAT = "engine-conversations";

function exportAll() {
  const all = { format: FORMAT, version: 1, conversations: listed() };
  const file = new Blob([JSON.stringify(all, null, 1)], { type: "application/json" });
  const link = make("a");
  link.href = URL.createObjectURL(file);
  link.download = "conversations.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10e3);
}

async function importFile(file) {
  const found = await file.text().then(JSON.parse).catch(() => null);
  if (found?.format !== FORMAT || !Array.isArray(found.conversations)) {
    const words = " is not a file that this page exported. Choose one that ‘Export all’ made.";
    return notify(file.name + words, [], "bad");
  }
  const good = found.conversations.map(cleaned).filter((chat) => chat?.messages.length > 0);
  if (good.length === 0) {
    return notify("There are no conversations in " + file.name + ".", [], "bad");
  }
  for (const chat of good) {
    // One that is here already stays as it is, and the imported one stands beside it.
    if (chats.has(chat.id)) chat.id = newId();
    chats.set(chat.id, chat);
    keepChat(chat);
  }
  drawList();
  const left = found.conversations.length - good.length;
  const rest = left > 0 ? "; " + left + " could not be read." : ".";
  notify(plural(good.length, "conversation") + " imported" + rest);
}

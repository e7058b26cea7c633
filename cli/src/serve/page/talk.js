// ---- The talk ---------------------------------------------------------------------------------

// What is being answered: conversation id -> run. One a conversation.
const runs = new Map();
// The elements of each message that is shown.
let views = new WeakMap();
let [editing, pinned] = [null, true];

const talk = byId("talk");
talk.addEventListener("scroll", () => {
  pinned = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
  byId("newest").hidden = pinned;
});

function toNewest() {
  if (pinned) talk.scrollTop = talk.scrollHeight;
}

// `stay` leaves the reader at the place where they are.
function drawTalk(stay = false) {
  const top = talk.scrollTop;
  views = new WeakMap();
  const box = byId("messages");
  box.replaceChildren();
  if (current.messages.length === 0) {
    const empty = box.appendChild(make("div", "empty"));
    empty.append(make("h2", "", "What would you like to ask?"), make("p", "muted", "The panel shows what the link and the layers do while the model answers."));
  }
  for (const message of current.messages) box.append(message.role === "user" ? userElement(message) : answerElement(message));
  byId("title").textContent = titleOf(current);
  document.title = (current.title ? current.title + " - " : "") + "engine";
  pinned = !stay;
  byId("newest").hidden = true;
  if (stay) talk.scrollTop = top;
  toNewest();
  drawComposer();
}

function userElement(message) {
  const box = make("article", "message user");
  box.setAttribute("aria-label", "You");
  if (editing !== message) {
    const tools = make("div", "tools");
    tools.append(makeButton("Edit", "quiet", () => { editing = message; drawTalk(true); }));
    box.append(make("div", "said", message.content), tools);
    return box;
  }
  box.classList.add("editing");
  const field = make("textarea");
  field.value = message.content;
  field.rows = Math.min(12, message.content.split("\n").length + 1);
  field.setAttribute("aria-label", "Your message, to be sent again");
  const leave = () => {
    editing = null;
    drawTalk(true);
    byId("messages").children[current.messages.indexOf(message)]?.querySelector("button").focus();
  };
  const again = () => {
    const content = field.value.trim();
    if (!content || !mayAsk()) return;
    const chat = current;
    const before = snapshot(chat);
    chat.messages.splice(chat.messages.indexOf(message));
    editing = null;
    send(chat, content);
    offerBack(chat, before, "The message was changed, and what followed it is gone.");
    talk.focus();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); again(); }
    if (event.key === "Escape") { event.stopPropagation(); leave(); }
  });
  const tools = make("div", "row");
  tools.style.marginTop = "6px";
  tools.append(makeButton("Send again", "main", again), makeButton("Cancel", "", leave));
  box.append(field, tools);
  requestAnimationFrame(() => { field.focus(); field.scrollIntoView({ block: "nearest" }); });
  return box;
}


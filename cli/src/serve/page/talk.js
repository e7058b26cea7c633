// The conversation that is shown, and the messages of the reader's side.

// What is being answered: conversation id -> run. One a conversation.
const runs = new Map();
// The elements of each answer that is shown.
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
    const words = "The panel shows what the link and the layers do while the model answers.";
    const empty = box.appendChild(make("div", "empty"));
    empty.append(make("h2", "", "What would you like to ask?"), make("p", "muted", words));
  }
  for (const message of current.messages) {
    box.append(message.role === "user" ? userElement(message) : answerElement(message));
  }
  drawTitle();
  pinned = !stay;
  byId("newest").hidden = true;
  if (stay) talk.scrollTop = top;
  toNewest();
  drawComposer();
}

function drawTitle() {
  write("title", titleOf(current));
  document.title = (current.title ? current.title + " - " : "") + "engine";
}

function userElement(message) {
  const box = named(make("article", "message user"), "You");
  if (editing === message) return editElement(box, message);
  const edit = makeButton("Edit", "quiet", () => {
    editing = message;
    drawTalk(true);
  });
  const tools = make("div", "tools");
  tools.append(edit);
  box.append(make("div", "said", message.content), tools);
  return box;
}

function editElement(box, message) {
  box.classList.add("editing");
  const field = named(make("textarea"), "Your message, to be sent again");
  field.value = message.content;
  field.rows = Math.min(12, message.content.split("\n").length + 1);
  const leave = () => {
    editing = null;
    drawTalk(true);
    byId("messages").children[current.messages.indexOf(message)]?.querySelector("button").focus();
  };
  const again = () => {
    const content = field.value.trim();
    if (!content || !mayAsk()) return;
    const chat = current;
    const before = cutAt(chat, message);
    editing = null;
    send(chat, content);
    offerBack(chat, before, "The message was changed, and what followed it is gone.");
    talk.focus();
  };
  onKeys(field, again, leave);
  const tools = make("div", "row");
  tools.append(makeButton("Send again", "main", again), makeButton("Cancel", "", leave));
  box.append(field, tools);
  requestAnimationFrame(() => {
    field.focus();
    field.scrollIntoView({ block: "nearest" });
  });
  return box;
}

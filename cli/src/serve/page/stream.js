// Streams of server-sent events.

// The data of each event: chunks may be cut anywhere, inside a letter and
// between the two characters of an end of line too. Comments and fields that are not data are
// passed over, and an event that the stream's end cuts off is none.
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let [rest, data, endsInReturn] = ["", [], false];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      let chunk = decoder.decode(value, { stream: true });
      if (chunk === "") continue;
      if (endsInReturn && chunk[0] === "\n") chunk = chunk.slice(1);
      endsInReturn = chunk === "" ? false : chunk.endsWith("\r");
      const lines = (rest + chunk).split(/\r\n|\r|\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

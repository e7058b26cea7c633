//! Calls between tags. It must not know thoughts.

use serde_json::Value;

use super::super::style::Marks;
use super::writer::{Writer, quoted};
use super::{TextWish, ToolWish, Wish, any_object, coder};

/// The calls of a wish, if there are tools: one alternative.
pub(super) fn write(
    marks: &Marks,
    wish: &Wish,
    writer: &mut Writer<'_>,
) -> Result<Option<String>, String> {
    if wish.tools.is_empty() {
        return Ok(None);
    }
    if marks.bare_functions {
        return coder::write(marks, wish, writer).map(Some);
    }
    if marks.bare_objects {
        let calls = each(&wish.tools, writer, &object("parameters"))?;
        return Ok(Some(repeated(&calls, &format!("\"; \" {calls}"), wish)));
    }
    // The mark may come behind a text.
    let lead = match wish.text {
        TextWish::Anything => writer.until(marks.open),
        TextWish::Nothing | TextWish::Json(_) => writer.mark(marks.open),
    };
    let open = writer.mark(marks.open);
    if marks.names && marks.announces_names {
        let arguments = writer.mark("[ARGS]");
        let calls = each(&wish.tools, writer, &|name| {
            (format!("{} {arguments}", quoted(name)), String::new())
        })?;
        let more = format!("GAP? {open} {calls}");
        return Ok(Some(repeated(&format!("{lead} {calls}"), &more, wish)));
    }
    if marks.close.is_empty() {
        let calls = each(&wish.tools, writer, &object("arguments"))?;
        let calls = repeated(&calls, &format!("\", \" {calls}"), wish);
        return Ok(Some(format!("{lead} GAP? \"[\" {calls} \"]\"")));
    }
    let close = writer.mark(marks.close);
    let calls = each(&wish.tools, writer, &object("arguments"))?;
    let whole = format!("\"\\n\" {calls} \"\\n\" {close}");
    let more = format!("GAP? {open} {whole}");
    Ok(Some(repeated(&format!("{lead} {whole}"), &more, wish)))
}

/// What stands before and behind a tool's arguments, for its name.
type Around<'a> = dyn Fn(&str) -> (String, String) + 'a;

/// An object with the name and the arguments under this key.
fn object(key: &'static str) -> impl Fn(&str) -> (String, String) {
    move |name| {
        let name = Value::from(name);
        let before = format!("{{\"name\": {name}, \"{key}\": ");
        (quoted(&before), quoted("}"))
    }
}

/// A call of any of the tools.
fn each(
    tools: &[ToolWish],
    writer: &mut Writer<'_>,
    around: &Around<'_>,
) -> Result<String, String> {
    let mut calls = Vec::with_capacity(tools.len());
    for tool in tools {
        let (before, behind) = around(&tool.name);
        let any = any_object();
        let arguments = writer.json(tool.parameters.as_ref().unwrap_or(&any));
        let arguments =
            arguments.map_err(|reason| format!("the parameters of `{}`: {reason}", tool.name))?;
        calls.push(format!("{before} {arguments} {behind}"));
    }
    Ok(writer.rule("", &calls.join(" | ")))
}

/// One, or it and more.
fn repeated(first: &str, more: &str, wish: &Wish) -> String {
    match wish.several {
        true => format!("{first} ({more})*"),
        false => first.to_owned(),
    }
}

//! Answers in gpt-oss's channels. A message has one recipient, and a call ends an answer.

use super::super::harmony::Channel;
use super::writer::{Writer, quoted};
use super::{TextWish, Wish, any_object};

pub(super) fn write(channel: Channel, wish: &Wish, writer: &mut Writer<'_>) -> Result<(), String> {
    let message = writer.mark("<|message|>");
    let header = writer.mark("<|channel|>");
    let mut bodies = Vec::new();
    let text = match &wish.text {
        TextWish::Nothing => None,
        TextWish::Anything => Some(writer.text()),
        TextWish::Json(schema) => Some(writer.json(schema)?),
    };
    if channel == Channel::Text {
        let text = text.ok_or("the prompt has begun a text, and a call is asked for")?;
        writer.start(&text);
        return Ok(());
    }
    if let Some(text) = text {
        bodies.push(format!("\"final\" {message} {text}"));
    }
    let constrain = writer.mark("<|constrain|>");
    let any = any_object();
    for tool in &wish.tools {
        let arguments = writer
            .json(tool.parameters.as_ref().unwrap_or(&any))
            .map_err(|reason| format!("the parameters of `{}`: {reason}", tool.name))?;
        let to = quoted(&format!("commentary to=functions.{} ", tool.name));
        bodies.push(format!("{to} {constrain} \"json\" {message} {arguments}"));
    }
    let answer = writer.rule("", &format!("{header} ({})", bodies.join(" | ")));
    let again = format!("{} \"assistant\"", writer.mark("<|start|>"));
    let thoughts = writer.until("<|end|>");
    let start = match channel {
        Channel::Reasoning => format!("{thoughts} {again} {answer}"),
        Channel::Role | Channel::Outside | Channel::Text => {
            let role = match channel {
                Channel::Outside => format!("{again} "),
                _ => String::new(),
            };
            format!("{role}({header} \"analysis\" {message} {thoughts} {again})? {answer}")
        }
    };
    writer.start(&start);
    Ok(())
}

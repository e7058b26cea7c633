//! A chat template, rendered over a short conversation. It must end, with text or with an error,
//! within the memory that `engine::text` promises.

#![no_main]

use engine::text::{Chat, ChatTemplate, Message};
use fuzz::Watched;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static MEMORY: Watched = Watched::new();

fuzz_target!(init: fuzz::caught_panics_are_fine(), |source: &str| {
    let chat = Chat::new([
        Message::new("system", "Be brief."),
        Message::new("user", "<think>why</think> Once upon a time"),
        Message::new("assistant", "é🙂"),
    ]);
    MEMORY.within(ChatTemplate::MEMORY_BYTES_MAX, || {
        let template = ChatTemplate::new(source.to_owned(), vec![("bos_token".into(), "<s>".into())]);
        let _ = template.and_then(|template| template.render(&chat));
    });
});

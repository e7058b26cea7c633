//! `engine chat`: plan, load, and then a turn after the other: a message, the answer as it comes,
//! commands in between. Of each turn the model reads only what it has not seen.

mod answer;
mod command;
mod input;
mod lines;
mod reasoning;
mod stats;
mod talk;

use std::path::Path;

use engine::profile::{Limits, Streaming, Summary, Window};
use engine::text::Chat;
use engine::{Blueprint, Ended, EngineError, GenerationOptions, Session};

use super::generate::load;
use super::preface;
use crate::args::TalkArgs;
use crate::failure::{Failure, Usage};
use crate::output::{self, Console};
use crate::{interrupt, prompt};
use answer::Flag;
use command::Command;
use input::{Input, Next};
use lines::Typed;
use stats::Last;
use talk::Talk;

pub fn run(args: TalkArgs) -> Result<(), Failure> {
    let console = Console::new(args.screen.quiet);
    let profile = args.screen.profile;
    let blueprint = Blueprint::new(&args.setup.source(), args.setup.options())?;
    let idle = args.setup.idle(&blueprint.plan)?;
    let options = GenerationOptions {
        // The context ends an answer, if nothing else does.
        max_new_tokens: args.conversation.max_new_tokens.unwrap_or(usize::MAX),
        sampling: args.sampling.over(&blueprint.checkpoint.generation),
        stop: args.conversation.stop.clone(),
        ..GenerationOptions::default()
    };
    let valid = options.sampling.validate();
    valid.map_err(EngineError::from)?;
    let talk = Talk::begin(&args.conversation, &blueprint.prompter()?, &console)?;

    preface::print(&blueprint, idle.as_ref(), &console);
    let peak = match profile {
        true => blueprint.measure_peak()?,
        false => None,
    };
    // Never dropped: see `generate`.
    let model = Box::leak(Box::new(load(blueprint, profile, &console)?));
    let loaded = model.loaded();
    if loaded.kept_plain || loaded.lowered_from.is_some() {
        preface::plan_again(model.blueprint(), &args.setup, &console)?;
    }
    let streaming = model.streaming(peak);
    let mut session = model.session()?;
    let flag = Flag::default();
    session.cancel_with(flag.clone());
    if profile {
        session.watch_cores();
    }
    let mut input = Input::open(!args.screen.no_history, console)?;
    let mut room = Room {
        session,
        talk,
        options,
        flag,
        console,
        profile,
        on_terminal: input.is_terminal(),
        streaming,
        window: Window::default(),
        last: None,
    };
    if room.on_terminal {
        console.say("/help lists the commands, Ctrl-D leaves.");
    }
    room.go_on(&mut input)
}

/// What follows a message or a command.
enum Then {
    GoOn,
    Leave,
    /// The run cannot go on.
    Fail(Failure),
}

/// Everything that a turn needs.
struct Room<'m> {
    session: Session<'m>,
    talk: Talk,
    options: GenerationOptions,
    flag: Flag,
    console: Console,
    profile: bool,
    on_terminal: bool,
    streaming: Streaming,
    /// The passes of the last answer.
    window: Window,
    last: Option<Last>,
}

impl Room<'_> {
    /// Turn after turn, to the end. On a terminal an error is told and the conversation goes on; a
    /// script gets it as its exit code.
    fn go_on(&mut self, input: &mut Input) -> Result<(), Failure> {
        loop {
            let prompter = self.session.model().blueprint().prompter()?;
            let most = prompter.chat_text_bytes_max();
            let next = input.next(most, || prompter.too_long(None, most).into())?;
            let then = match next {
                Next::Typed(Typed::Nothing) => Ok(Then::GoOn),
                Next::Typed(Typed::Message(text)) => self.turn(Some(text)),
                Next::Typed(Typed::Command(line)) => self.command(&line),
                Next::Interrupted => {
                    self.console.print("Ctrl-D or /quit leaves.");
                    Ok(Then::GoOn)
                }
                Next::End => Ok(Then::Leave),
            };
            match then {
                Ok(Then::GoOn) => {}
                Ok(Then::Leave) => return Ok(()),
                Err(failure) if self.on_terminal => self.console.failure(&failure),
                Ok(Then::Fail(failure)) | Err(failure) => return Err(failure),
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<Then, Failure> {
        let blueprint = self.session.model().blueprint();
        match command::parse(line)? {
            Command::System(Some(text)) => self.talk.chat.set_system(&text),
            Command::System(None) => match self.talk.chat.system() {
                Some(text) => self.console.print(text),
                None => self.console.print("There is no system message."),
            },
            Command::Clear => self.talk.chat.clear(),
            Command::Retry => return self.turn(None),
            Command::Save { path, over } => self.save(&path, over)?,
            Command::Load(path) => self.load(&path)?,
            Command::Think(thinking) => {
                if !self.talk.think(thinking, blueprint)? {
                    self.console.print(
                        "note: the chat template never names `enable_thinking`: it has no effect",
                    );
                }
            }
            Command::Stats => {
                let context = blueprint.context;
                let held = context - self.session.room();
                let (last, window) = (self.last.as_ref(), &self.window);
                for line in stats::lines((held, context), last, window, &self.streaming) {
                    self.console.print(line);
                }
            }
            Command::Help => self.console.print(command::HELP),
            Command::Quit => return Ok(Then::Leave),
        }
        Ok(Then::GoOn)
    }

    /// A message and its answer. Without a message, the last one is answered again.
    fn turn(&mut self, message: Option<String>) -> Result<Then, Failure> {
        self.talk.ask(message)?;
        let then = self.answer();
        if then.is_err() {
            self.talk.take_back();
        }
        then
    }

    fn answer(&mut self) -> Result<Then, Failure> {
        let blueprint = self.session.model().blueprint();
        let prompt = self.talk.prompt(&blueprint.prompter()?)?;
        let (tokens, context) = (prompt.ids.len(), blueprint.context);
        if tokens > context {
            return Err(Usage::ConversationTooLong { tokens, context }.into());
        }
        let mut options = self.options.clone();
        // The same draws would give the same answer again.
        options.sampling.seed = options.sampling.seed.wrapping_add(self.talk.retries);
        let claimed = interrupt::claim(&self.flag);
        self.window.clear();
        let answer = answer::give(
            &mut self.session,
            prompt,
            options,
            &mut self.window,
            &self.console,
        )?;
        let interrupted = claimed.is_set();
        drop(claimed);
        if let Some(failure) = answer.failed {
            return Ok(Then::Fail(failure));
        }
        let ended = answer.last.report.ended;
        self.last = Some(answer.last);
        match ended == Some(Ended::Interrupted) && answer.text.is_empty() {
            true => {
                self.talk.take_back();
                self.console.say("Nothing was said. /retry asks again.");
            }
            false => self.talk.answered(answer.text),
        }
        self.tell(ended);
        match interrupted && !self.on_terminal {
            true => Ok(Then::Fail(Failure::Interrupted)),
            false => Ok(Then::GoOn),
        }
    }

    /// What is to be said after an answer.
    fn tell(&mut self, ended: Option<Ended>) {
        let context = self.session.model().blueprint().context;
        match ended {
            Some(Ended::ContextFull) => self.console.say(format_args!(
                "note: the answer ends here, all {context} positions of the context are taken: /clear \
                 begins anew, a longer --context holds more"
            )),
            Some(Ended::MaxNewTokens) => self.console.say(format_args!(
                "note: the answer ends here, after {} tokens (--max-new-tokens)",
                self.options.max_new_tokens
            )),
            _ => {}
        }
        if self.profile && !self.window.is_empty() {
            let summary = Summary {
                token: 0,
                window: &self.window,
                streaming: &self.streaming,
            };
            self.console.print(Limits(summary).to_string().trim_end());
            self.streaming.keep_best(&self.window);
        }
    }

    fn save(&self, path: &Path, over: bool) -> Result<(), Failure> {
        if self.talk.chat.is_empty() {
            return Err(Usage::NothingToSave.into());
        }
        if !over && path.symlink_metadata().is_ok() {
            let path = path.to_path_buf();
            return Err(Usage::SaveExists { path }.into());
        }
        let json = self.talk.chat.to_json().map_err(EngineError::from)?;
        let written = output::write_whole(path, format!("{json}\n").as_bytes());
        written.map_err(|source| Failure::Write {
            file: path.display().to_string(),
            source,
        })?;
        self.console.say(format_args!(
            "Saved {} in {}",
            messages(&self.talk.chat),
            path.display()
        ));
        Ok(())
    }

    fn load(&mut self, path: &Path) -> Result<(), Failure> {
        let prompter = self.session.model().blueprint().prompter()?;
        let most_bytes = prompter.conversation_bytes_max();
        let too_long = |bytes| {
            let file = path.display().to_string();
            Usage::FileTooLong {
                file,
                bytes,
                most_bytes,
            }
            .into()
        };
        let json = prompt::of_file(path, most_bytes, too_long)?;
        let chat = Chat::from_json(json.as_bytes()).map_err(EngineError::from)?;
        let more = match chat.last_role().as_deref() {
            Some("assistant") => "",
            _ => "; /retry answers the last",
        };
        self.console
            .say(format_args!("Loaded {}{more}", messages(&chat)));
        self.talk.load(chat);
        Ok(())
    }
}

fn messages(chat: &Chat) -> String {
    match chat.len() {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

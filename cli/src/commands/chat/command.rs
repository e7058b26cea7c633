//! The commands of a conversation: what was typed behind a `/`, as a value. It must not know what
//! they do.

use std::path::PathBuf;

use crate::failure::Usage;

/// A line that begins with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Without a text: tell it.
    System(Option<String>),
    Clear,
    Retry,
    Save {
        path: PathBuf,
        over: bool,
    },
    Load(PathBuf),
    Think(bool),
    Stats,
    Help,
    Quit,
}

pub const HELP: &str = "\
/system TEXT   the system message from now on; without a text, tells it
/clear         forgets the conversation, keeps the system message
/retry         answers the last message again
/save FILE     writes the conversation as `engine generate --messages` reads it
/save! FILE    the same over a file that is there
/load FILE     goes on with a conversation that was saved
/think         asks the model to think first (the template's enable_thinking)
/nothink       asks it not to
/stats         the context, and what the last answer took
/quit          leaves; so does Ctrl-D
A message of several lines: end lines with \\, or put it between \"\"\" and \"\"\".
A message that begins with / is typed with //. Ctrl-C stops an answer and keeps what was said.";

const NAMES: [&str; 11] = [
    "/system", "/clear", "/retry", "/save", "/save!", "/load", "/think", "/nothink", "/stats",
    "/help", "/quit",
];

/// What a line that begins with `/` asks for.
pub fn parse(line: &str) -> Result<Command, Usage> {
    let line = line.trim();
    let (typed, rest) = match line.split_once(char::is_whitespace) {
        Some((name, rest)) => (name, rest.trim()),
        None => (line, ""),
    };
    let Some(name) = NAMES.into_iter().find(|name| *name == typed) else {
        return Err(Usage::UnknownCommand {
            name: typed.to_owned(),
            nearest: nearest(typed),
        });
    };
    let alone = |command| match rest.is_empty() {
        true => Ok(command),
        false => Err(Usage::CommandAlone {
            name,
            rest: rest.to_owned(),
        }),
    };
    let file = || match rest.is_empty() {
        true => Err(Usage::CommandNeeds {
            name,
            what: "a file",
        }),
        false => Ok(path(rest)),
    };
    match name {
        "/system" => Ok(Command::System((!rest.is_empty()).then(|| rest.to_owned()))),
        "/clear" => alone(Command::Clear),
        "/retry" => alone(Command::Retry),
        "/save" | "/save!" => Ok(Command::Save {
            path: file()?,
            over: name == "/save!",
        }),
        "/load" => Ok(Command::Load(file()?)),
        "/think" | "/nothink" => alone(Command::Think(name == "/think")),
        "/stats" => alone(Command::Stats),
        "/quit" => alone(Command::Quit),
        _ => alone(Command::Help),
    }
}

/// No shell is between: `~/` is the home folder here as well.
fn path(typed: &str) -> PathBuf {
    let home = typed.strip_prefix("~/").zip(std::env::var_os("HOME"));
    match home {
        Some((rest, home)) => PathBuf::from(home).join(rest),
        None => PathBuf::from(typed),
    }
}

fn nearest(typed: &str) -> &'static str {
    let near = NAMES.into_iter().min_by_key(|name| distance(typed, name));
    near.unwrap_or("/help")
}

/// How many characters have to be put in, taken out or changed. No name is long, so of a text that
/// is only its beginning counts.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(32).collect();
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_what_follows_them() {
        let text = |text: &str| Command::System(Some(text.to_owned()));
        assert_eq!(parse("/system  Be brief. "), Ok(text("Be brief.")));
        assert_eq!(parse("/system"), Ok(Command::System(None)));
        assert_eq!(parse("/nothink\t"), Ok(Command::Think(false)));
        let save = |over| Command::Save {
            path: "a b.json".into(),
            over,
        };
        assert_eq!(parse("/save a b.json"), Ok(save(false)));
        assert_eq!(parse("/save! a b.json"), Ok(save(true)));
        assert!(matches!(parse("/load"), Err(Usage::CommandNeeds { .. })));
        assert!(matches!(
            parse("/quit now"),
            Err(Usage::CommandAlone { .. })
        ));
        let commands = HELP.lines().filter(|line| line.starts_with('/'));
        for line in commands {
            let name = line.split(' ').next().unwrap();
            let parsed = parse(name);
            assert!(
                !matches!(parsed, Err(Usage::UnknownCommand { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn an_unknown_one_is_named_with_its_nearest() {
        for (typed, near) in [
            ("/sav", "/save"),
            ("/sve!", "/save!"),
            ("/exit", "/quit"),
            ("/Clear", "/clear"),
            ("/notthink", "/nothink"),
            ("/", "/save"),
        ] {
            let expected = Usage::UnknownCommand {
                name: typed.into(),
                nearest: near,
            };
            assert_eq!(parse(typed), Err(expected), "{typed}");
        }
        let long = format!("/{}", "x".repeat(1 << 20));
        assert!(parse(&long).is_err());
    }
}

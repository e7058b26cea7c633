//! What of a request has no effect: told in headers of the answer, so that a client need not guess. It
//! doesn't know what the names mean.

/// The longest value of a header that is made of names.
const HEADER_MAX: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// Fields that were read as hints, or not at all.
    pub ignored: Vec<String>,
    /// Kinds of tools that nothing here can run: the model is not told of them.
    pub withheld_tools: Vec<String>,
}

impl Notes {
    pub fn ignore(&mut self, field: &str) {
        add(&mut self.ignored, field);
    }

    pub fn withhold_tool(&mut self, kind: &str) {
        add(&mut self.withheld_tools, kind);
    }

    /// The value of the header that names the fields; `None`: there are none.
    pub fn ignored_header(&self) -> Option<String> {
        header(&self.ignored)
    }

    /// The same for the tools.
    pub fn withheld_header(&self) -> Option<String> {
        header(&self.withheld_tools)
    }
}

fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Names come from a client: what no header may hold is replaced, and a long list is cut.
fn header(names: &[String]) -> Option<String> {
    let mut value = String::new();
    for name in names {
        let plain = |c: char| match c.is_ascii_graphic() && c != ',' {
            true => c,
            false => '?',
        };
        let name: String = name.chars().map(plain).collect();
        let comma = if value.is_empty() { "" } else { ", " };
        if value.len() + comma.len() + name.len() > HEADER_MAX {
            value.push_str(comma);
            value.push_str("...");
            break;
        }
        value.push_str(comma);
        value.push_str(&name);
    }
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_once_and_as_a_header_may_hold_it() {
        let mut notes = Notes::default();
        for name in ["store", "a b\r\nX: y,z", "store"] {
            notes.ignore(name);
        }
        let told = notes.ignored_header();
        assert_eq!(told.as_deref(), Some("store, a?b??X:?y?z"));
        assert_eq!(notes.withheld_header(), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut notes = Notes::default();
        for at in 0..100 {
            notes.withhold_tool(&format!("tool_kind_{at}"));
        }
        let told = notes.withheld_header().unwrap();
        assert!(told.len() < 600 && told.ends_with(", ..."), "{told}");
    }
}

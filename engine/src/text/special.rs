//! The special tokens that stand in `tokenizer_config.json` and `special_tokens_map.json`, read as
//! transformers reads them: which of the two counts, and which of their tokens a tokenizer has to
//! know beyond those of its own file. It must not know what the tokens mean.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::error::TextError;

pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// The names that every tokenizer may have, in the order in which missing tokens are added.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A token that is found in a text before anything else is, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: bool,
    pub special: bool,
}

impl AddedToken {
    fn special(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}

/// The special tokens of a checkpoint, by what they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Tokens by their names, `bos_token` and the like.
    pub named: Vec<(String, AddedToken)>,
    /// Those without a name.
    pub extra: Vec<AddedToken>,
    /// What the configuration says about added tokens, in the order of its ids.
    pub described: Vec<AddedToken>,
}

impl SpecialTokens {
    /// Reads the content of the two files, where there are such. The map is looked at only if the
    /// configuration does not describe its added tokens, and then goes before it.
    pub fn read(config: Option<&[u8]>, map: Option<&[u8]>) -> Result<Self, TextError> {
        let config = object(TOKENIZER_CONFIG, config)?;
        Self::of(&config, map)
    }

    /// The same of a configuration that was read before.
    pub fn of(config: &Map<String, Value>, map: Option<&[u8]>) -> Result<Self, TextError> {
        let mut found = Self::default();
        let config = ConfigFile::new(TOKENIZER_CONFIG, config);
        found.described = config.described()?;
        let map = match config.fields.contains_key("added_tokens_decoder") {
            true => Map::new(),
            false => object(SPECIAL_TOKENS_MAP, map)?,
        };
        let map = ConfigFile::new(SPECIAL_TOKENS_MAP, &map);
        let mut names: Vec<String> = NAMES.map(str::to_owned).to_vec();
        names.extend(map.own_names().chain(config.own_names()));
        let described: HashMap<_, _> = found
            .described
            .iter()
            .rev()
            .map(|token| (token.content.as_str(), token))
            .collect();
        let mut seen = HashSet::new();
        let mut named = Vec::new();
        for name in names {
            if !seen.insert(name.clone()) {
                continue;
            }
            let token = match map.token(&name)? {
                Some(token) => Some(token),
                None => config.token(&name)?,
            };
            // One description of a token is enough, and the configuration's is the fuller one.
            let token = token.map(|token| match described.get(token.content.as_str()) {
                Some(&described) => described.clone(),
                None => token,
            });
            named.extend(token.map(|token| (name, token)));
        }
        found.named = named;
        found.extra = match map.extra()? {
            Some(extra) => extra,
            None => config.extra()?.unwrap_or_default(),
        };
        Ok(found)
    }

    /// Names and texts, as a chat template finds them.
    pub fn names(&self) -> Vec<(String, String)> {
        let named = self.named.iter();
        named
            .map(|(name, token)| (name.clone(), token.content.clone()))
            .collect()
    }
}

fn object(file: &'static str, json: Option<&[u8]>) -> Result<Map<String, Value>, TextError> {
    let Some(json) = json else {
        return Ok(Map::new());
    };
    serde_json::from_slice(json).map_err(|error| TextError::TokenizerConfig {
        file,
        reason: error.to_string(),
    })
}

/// One of the files that describe special tokens.
struct ConfigFile<'a> {
    file: &'static str,
    fields: &'a Map<String, Value>,
}

impl<'a> ConfigFile<'a> {
    fn new(file: &'static str, fields: &'a Map<String, Value>) -> Self {
        Self { file, fields }
    }

    fn wrong(&self, field: &str, found: &Value, expected: &str) -> TextError {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(80) {
            found.truncate(end);
            found.push('…');
        }
        TextError::TokenizerConfig {
            file: self.file,
            reason: format!("`{field}` is {found}, expected {expected}"),
        }
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// Names of tokens that only this tokenizer has: `image_token`, or those of a map.
    fn own_names(&self) -> impl Iterator<Item = String> + use<'a> {
        let fields = self.fields.iter();
        let by_ending = fields
            .filter(|(name, value)| name.ends_with("_token") && value.is_string())
            .map(|(name, _)| name.clone());
        let listed = self.get("extra_special_tokens").and_then(Value::as_object);
        by_ending.chain(listed.into_iter().flatten().map(|(name, _)| name.clone()))
    }

    fn token(&self, name: &str) -> Result<Option<AddedToken>, TextError> {
        let listed = self
            .get("extra_special_tokens")
            .and_then(|map| map.get(name));
        match listed.or_else(|| self.get(name)) {
            None => Ok(None),
            Some(value) => match self.added(name, value, true)? {
                // A token of nothing is none.
                token if token.content.is_empty() => Ok(None),
                token => Ok(Some(token)),
            },
        }
    }

    /// The tokens without a name: the older field counts where the newer one is not there.
    fn extra(&self) -> Result<Option<Vec<AddedToken>>, TextError> {
        let found = ["extra_special_tokens", "additional_special_tokens"]
            .into_iter()
            .find_map(|field| {
                let value = self.get(field)?;
                let empty = value.as_array().is_some_and(Vec::is_empty);
                (!empty && !value.is_object()).then_some((field, value))
            });
        let Some((field, value)) = found else {
            return Ok(None);
        };
        let Value::Array(list) = value else {
            return Err(self.wrong(field, value, "a list of tokens"));
        };
        let tokens = list.iter().map(|token| self.added(field, token, true));
        tokens.collect::<Result<_, _>>().map(Some)
    }

    fn described(&self) -> Result<Vec<AddedToken>, TextError> {
        const FIELD: &str = "added_tokens_decoder";
        let Some(value) = self.get(FIELD) else {
            return Ok(Vec::new());
        };
        let Value::Object(tokens) = value else {
            return Err(self.wrong(FIELD, value, "an object of ids and tokens"));
        };
        let mut by_id = Vec::new();
        for (id, token) in tokens {
            let Ok(id) = id.parse::<u64>() else {
                return Err(self.wrong(FIELD, &Value::from(id.as_str()), "ids as names"));
            };
            by_id.push((id, self.added(FIELD, token, false)?));
        }
        by_id.sort_by_key(|(id, _)| *id);
        Ok(by_id.into_iter().map(|(_, token)| token).collect())
    }

    /// A text is a special token; an object says itself what it is, unless it stands where only
    /// special ones do.
    fn added(&self, field: &str, value: &Value, special: bool) -> Result<AddedToken, TextError> {
        const EXPECTED: &str = "a string or {content}, with flags that are true or false";
        if let (Value::String(text), true) = (value, special) {
            return Ok(AddedToken::special(text));
        }
        let Some(content) = value.get("content").and_then(Value::as_str) else {
            return Err(self.wrong(field, value, EXPECTED));
        };
        let flag = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(field, value, EXPECTED)),
        };
        let special = special || flag("special")?.unwrap_or(false);
        Ok(AddedToken {
            content: content.to_owned(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?.unwrap_or(!special),
            special,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str, map: &str) -> SpecialTokens {
        SpecialTokens::read(Some(config.as_bytes()), Some(map.as_bytes())).unwrap()
    }

    fn names(tokens: &SpecialTokens) -> Vec<String> {
        let named = tokens.named.iter();
        named
            .map(|(name, token)| format!("{name}={}", token.content))
            .collect()
    }

    #[test]
    fn tokens_have_names_in_either_file() {
        let config = r#"{"bos_token": null, "eos_token": {"content": "</s>", "lstrip": false},
            "pad_token": "<pad>", "image_token": "<img>", "add_bos_token": true,
            "extra_special_tokens": {"audio_token": "<a>"}, "unk_token": ""}"#;
        let found = read(
            config,
            r#"{"bos_token": "<s>", "pad_token": {"content": "<p>"}}"#,
        );
        let expected = [
            "bos_token=<s>",
            "eos_token=</s>",
            "pad_token=<p>",
            "image_token=<img>",
            "audio_token=<a>",
        ];
        assert_eq!(names(&found), expected);
        assert!(found.named.iter().all(|(_, token)| token.special));
        assert_eq!(
            SpecialTokens::read(None, None).unwrap(),
            SpecialTokens::default()
        );
    }

    #[test]
    fn the_map_counts_where_added_tokens_are_not_described() {
        let config = r#"{"added_tokens_decoder": {"10": {"content": "b", "special": true, "rstrip": true},
            "9": {"content": "a", "special": false}}, "eos_token": "b"}"#;
        let found = read(config, r#"{"bos_token": "<s>"}"#);
        assert_eq!(names(&found), ["eos_token=b"]);
        let (_, eos) = &found.named[0];
        assert!(eos.rstrip && !eos.normalized);
        let order: Vec<_> = found
            .described
            .iter()
            .map(|token| token.content.as_str())
            .collect();
        assert_eq!(order, ["a", "b"]);
        assert!(!found.described[0].special && found.described[0].normalized);
    }

    #[test]
    fn tokens_without_a_name_are_listed_under_two() {
        let extra = |config: &str| {
            let tokens = read(config, "{}").extra;
            tokens
                .into_iter()
                .map(|token| token.content)
                .collect::<String>()
        };
        assert_eq!(
            extra(r#"{"additional_special_tokens": ["x", {"content": "y"}]}"#),
            "xy"
        );
        assert_eq!(
            extra(r#"{"extra_special_tokens": ["z"], "additional_special_tokens": ["x"]}"#),
            "z"
        );
        assert_eq!(
            extra(r#"{"extra_special_tokens": [], "additional_special_tokens": ["x"]}"#),
            "x"
        );
    }

    #[test]
    fn many_tokens_take_no_longer_than_few() {
        let tokens = |with: fn(u32) -> String| (0..50_000).map(with).collect::<Vec<_>>().join(",");
        let described = tokens(|id| format!(r#""{id}": {{"content": "t{id}"}}"#));
        let named = tokens(|id| format!(r#""n{id}_token": "t{id}""#));
        let config = format!(r#"{{"added_tokens_decoder": {{{described}}}, {named}}}"#);
        let started = std::time::Instant::now();
        assert_eq!(read(&config, "{}").named.len(), 50_000);
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    #[test]
    fn what_is_no_token_is_refused_by_name() {
        for (config, field) in [
            (r#"{"eos_token": 3}"#, "eos_token"),
            (r#"{"extra_special_tokens": "x"}"#, "extra_special_tokens"),
            (
                r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#,
                "added_tokens_decoder",
            ),
            (
                r#"{"added_tokens_decoder": {"1": "a"}}"#,
                "added_tokens_decoder",
            ),
            (
                r#"{"pad_token": {"content": "a", "lstrip": 1}}"#,
                "pad_token",
            ),
            ("[]", "invalid type"),
        ] {
            let error = SpecialTokens::read(Some(config.as_bytes()), None).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(field) && error.contains(TOKENIZER_CONFIG),
                "{error}"
            );
        }
    }
}

//! Filters of Jinja2 that cut a list or a text into pieces, or bring it to a length. The template
//! engine lacks them, or understands them differently; these give what Jinja2 gives, and ask the
//! meter first.

use std::sync::Arc;

use minijinja::{Environment, Error, Value};

use super::meter::Meter;
use super::words::{Word, counting, named, refuse, soft};

/// An item of a list, as the meter counts it.
const ITEM_BYTES: u64 = 64;

/// What Jinja2 lets a text be longer before it is cut.
const LEEWAY: usize = 5;

pub(super) fn extend(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    let filters: [(&'static str, Word); 5] = [
        ("batch", |meter, _, args| batch(meter, args)),
        ("center", |meter, _, args| center(meter, args)),
        ("slice", |meter, _, args| slice(meter, args)),
        ("truncate", |meter, _, args| truncate(meter, args)),
        ("wordcount", |meter, _, args| word_count(meter, args)),
    ];
    for (name, word) in filters {
        environment.add_filter(name, counting(word, meter));
    }
}

/// A whole number that is not negative; `None` where none was given.
fn number(value: Option<Value>, name: &str) -> Result<Option<usize>, Error> {
    let Some(value) = value.filter(|value| !value.is_none()) else {
        return Ok(None);
    };
    let number = value.as_i64().and_then(|n| usize::try_from(n).ok());
    let wrong = || refuse(format!("`{name}` must be a whole number of at least 0"));
    number.map(Some).ok_or_else(wrong)
}

/// One that has to be given, and be 1 at least.
fn count(value: Option<Value>, name: &str) -> Result<usize, Error> {
    let count = number(value, name)?.filter(|&count| count > 0);
    count.ok_or_else(|| refuse(format!("`{name}` must be a whole number of at least 1")))
}

/// Lists of so many items; the last may be filled up.
fn batch(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (list, [line_count, fill]) = named(args, ["linecount", "fill_with"])?;
    let line_count = count(line_count, "linecount")?;
    let items = meter.items(&list)?;
    let fill = fill.filter(|fill| !fill.is_none());
    let filled = match (&fill, items.len() % line_count) {
        (Some(_), short @ 1..) => line_count - short,
        _ => 0,
    };
    let made = (items.len() as u64).saturating_add(filled as u64);
    meter.may_make(made.saturating_mul(2 * ITEM_BYTES))?;
    let mut lines: Vec<Vec<Value>> = items.chunks(line_count).map(<[Value]>::to_vec).collect();
    if let (Some(last), Some(fill)) = (lines.last_mut(), fill) {
        last.extend(std::iter::repeat_n(fill, filled));
    }
    meter.made(lines.into_iter().map(Value::from).collect())
}

/// So many lists of alike length; the shorter ones may get one item more.
fn slice(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (list, [slices, fill]) = named(args, ["slices", "fill_with"])?;
    let slices = count(slices, "slices")?;
    let items = meter.items(&list)?;
    let fill = fill.filter(|fill| !fill.is_none());
    let made = (items.len() as u64).saturating_add((slices as u64).saturating_mul(2));
    meter.may_make(made.saturating_mul(ITEM_BYTES))?;
    meter.work(slices as u64)?;
    let (each, longer) = (items.len() / slices, items.len() % slices);
    let mut rest = items.as_slice();
    let columns = (0..slices).map(|at| {
        let (column, after) = rest.split_at(each + usize::from(at < longer));
        rest = after;
        let mut column = column.to_vec();
        if at >= longer {
            column.extend(fill.clone());
        }
        Value::from(column)
    });
    let columns: Value = columns.collect();
    meter.made(columns)
}

/// In the middle of a line of so many letters, as Python puts it there.
fn center(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (text, [width]) = named(args, ["width"])?;
    let width = number(width, "width")?.unwrap_or(80);
    let text = soft(meter, &text)?;
    let letters = text.chars().count();
    let missing = width.saturating_sub(letters);
    meter.may_make((text.len() as u64).saturating_add(missing as u64))?;
    let left = missing / 2 + (missing & width & 1);
    let right = missing - left;
    let made = format!("{}{text}{}", " ".repeat(left), " ".repeat(right));
    meter.made(Value::from(made))
}

/// Cut at the last space before a length, with an end that says so.
fn truncate(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (text, [length, kill_words, end, leeway]) =
        named(args, ["length", "killwords", "end", "leeway"])?;
    let length = number(length, "length")?.unwrap_or(255);
    let leeway = number(leeway, "leeway")?.unwrap_or(LEEWAY);
    let end = end.map_or_else(|| Ok("...".into()), |end| soft(meter, &end))?;
    let Some(whole) = text.as_str() else {
        return Err(refuse("only a text can be truncated"));
    };
    meter.read(&text)?;
    let end_letters = end.chars().count();
    if length < end_letters {
        return Err(refuse(format!(
            "`length` must be at least that of the end, {end_letters}"
        )));
    }
    if whole.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = whole.chars().take(length - end_letters).collect();
    let kept = match kill_words.is_some_and(|kill| kill.is_true()) {
        true => kept.as_str(),
        false => kept
            .rsplit_once(' ')
            .map_or(kept.as_str(), |(kept, _)| kept),
    };
    meter.may_make((kept.len() + end.len()) as u64)?;
    meter.made(Value::from(format!("{kept}{end}")))
}

/// Words are letters, digits and underscores.
fn word_count(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (text, []) = named(args, [])?;
    let text = soft(meter, &text)?;
    meter.work(text.len() as u64)?;
    let words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    Ok(Value::from(words.filter(|word| !word.is_empty()).count()))
}

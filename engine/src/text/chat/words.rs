//! Words of Jinja2 that the template engine lacks, or understands differently: what they give is
//! what Jinja2 gives. Each asks the meter before it makes anything.

mod kinds;
mod objects;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{
    Enumerator, Kwargs, Object, ObjectRepr, Rest, Tuple, ValueKind, ValueOrKwargs, from_args,
};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use kinds::{is_callable, is_iterable, is_map, is_same, is_sequence};
use objects::{Cycler, Joiner};

use super::library::{self, largest_number};
use super::meter::Meter;
use super::operators;
use crate::text::python;

pub(super) type Word = fn(&Meter, &mut State, &[Value]) -> Result<Value, Error>;

pub(super) fn extend(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    let filters: [(&'static str, Word); 13] = [
        ("count", |meter, _, args| length(meter, args)),
        ("d", |_, _, args| default(args)),
        ("default", |_, _, args| default(args)),
        ("e", |meter, _, args| escape(meter, args)),
        ("escape", |meter, _, args| escape(meter, args)),
        ("float", |_, _, args| float(args)),
        ("format", |meter, _, args| printf_filter(meter, args)),
        ("groupby", |meter, _, args| group_by(meter, args)),
        ("int", |_, _, args| int(args)),
        ("length", |meter, _, args| length(meter, args)),
        ("replace", |meter, _, args| replace(meter, args)),
        ("string", |meter, _, args| string(meter, args)),
        ("sum", |meter, _, args| sum(meter, args)),
    ];
    for (name, word) in filters {
        environment.add_filter(name, counting(word, meter));
    }
    let functions: [(&'static str, Word); 2] = [
        ("cycler", |_, _, args| Cycler::of(args)),
        ("joiner", |_, _, args| Joiner::of(args)),
    ];
    for (name, word) in functions {
        environment.add_function(name, counting(word, meter));
    }
    environment.add_test("callable", |value: &Value| is_callable(value));
    environment.add_test("iterable", |value: &Value| is_iterable(value));
    environment.add_test("mapping", |value: &Value| is_map(value));
    environment.add_test("sequence", |value: &Value| is_sequence(value));
    let meter = Arc::clone(meter);
    environment.add_test("sameas", move |a: &Value, b: &Value| is_same(&meter, a, b));
}

pub(super) fn counting(
    word: Word,
    meter: &Arc<Meter>,
) -> impl Fn(&mut State, Rest<ValueOrKwargs>) -> Result<Value, Error> + Send + Sync + 'static + use<>
{
    let meter = Arc::clone(meter);
    move |state, args| word(&meter, state, &args.into_values())
}

pub(super) fn refuse(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// The first argument, and those of the given names, by place or by name as in Python.
pub(super) fn named<const N: usize>(
    args: &[Value],
    names: [&'static str; N],
) -> Result<(Value, [Option<Value>; N]), Error> {
    let (placed, kwargs): (&[Value], Kwargs) = from_args(args)?;
    let Some((first, placed)) = placed.split_first() else {
        return Err(Error::from(ErrorKind::MissingArgument));
    };
    if placed.len() > N {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let mut found = [const { None }; N];
    for (at, name) in names.into_iter().enumerate() {
        let value = placed.get(at).cloned();
        let by_name = match kwargs.has(name) {
            true => Some(kwargs.get::<Value>(name)?),
            false => None,
        };
        if value.is_some() && by_name.is_some() {
            return Err(refuse(format!("argument `{name}` is given twice")));
        }
        found[at] = value.or(by_name);
    }
    kwargs.assert_all_used()?;
    Ok((first.clone(), found))
}

fn default(args: &[Value]) -> Result<Value, Error> {
    let (value, [other, boolean]) = named(args, ["default_value", "boolean"])?;
    let lax = boolean.is_some_and(|boolean| boolean.is_true());
    match value.is_undefined() || (lax && !value.is_true()) {
        true => Ok(other.unwrap_or_else(|| Value::from(""))),
        false => Ok(value),
    }
}

/// What is undefined is empty.
fn length(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (value,): (&Value,) = from_args(args)?;
    meter.glance(value)?;
    let none = || refuse(format!("a value of type {} has no length", value.kind()));
    match value.is_undefined() {
        true => Ok(Value::from(0)),
        false => value.len().map(Value::from).ok_or_else(none),
    }
}

/// `text % values`, and the remainder of numbers.
pub(super) fn percent(meter: &Meter, (a, b): (&Value, &Value)) -> Result<Value, Error> {
    let Some(text) = a.as_str() else {
        return operators::remainder(a, b);
    };
    match b.kind() {
        _ if b.is_tuple() => printf(meter, text, &meter.items(b)?),
        // A list or a map may have more than is asked for.
        ValueKind::Seq | ValueKind::Map if fields(text) == 0 => printf(meter, text, &[]),
        _ => printf(meter, text, std::slice::from_ref(b)),
    }
}

fn printf_filter(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let Some((text, values)) = args.split_first() else {
        return Err(Error::from(ErrorKind::MissingArgument));
    };
    match text.as_str() {
        Some(text) => printf(meter, text, values),
        None => Err(refuse("only a text can be formatted")),
    }
}

/// How many values a format asks for.
fn fields(text: &str) -> usize {
    let percent = text.matches('%').count();
    percent - 2 * text.matches("%%").count()
}

/// Every `%` may print any of the values, at any width that stands in the text.
fn printf(meter: &Meter, text: &str, values: &[Value]) -> Result<Value, Error> {
    meter.work(text.len() as u64)?;
    let mut field = largest_number(text);
    for value in values {
        field = field.saturating_add(meter.read(value)?);
    }
    if !text.contains("%(") && values.len() > fields(text) {
        return Err(refuse("a format asks for fewer values than it was given"));
    }
    let percent = text.matches('%').count() as u64;
    let most = percent.saturating_mul(field);
    meter.may_make(most.saturating_add(text.len() as u64))?;
    meter.work(most)?;
    meter.made(Value::from(format(FormatStyle::Printf, text, values)?))
}

/// An item, or what it has under that name; `a.b` is the name of a name, `0` a place.
fn attribute(item: &Value, path: Option<&Value>) -> Result<Value, Error> {
    let Some(path) = path.filter(|path| !path.is_none()) else {
        return Ok(item.clone());
    };
    let Some(names) = path.as_str() else {
        return item.get_item(path);
    };
    let mut value = item.clone();
    for name in names.split('.') {
        value = match name.parse::<usize>() {
            Ok(place) => value.get_item(&Value::from(place))?,
            Err(_) => value.get_attr(name)?,
        };
    }
    Ok(value)
}

/// Adds one after the other, as `+` does: each sum on the way is counted.
fn sum(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (values, [path, start]) = named(args, ["attribute", "start"])?;
    let mut total = start.unwrap_or_else(|| Value::from(0));
    if total.as_str().is_some() {
        return Err(refuse("texts cannot be summed, use join"));
    }
    meter.glance(&values)?;
    for item in meter.items(&values)? {
        meter.work(1)?;
        let item = attribute(&item, path.as_ref())?;
        let item = match item.kind() {
            ValueKind::Bool => Value::from(i64::from(item.is_true())),
            _ => item,
        };
        total = operators::add(meter, (&total, &item))?;
    }
    Ok(total)
}

fn group_by(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (values, [path, missing, case]) = named(args, ["attribute", "default", "case_sensitive"])?;
    let Some(path) = path else {
        return Err(Error::from(ErrorKind::MissingArgument));
    };
    library::before(meter, library::SPELL, &values, &[])?;
    let case = case.is_some_and(|case| case.is_true());
    let mut keyed = Vec::new();
    for item in meter.items(&values)? {
        let mut key = attribute(&item, Some(&path))?;
        if let (true, Some(missing)) = (key.is_undefined(), &missing) {
            key = missing.clone();
        }
        let sorted_by = match key.as_str() {
            Some(text) if !case => Value::from(text.to_lowercase()),
            _ => key.clone(),
        };
        keyed.push((sorted_by, key, item));
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut groups = Vec::new();
    let mut rest = keyed.into_iter().peekable();
    while let Some((sorted_by, key, item)) = rest.next() {
        let mut list = vec![item];
        while let Some((_, _, item)) =
            rest.next_if(|next| next.0.cmp(&sorted_by) == Ordering::Equal)
        {
            list.push(item);
        }
        groups.push(Value::from_object(Group {
            key,
            list: Value::from(list),
        }));
    }
    meter.made(Value::from(groups))
}

/// What `groupby` gives for each value: a pair whose parts have names, too.
#[derive(Debug)]
struct Group {
    key: Value,
    list: Value,
}

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_usize(), key.as_str()) {
            (Some(0), _) | (_, Some("grouper")) => Some(self.key.clone()),
            (Some(1), _) | (_, Some("list")) => Some(self.list.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = Tuple::from([self.key.clone(), self.list.clone()]);
        write!(f, "{}", Value::from(pair))
    }
}

/// As Python spells a value that is not a text.
pub(super) fn soft(meter: &Meter, value: &Value) -> Result<String, Error> {
    meter.may_make(meter.read(value)?)?;
    Ok(python::text(value))
}

fn string(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (value,): (&Value,) = from_args(args)?;
    match value.as_str() {
        Some(_) => Ok(value.clone()),
        None => meter.made(Value::from(soft(meter, value)?)),
    }
}

fn escape(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (value,): (&Value,) = from_args(args)?;
    if value.is_safe() {
        return Ok(value.clone());
    }
    library::before(meter, library::SPELL, value, &[])?;
    meter.made(Value::from_safe_string(operators::escaped(&python::text(
        value,
    ))))
}

/// What is no number is the default, as it is in Jinja2.
fn int(args: &[Value]) -> Result<Value, Error> {
    let (value, [default, base]) = named(args, ["default", "base"])?;
    let base = base
        .and_then(|base| base.as_i64())
        .map_or(Ok(10), u32::try_from);
    let base = base.ok().filter(|base| (2..=36).contains(base));
    let base = base.ok_or_else(|| refuse("the base of a number must be from 2 to 36"))?;
    let whole = |number: f64| (number.abs() < 1e38).then(|| Value::from(number as i128));
    let found = match (value.kind(), value.as_str()) {
        (ValueKind::Undefined, _) => return Err(Error::from(ErrorKind::UndefinedError)),
        (_, Some(text)) => {
            let text = text.trim().to_lowercase();
            let digits = match base {
                2 => text.replacen("0b", "", 1),
                8 => text.replacen("0o", "", 1),
                16 => text.replacen("0x", "", 1),
                _ => text.clone(),
            };
            let exact = i128::from_str_radix(&digits, base).ok().map(Value::from);
            exact.or_else(|| whole(text.parse().ok()?))
        }
        (ValueKind::Bool, _) => Some(Value::from(i64::from(value.is_true()))),
        (ValueKind::Number, _) if value.is_integer() => Some(value),
        (ValueKind::Number, _) => f64::try_from(value).ok().and_then(whole),
        _ => None,
    };
    Ok(found.or(default).unwrap_or_else(|| Value::from(0)))
}

fn float(args: &[Value]) -> Result<Value, Error> {
    let (value, [default]) = named(args, ["default"])?;
    let found = match (value.kind(), value.as_str()) {
        (ValueKind::Undefined, _) => return Err(Error::from(ErrorKind::UndefinedError)),
        (_, Some(text)) => text.trim().parse().ok(),
        (ValueKind::Bool, _) => Some(f64::from(u8::from(value.is_true()))),
        (ValueKind::Number, _) => f64::try_from(value).ok(),
        _ => None,
    };
    let found = found.map(Value::from).or(default);
    Ok(found.unwrap_or_else(|| Value::from(0.0)))
}

fn replace(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let (text, [old, new, count]) = named(args, ["old", "new", "count"])?;
    let (Some(old), Some(new)) = (old, new) else {
        return Err(Error::from(ErrorKind::MissingArgument));
    };
    let (text, old, new) = (soft(meter, &text)?, soft(meter, &old)?, soft(meter, &new)?);
    let most = match count.filter(|count| !count.is_none()) {
        None => usize::MAX,
        Some(count) => match count.as_i64() {
            Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
            None => return Err(refuse("the count of a replacement must be a whole number")),
        },
    };
    meter.work(text.len() as u64 + 1)?;
    let found = text.matches(old.as_str()).take(most).count() as u64;
    meter.may_make((text.len() as u64).saturating_add(found.saturating_mul(new.len() as u64)))?;
    meter.made(Value::from(match most {
        usize::MAX => text.replace(&old, &new),
        most => text.replacen(&old, &new, most),
    }))
}

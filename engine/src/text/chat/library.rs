//! What a template finds besides its own words: filters, tests, functions, methods. There is no
//! other than these and those of `words`: the environment starts empty. Each of them is preceded by
//! the meter, with the size that its result can have at most.

use std::sync::Arc;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions, tests};

use super::meter::Meter;

/// How much of its first argument a function walks, and how much larger than that its result can
/// be, apart from what the other arguments bring.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cost {
    /// One value, handed on.
    Nothing,
    /// The items, not what is in them.
    Surface,
    /// All of it; a text grows by at most this.
    Whole { growth: u64 },
}

const COPY: Cost = Cost::Whole { growth: 1 };
/// Letters may have longer siblings, and escapes.
pub(super) const SPELL: Cost = Cost::Whole { growth: 6 };
/// A letter becomes an item.
const TAKE_APART: Cost = Cost::Whole { growth: 32 };

/// The filters that walk a list, as the template engine would walk none: as if it were empty.
const ITERATING: [&str; 9] = [
    "first", "join", "last", "list", "max", "min", "reverse", "sort", "unique",
];

pub(super) fn extend(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    macro_rules! filters {
        ($($name:literal $function:expr, $cost:expr;)*) => {
            $(let raw = Value::from_function($function);
            let raw = match ITERATING.contains(&$name) {
                true => Value::from_function(not_of_none($name, raw)),
                false => raw,
            };
            environment.add_filter($name, metered(meter, $cost, raw));)*
        };
    }
    filters! {
        "abs" filters::abs, COPY;
        "attr" filters::attr, Cost::Surface;
        "bool" filters::bool, Cost::Nothing;
        "capitalize" filters::capitalize, SPELL;
        "dictsort" filters::dictsort, COPY;
        "first" filters::first, Cost::Surface;
        "indent" filters::indent, COPY;
        "items" filters::items, Cost::Surface;
        "join" filters::join, COPY;
        "last" filters::last, Cost::Surface;
        "lines" filters::lines, TAKE_APART;
        "list" filters::list, TAKE_APART;
        "lower" filters::lower, SPELL;
        "map" filters::map, Cost::Surface;
        "max" filters::max, COPY;
        "min" filters::min, COPY;
        "reject" filters::reject, Cost::Surface;
        "rejectattr" filters::rejectattr, Cost::Surface;
        "reverse" filters::reverse, Cost::Surface;
        "round" filters::round, Cost::Nothing;
        "safe" filters::safe, COPY;
        "select" filters::select, Cost::Surface;
        "selectattr" filters::selectattr, Cost::Surface;
        "sort" filters::sort, COPY;
        "split" filters::split, TAKE_APART;
        "title" filters::title, SPELL;
        "tojson" crate::text::python::to_json, SPELL;
        "trim" filters::trim, COPY;
        "unique" filters::unique, COPY;
        "upper" filters::upper, SPELL;
    }
    macro_rules! tests {
        ($($name:literal $function:expr, $cost:expr;)*) => {
            $(let raw = Value::from_function($function);
            environment.add_test($name, metered(meter, $cost, raw));)*
        };
    }
    tests! {
        "boolean" tests::is_boolean, Cost::Nothing;
        "defined" tests::is_defined, Cost::Nothing;
        "divisibleby" tests::is_divisibleby, Cost::Nothing;
        "endingwith" tests::is_endingwith, COPY;
        "eq" tests::is_eq, COPY;
        "equalto" tests::is_eq, COPY;
        "==" tests::is_eq, COPY;
        "even" tests::is_even, Cost::Nothing;
        "filter" tests::is_filter, Cost::Nothing;
        "false" tests::is_false, Cost::Nothing;
        "float" tests::is_float, Cost::Nothing;
        "ge" tests::is_ge, COPY;
        ">=" tests::is_ge, COPY;
        "gt" tests::is_gt, COPY;
        "greaterthan" tests::is_gt, COPY;
        ">" tests::is_gt, COPY;
        "in" tests::is_in, COPY;
        "integer" tests::is_integer, Cost::Nothing;
        "le" tests::is_le, COPY;
        "<=" tests::is_le, COPY;
        "lower" tests::is_lower, COPY;
        "lt" tests::is_lt, COPY;
        "lessthan" tests::is_lt, COPY;
        "<" tests::is_lt, COPY;
        "ne" tests::is_ne, COPY;
        "!=" tests::is_ne, COPY;
        "none" tests::is_none, Cost::Nothing;
        "number" tests::is_number, Cost::Nothing;
        "odd" tests::is_odd, Cost::Nothing;
        "startingwith" tests::is_startingwith, COPY;
        "string" tests::is_string, Cost::Nothing;
        "test" tests::is_test, Cost::Nothing;
        "true" tests::is_true, Cost::Nothing;
        "undefined" tests::is_undefined, Cost::Nothing;
        "upper" tests::is_upper, COPY;
    }
    macro_rules! functions {
        ($($name:literal $function:expr, $cost:expr;)*) => {
            $(let raw = Value::from_function($function);
            environment.add_function($name, metered(meter, $cost, raw));)*
        };
    }
    functions! {
        // Of at most 100,000 items.
        "range" functions::range, Cost::Nothing;
        "dict" functions::dict, COPY;
        "namespace" functions::namespace, COPY;
        "raise_exception" crate::text::python::raise_exception, COPY;
        // Two letters can become a date and a time.
        "strftime_now" crate::text::python::strftime_now, TAKE_APART;
    }
    environment.set_unknown_method_callback(crate::text::python::method);
}

fn not_of_none(
    name: &'static str,
    raw: Value,
) -> impl Fn(&mut State, Rest<ValueOrKwargs>) -> Result<Value, Error> + Send + Sync + 'static {
    move |state, args| {
        let args = args.into_values();
        match args.first().is_some_and(Value::is_none) {
            true => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("none is not iterable, and {name} walks it"),
            )),
            false => raw.call(state, &args),
        }
    }
}

fn metered(
    meter: &Arc<Meter>,
    cost: Cost,
    raw: Value,
) -> impl Fn(&mut State, Rest<ValueOrKwargs>) -> Result<Value, Error> + Send + Sync + 'static + use<>
{
    let meter = Arc::clone(meter);
    move |state, args| {
        let args = args.into_values();
        if let Some((first, rest)) = args.split_first() {
            before(&meter, cost, first, rest)?;
        }
        let result = raw.call(state, &args)?;
        match (cost, result.kind()) {
            // Handed on, or part of what was there; but a lazy list is made when it is walked.
            (Cost::Nothing, kind) if kind != ValueKind::Iterable => Ok(result),
            (_, ValueKind::Map | ValueKind::Bool | ValueKind::Number) => Ok(result),
            _ => meter.made(result),
        }
    }
}

/// No result is larger than the first argument times everything in the others: what replaces each
/// of its letters, stands between its items, or says how far to indent its lines.
pub(super) fn before(
    meter: &Meter,
    cost: Cost,
    first: &Value,
    rest: &[Value],
) -> Result<(), Error> {
    let (own, growth) = match cost {
        Cost::Nothing => return Ok(()),
        Cost::Surface => (meter.glance(first)?, 1),
        Cost::Whole { growth } => (meter.read(first)?.max(1), growth),
    };
    let mut factor = 1_u64;
    for value in rest {
        factor = factor.saturating_add(amount(meter, value)?);
    }
    let most = own.saturating_mul(growth).saturating_mul(factor);
    meter.may_make(most)?;
    meter.work(most)
}

/// As an argument, a number counts as what it says.
fn amount(meter: &Meter, value: &Value) -> Result<u64, Error> {
    match value.kind() {
        ValueKind::Number => Ok(f64::try_from(value.clone()).map_or(u64::MAX, |n| n.abs() as u64)),
        ValueKind::Map => {
            let mut total = meter.read(value)?;
            let pairs = value.as_object().and_then(|map| map.try_iter_pairs());
            for (_, value) in pairs.into_iter().flatten() {
                if value.kind() == ValueKind::Number {
                    total = total.saturating_add(amount(meter, &value)?);
                }
            }
            Ok(total)
        }
        _ => meter.read(value),
    }
}

pub(super) fn before_method(
    meter: &Meter,
    object: &Value,
    name: &str,
    rest: &[Value],
) -> Result<(), Error> {
    if let (Some(format), "format") = (object.as_str(), name) {
        // Widths stand in the text itself, or among the arguments.
        let wide = largest_number(format).saturating_mul(1 + format.len() as u64);
        meter.may_make(wide)?;
        return before(meter, COPY, object, rest);
    }
    // Elsewhere a number says where to look, or how often at most.
    let rest: Vec<_> = rest
        .iter()
        .filter(|value| !value.is_number())
        .cloned()
        .collect();
    let rest = &rest;
    let cost = match (object.as_str(), name) {
        (Some(_), "upper" | "lower" | "title" | "capitalize") => SPELL,
        (Some(_), "split" | "rsplit" | "splitlines") => TAKE_APART,
        (Some(_), _) => COPY,
        (None, _) => Cost::Surface,
    };
    before(meter, cost, object, rest)
}

pub(super) fn largest_number(text: &str) -> u64 {
    text.split(|letter: char| !letter.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().unwrap_or(u64::MAX))
        .max()
        .unwrap_or(0)
}

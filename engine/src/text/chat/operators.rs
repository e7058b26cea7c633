//! The operators of the template language as functions that count first and compute then. Their
//! names are what `rewrite` put into the template.

use std::sync::{Arc, LazyLock};

use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, Expression, State, Value, context};

use super::library;
use super::meter::Meter;
use crate::text::python;

pub(super) fn extend(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    type Operator = fn(&Meter, &mut State, &[Value]) -> Result<Value, Error>;
    let operators: [(&'static str, Operator); 17] = [
        ("+", |meter, _, args| add(meter, from_args(args)?)),
        ("*", |meter, _, args| multiply(meter, from_args(args)?)),
        ("%", |meter, _, args| {
            super::words::percent(meter, from_args(args)?)
        }),
        ("~", |meter, _, args| concatenate(meter, from_args(args)?)),
        ("==", |meter, state, args| compare(meter, state, "==", args)),
        ("!=", |meter, state, args| compare(meter, state, "!=", args)),
        ("<", |meter, state, args| compare(meter, state, "<", args)),
        ("<=", |meter, state, args| compare(meter, state, "<=", args)),
        (">", |meter, state, args| compare(meter, state, ">", args)),
        (">=", |meter, state, args| compare(meter, state, ">=", args)),
        ("in", |meter, state, args| compare(meter, state, "in", args)),
        ("not in", |meter, state, args| {
            compare(meter, state, "not in", args)
        }),
        ("<<", chain),
        ("[]", |meter, _, args| item(meter, from_args(args)?)),
        ("[:]", |meter, _, args| slice(meter, args)),
        ("{}", |meter, _, args| map(meter, args)),
        (".", method),
    ];
    for (name, operator) in operators {
        let meter = Arc::clone(meter);
        let call = move |state: &mut State, args: Rest<ValueOrKwargs>| {
            operator(&meter, state, &args.into_values())
        };
        environment.add_function(name, call);
    }
    for name in ["f(*)", "f(**)"] {
        let meter = Arc::clone(meter);
        environment.add_function(name, move |arguments: Value| spread(&meter, arguments));
    }
    let meter = Arc::clone(meter);
    environment.add_function("for", move |iterated: Value| {
        if iterated.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "none is not iterable",
            ));
        }
        let bytes = meter.glance(&iterated)?;
        match iterated.as_str() {
            // A loop over letters has to know how many there are.
            Some(_) => {
                meter.may_make(bytes)?;
                meter.made(Value::from(meter.items(&iterated)?))
            }
            None => Ok(iterated),
        }
    });
}

/// The longest way to escape a letter.
const ESCAPED: u64 = 6;

/// What becomes the arguments of a call.
fn spread(meter: &Meter, arguments: Value) -> Result<Value, Error> {
    meter.may_make(meter.glance(&arguments)?)?;
    match arguments.is_undefined() {
        true => Err(Error::from(ErrorKind::UndefinedError)),
        false => meter.made(arguments),
    }
}

/// What numbers, and mistakes, come to: the template engine's own answer.
fn plain(operator: &'static Expression<'static, 'static>, a: &Value, b: &Value) -> PlainResult {
    operator.eval(context! { a => a, b => b })
}
type PlainResult = Result<Value, Error>;
type Plain = LazyLock<Expression<'static, 'static>>;

static BARE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut bare = Environment::empty();
    bare.set_debug(false);
    bare
});

#[expect(
    clippy::unwrap_used,
    reason = "the expressions below are right or wrong for ever"
)]
fn compiled(text: &'static str) -> Expression<'static, 'static> {
    BARE.compile_expression(text).unwrap()
}
static PLUS: Plain = LazyLock::new(|| compiled("a + b"));
static TIMES: Plain = LazyLock::new(|| compiled("a * b"));
static REMAINDER: Plain = LazyLock::new(|| compiled("a % b"));
static SLICE: Plain = LazyLock::new(|| compiled("a[b[0]:b[1]:b[2]]"));

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

pub(super) fn add(meter: &Meter, (a, b): (&Value, &Value)) -> Result<Value, Error> {
    if let (true, Some(left), Some(right)) = (a.is_safe() || b.is_safe(), a.as_str(), b.as_str()) {
        return add_to_markup(meter, (a, left), (b, right));
    }
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        meter.may_make((a.len() + b.len()) as u64)?;
        return meter.made(Value::from([a, b].concat()));
    }
    if is_list(a) && is_list(b) && a.is_tuple() == b.is_tuple() {
        meter.may_make(meter.glance(a)? + meter.glance(b)?)?;
        let mut items = meter.items(a)?;
        items.extend(meter.items(b)?);
        return meter.made(match a.is_tuple() {
            true => Value::from(Tuple::from(items)),
            false => Value::from(items),
        });
    }
    plain(&PLUS, a, b)
}

/// What is added to a text that was called safe is escaped, as Python's Markup does it.
fn add_to_markup(meter: &Meter, a: (&Value, &str), b: (&Value, &str)) -> Result<Value, Error> {
    meter.may_make(ESCAPED * (a.1.len() + b.1.len()) as u64)?;
    let part = |(value, text): (&Value, &str)| match value.is_safe() {
        true => text.to_owned(),
        false => escaped(text),
    };
    meter.made(Value::from_safe_string(part(a) + &part(b)))
}

/// The template engine spells two of the letters otherwise.
pub(super) fn escaped(text: &str) -> String {
    let text = minijinja::HtmlEscape(text).to_string();
    text.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
}

pub(super) fn remainder(a: &Value, b: &Value) -> Result<Value, Error> {
    plain(&REMAINDER, a, b)
}

fn multiply(meter: &Meter, (a, b): (&Value, &Value)) -> Result<Value, Error> {
    let sized = |value: &Value| value.as_str().is_some() || is_list(value);
    let (repeated, times) = match (sized(a), sized(b)) {
        (true, _) => (a, b),
        (_, true) => (b, a),
        _ => return plain(&TIMES, a, b),
    };
    // Nothing times nothing else: the engine says so.
    if let Some(times) = times.as_usize() {
        meter.may_make(meter.glance(repeated)?.saturating_mul(times as u64))?;
    }
    meter.made(plain(&TIMES, a, b)?)
}

fn concatenate(meter: &Meter, (a, b): (&Value, &Value)) -> Result<Value, Error> {
    meter.may_make(meter.read(a)? + meter.read(b)?)?;
    meter.made(Value::from(python::text(a) + &python::text(b)))
}

fn compare(
    meter: &Meter,
    state: &mut State,
    operator: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let (a, b): (&Value, &Value) = from_args(args)?;
    meter.read(a)?;
    match operator {
        // To look up a key a map is not walked.
        "in" | "not in" if b.kind() == ValueKind::Map => meter.glance(b)?,
        _ => meter.read(b)?,
    };
    let holds = match operator {
        "==" => a == b,
        "!=" => a != b,
        "<" => a < b,
        "<=" => a <= b,
        ">" => a > b,
        ">=" => a >= b,
        _ => {
            if matches!(
                b.kind(),
                ValueKind::Number | ValueKind::Bool | ValueKind::None
            ) {
                let reason = "cannot perform a containment check on this value";
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
            minijinja::tests::is_in(state, a, b)? == (operator == "in")
        }
    };
    Ok(Value::from(holds))
}

/// `a < b < c`, given as `a, "<", b, "<", c`.
fn chain(meter: &Meter, state: &mut State, args: &[Value]) -> Result<Value, Error> {
    for link in args.windows(3).step_by(2) {
        let [a, operator, b] = link else { continue };
        let pair = [a.clone(), b.clone()];
        if !compare(meter, state, operator.as_str().unwrap_or_default(), &pair)?.is_true() {
            return Ok(Value::from(false));
        }
    }
    Ok(Value::from(true))
}

fn item(meter: &Meter, (value, key): (&Value, &Value)) -> Result<Value, Error> {
    meter.read(key)?;
    if value.as_str().is_some() {
        meter.glance(value)?;
    }
    value.get_item(key)
}

fn slice(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let Some((value, edges)) = args.split_first() else {
        return Ok(Value::UNDEFINED);
    };
    let letters_bytes = meter.glance(value)?.saturating_mul(8);
    meter.may_make(letters_bytes)?;
    meter.made(plain(&SLICE, value, &Value::from(edges.to_vec()))?)
}

fn map(meter: &Meter, args: &[Value]) -> Result<Value, Error> {
    let mut pairs = Vec::with_capacity(args.len() / 2);
    for pair in args.chunks_exact(2) {
        meter.read(&pair[0])?;
        pairs.push((pair[0].clone(), pair[1].clone()));
    }
    meter.made(Value::from_pairs(pairs))
}

fn method(meter: &Meter, state: &mut State, args: &[Value]) -> Result<Value, Error> {
    let [object, name, rest @ ..] = args else {
        return Ok(Value::UNDEFINED);
    };
    let name = name.as_str().unwrap_or_default();
    library::before_method(meter, object, name, rest)?;
    let result = object.call_method(state, name, rest)?;
    // What was inside the object before is not made by asking for it.
    match result.kind() {
        ValueKind::Map => Ok(result),
        _ => meter.made(result),
    }
}

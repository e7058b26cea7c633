//! A parsed template, built anew with every operator that can make or walk a large value turned
//! into a call of the function of that name in `operators`. Those names are no names a template
//! can spell, so it cannot call, shadow or avoid them. Nothing constant is left to be computed by
//! the compiler either, which counts nothing.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{
    BinOp, BinOpKind, Block, Call, CallArg, CallBlock, Compare, CompareOpKind, Const, Do, EmitExpr,
    Expr, Filter, FilterBlock, ForLoop, GetAttr, IfCond, IfExpr, List, Macro, Set, SetBlock,
    Spanned, Stmt, Template, Test, Tuple, UnaryOp, UnaryOpKind, Var, WithBlock,
};
use minijinja::{Error, ErrorKind, Value};

/// Operators of one expression inside one another, or in a row. The compiler walks them once for
/// each of them.
const DEPTH_MAX: usize = 500;

/// Arguments of one call, and entries of one map.
const ARGUMENTS_MAX: usize = 10_000;

pub(super) fn template<'s>(parsed: &Stmt<'s>) -> Result<Stmt<'s>, Error> {
    match parsed {
        Stmt::Template(template) => Ok(Stmt::Template(Spanned::new(
            Template {
                children: body(&template.children)?,
            },
            template.span(),
        ))),
        other => statement(other),
    }
}

fn refuse(what: &'static str, span: Span) -> Error {
    let text = format!("{what} (line {})", span.start_line);
    Error::new(ErrorKind::SyntaxError, text)
}

fn body<'s>(statements: &[Stmt<'s>]) -> Result<Vec<Stmt<'s>>, Error> {
    statements.iter().map(statement).collect()
}

fn statement<'s>(from: &Stmt<'s>) -> Result<Stmt<'s>, Error> {
    Ok(match from {
        Stmt::Template(_) => template(from)?,
        Stmt::EmitExpr(emit) => Stmt::EmitExpr(Spanned::new(
            EmitExpr {
                expr: expression(&emit.expr)?,
            },
            emit.span(),
        )),
        // Text passes the same counter as values do: a block that is kept in a variable is memory.
        Stmt::EmitRaw(raw) => Stmt::EmitExpr(Spanned::new(
            EmitExpr {
                expr: constant(Value::from(raw.raw), raw.span()),
            },
            raw.span(),
        )),
        Stmt::ForLoop(each) => Stmt::ForLoop(Spanned::new(
            ForLoop {
                target: expression(&each.target)?,
                iter: call("for", vec![expression(&each.iter)?], each.span()),
                filter_expr: maybe(&each.filter_expr)?,
                recursive: each.recursive,
                body: body(&each.body)?,
                else_body: body(&each.else_body)?,
            },
            each.span(),
        )),
        Stmt::IfCond(cond) => Stmt::IfCond(Spanned::new(
            IfCond {
                expr: expression(&cond.expr)?,
                true_body: body(&cond.true_body)?,
                false_body: body(&cond.false_body)?,
            },
            cond.span(),
        )),
        Stmt::WithBlock(with) => {
            let assignment = |(target, value): &(Expr<'s>, Expr<'s>)| {
                Ok((expression(target)?, expression(value)?))
            };
            let assignments = with.assignments.iter().map(assignment);
            Stmt::WithBlock(Spanned::new(
                WithBlock {
                    assignments: assignments.collect::<Result<_, Error>>()?,
                    body: body(&with.body)?,
                },
                with.span(),
            ))
        }
        Stmt::Set(set) => Stmt::Set(Spanned::new(
            Set {
                target: expression(&set.target)?,
                expr: expression(&set.expr)?,
            },
            set.span(),
        )),
        Stmt::SetBlock(set) => Stmt::SetBlock(Spanned::new(
            SetBlock {
                target: expression(&set.target)?,
                filter: maybe(&set.filter)?,
                body: body(&set.body)?,
            },
            set.span(),
        )),
        Stmt::FilterBlock(filter) => Stmt::FilterBlock(Spanned::new(
            FilterBlock {
                filter: expression(&filter.filter)?,
                body: body(&filter.body)?,
            },
            filter.span(),
        )),
        Stmt::Macro(definition) => Stmt::Macro(rebuilt_macro(definition)?),
        Stmt::CallBlock(block) => Stmt::CallBlock(Spanned::new(
            CallBlock {
                call: Spanned::new(rebuilt_call(&block.call, 0)?, block.call.span()),
                macro_decl: rebuilt_macro(&block.macro_decl)?,
            },
            block.span(),
        )),
        Stmt::Do(work) => Stmt::Do(Spanned::new(
            Do {
                call: Spanned::new(rebuilt_call(&work.call, 0)?, work.call.span()),
            },
            work.span(),
        )),
        Stmt::Continue(at) => {
            Stmt::Continue(Spanned::new(minijinja::machinery::ast::Continue, at.span()))
        }
        Stmt::Break(at) => Stmt::Break(Spanned::new(minijinja::machinery::ast::Break, at.span())),
        Stmt::Block(block) => Stmt::Block(Spanned::new(
            Block {
                name: block.name,
                required: block.required,
                body: body(&block.body)?,
            },
            block.span(),
        )),
        // There are no other templates, and no files to find them in.
        Stmt::Import(at) => return Err(refuse("import is not supported", at.span())),
        Stmt::FromImport(at) => return Err(refuse("import is not supported", at.span())),
        Stmt::Extends(at) => return Err(refuse("extends is not supported", at.span())),
        Stmt::Include(at) => return Err(refuse("include is not supported", at.span())),
        Stmt::AutoEscape(at) => return Err(refuse("autoescape is not supported", at.span())),
    })
}

fn rebuilt_macro<'s>(from: &Spanned<Macro<'s>>) -> Result<Spanned<Macro<'s>>, Error> {
    let definition = Macro {
        name: from.name,
        args: from.args.iter().map(expression).collect::<Result<_, _>>()?,
        defaults: from
            .defaults
            .iter()
            .map(expression)
            .collect::<Result<_, _>>()?,
        body: body(&from.body)?,
    };
    Ok(Spanned::new(definition, from.span()))
}

fn maybe<'s>(from: &Option<Expr<'s>>) -> Result<Option<Expr<'s>>, Error> {
    from.as_ref().map(expression).transpose()
}

fn expression<'s>(from: &Expr<'s>) -> Result<Expr<'s>, Error> {
    inside(from, 0)
}

fn inside<'s>(from: &Expr<'s>, depth: usize) -> Result<Expr<'s>, Error> {
    let span = from.span();
    if depth > DEPTH_MAX {
        return Err(refuse("an expression of too many operators", span));
    }
    let sub = |expr: &Expr<'s>| inside(expr, depth + 1);
    let all = |list: &[Expr<'s>]| list.iter().map(sub).collect::<Result<Vec<_>, _>>();
    Ok(match from {
        Expr::Var(var) => Expr::Var(Spanned::new(Var { id: var.id }, span)),
        Expr::Const(value) => constant(value.value.clone(), span),
        Expr::Slice(slice) => {
            let edge = |edge: &Option<Expr<'s>>| match edge {
                Some(edge) => sub(edge),
                None => Ok(constant(Value::from(()), span)),
            };
            let edges = [edge(&slice.start)?, edge(&slice.stop)?, edge(&slice.step)?];
            let mut arguments = vec![sub(&slice.expr)?];
            arguments.extend(edges);
            call("[:]", arguments, span)
        }
        Expr::UnaryOp(unary) => Expr::UnaryOp(Spanned::new(
            UnaryOp {
                op: match unary.op {
                    UnaryOpKind::Not => UnaryOpKind::Not,
                    UnaryOpKind::Neg => UnaryOpKind::Neg,
                },
                expr: sub(&unary.expr)?,
            },
            span,
        )),
        Expr::BinOp(binary) => {
            let (left, right) = (sub(&binary.left)?, sub(&binary.right)?);
            match operator(binary.op) {
                Some(name) => call(name, vec![left, right], span),
                None => {
                    let op = binary.op;
                    Expr::BinOp(Spanned::new(BinOp { op, left, right }, span))
                }
            }
        }
        Expr::Compare(chain) => compare(chain, sub, span)?,
        Expr::IfExpr(cond) => Expr::IfExpr(Spanned::new(
            IfExpr {
                test_expr: sub(&cond.test_expr)?,
                true_expr: sub(&cond.true_expr)?,
                false_expr: cond.false_expr.as_ref().map(sub).transpose()?,
            },
            span,
        )),
        Expr::Filter(filter) => Expr::Filter(Spanned::new(
            Filter {
                name: filter.name,
                expr: filter.expr.as_ref().map(sub).transpose()?,
                args: arguments(&filter.args, sub, span)?,
            },
            span,
        )),
        Expr::Test(test) => Expr::Test(Spanned::new(
            Test {
                name: test.name,
                expr: sub(&test.expr)?,
                args: arguments(&test.args, sub, span)?,
            },
            span,
        )),
        Expr::GetAttr(get) => Expr::GetAttr(Spanned::new(
            GetAttr {
                expr: sub(&get.expr)?,
                name: get.name,
            },
            span,
        )),
        Expr::GetItem(get) => call("[]", vec![sub(&get.expr)?, sub(&get.subscript_expr)?], span),
        Expr::Call(from) => Expr::Call(Spanned::new(rebuilt_call(from, depth)?, span)),
        Expr::List(list) => Expr::List(Spanned::new(
            List {
                items: all(&list.items)?,
            },
            span,
        )),
        Expr::Tuple(tuple) => Expr::Tuple(Spanned::new(
            Tuple {
                items: all(&tuple.items)?,
            },
            span,
        )),
        Expr::Map(map) => {
            if map.keys.len() > ARGUMENTS_MAX {
                return Err(refuse("a map of too many entries", span));
            }
            let mut entries = Vec::with_capacity(2 * map.keys.len());
            for (key, value) in map.keys.iter().zip(&map.values) {
                entries.extend([sub(key)?, sub(value)?]);
            }
            call("{}", entries, span)
        }
    })
}

/// `None`: it works on truth or on numbers, and what it makes is no larger than what it got.
fn operator(kind: BinOpKind) -> Option<&'static str> {
    Some(match kind {
        BinOpKind::Add => "+",
        BinOpKind::Mul => "*",
        BinOpKind::Rem => "%",
        BinOpKind::Concat => "~",
        BinOpKind::Eq => "==",
        BinOpKind::Ne => "!=",
        BinOpKind::Lt => "<",
        BinOpKind::Lte => "<=",
        BinOpKind::Gt => ">",
        BinOpKind::Gte => ">=",
        BinOpKind::In => "in",
        BinOpKind::ScAnd
        | BinOpKind::ScOr
        | BinOpKind::Sub
        | BinOpKind::Div
        | BinOpKind::FloorDiv
        | BinOpKind::Pow => return None,
    })
}

/// `a < b`. Longer chains evaluate their inner terms once, which calls cannot say.
fn compare<'s>(
    chain: &Compare<'s>,
    sub: impl Fn(&Expr<'s>) -> Result<Expr<'s>, Error>,
    span: Span,
) -> Result<Expr<'s>, Error> {
    let [link] = &chain.ops[..] else {
        let mut arguments = vec![sub(&chain.expr)?];
        for link in &chain.ops {
            arguments.push(constant(Value::from(comparison(link.op)), span));
            arguments.push(sub(&link.expr)?);
        }
        return Ok(call("<<", arguments, span));
    };
    let arguments = vec![sub(&chain.expr)?, sub(&link.expr)?];
    Ok(call(comparison(link.op), arguments, span))
}

fn comparison(kind: CompareOpKind) -> &'static str {
    match kind {
        CompareOpKind::Eq => "==",
        CompareOpKind::Ne => "!=",
        CompareOpKind::Lt => "<",
        CompareOpKind::Lte => "<=",
        CompareOpKind::Gt => ">",
        CompareOpKind::Gte => ">=",
        CompareOpKind::In => "in",
        CompareOpKind::NotIn => "not in",
    }
}

/// A method is called through the function `.`; functions and macros by their names. What
/// `loop(...)` gets is iterated like any other.
fn rebuilt_call<'s>(from: &Spanned<Call<'s>>, depth: usize) -> Result<Call<'s>, Error> {
    let span = from.span();
    let sub = |expr: &Expr<'s>| inside(expr, depth + 1);
    let mut args = arguments(&from.args, sub, span)?;
    let Expr::GetAttr(method) = &from.expr else {
        let expr = sub(&from.expr)?;
        if matches!(&expr, Expr::Var(var) if var.id == "loop") {
            args = args.into_iter().map(|arg| iterated(arg, span)).collect();
        }
        return Ok(Call { expr, args });
    };
    if matches!(&method.expr, Expr::Var(var) if var.id == "self") {
        // A block, once more: its text passes the counter where it is printed.
        let expr = Expr::GetAttr(Spanned::new(
            GetAttr {
                expr: Expr::Var(Spanned::new(Var { id: "self" }, span)),
                name: method.name,
            },
            span,
        ));
        return Ok(Call { expr, args });
    }
    let name = constant(Value::from(method.name), span);
    let object = sub(&method.expr)?;
    args.splice(0..0, [CallArg::Pos(object), CallArg::Pos(name)]);
    Ok(Call {
        expr: Expr::Var(Spanned::new(Var { id: "." }, span)),
        args,
    })
}

fn iterated<'s>(argument: CallArg<'s>, span: Span) -> CallArg<'s> {
    match argument {
        CallArg::Pos(value) => CallArg::Pos(call("for", vec![value], span)),
        other => other,
    }
}

fn arguments<'s>(
    from: &[CallArg<'s>],
    sub: impl Fn(&Expr<'s>) -> Result<Expr<'s>, Error>,
    span: Span,
) -> Result<Vec<CallArg<'s>>, Error> {
    if from.len() > ARGUMENTS_MAX {
        return Err(refuse("a call with too many arguments", span));
    }
    from.iter()
        .map(|argument| {
            Ok(match argument {
                CallArg::Pos(value) => CallArg::Pos(sub(value)?),
                CallArg::Kwarg(name, value) => CallArg::Kwarg(name, sub(value)?),
                CallArg::PosSplat(list) => CallArg::PosSplat(call("f(*)", vec![sub(list)?], span)),
                CallArg::KwargSplat(map) => {
                    CallArg::KwargSplat(call("f(**)", vec![sub(map)?], span))
                }
            })
        })
        .collect()
}

fn call<'s>(name: &'static str, arguments: Vec<Expr<'s>>, span: Span) -> Expr<'s> {
    let expr = Expr::Var(Spanned::new(Var { id: name }, span));
    let args = arguments.into_iter().map(CallArg::Pos).collect();
    Expr::Call(Spanned::new(Call { expr, args }, span))
}

fn constant<'s>(value: Value, span: Span) -> Expr<'s> {
    Expr::Const(Spanned::new(Const { value }, span))
}

//! The thread that the model runs on: takes orders between passes, makes passes while there is
//! anything to compute, and tells each order's teller what became of it. It knows no network.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use engine::{Account, Ended, EngineError, Model, ScheduleOptions, Scheduler, Told};

use super::door::{Heard, Order, Teller};
use super::metrics::{Outcome, Pass};
use super::server::Server;

/// An order that is under way or waits for its turn.
#[derive(Debug)]
struct Open {
    name: Arc<str>,
    teller: Teller,
    since: Instant,
    last_token: Option<Instant>,
    tokens: usize,
    prompt_tokens: usize,
    /// With its place, which is free when this is dropped. `None`: it has ended.
    order: Option<Order>,
}

/// Until no more orders can come, or the model cannot go on.
pub fn work(
    model: &mut Model,
    options: ScheduleOptions,
    orders: &Receiver<Order>,
    server: &Server,
) -> Result<(), EngineError> {
    let mut scheduler = Scheduler::new(model.session()?, options)?;
    server.door.leave_with(scheduler.leaver());
    server
        .metrics
        .watch_layers(scheduler.session().layers_done());
    let mut open: HashMap<u64, Open> = HashMap::new();
    loop {
        if open.is_empty() {
            server.metrics.load(scheduler.load());
            match orders.recv() {
                Ok(order) => take(order, &mut scheduler, &mut open, server),
                Err(_) => return Ok(()),
            }
        }
        while let Ok(order) = orders.try_recv() {
            take(order, &mut scheduler, &mut open, server);
        }
        open.retain(|&id, order| {
            let gone = order.teller.nobody_listens();
            if gone {
                scheduler.drop_request(id);
                went_away(order, server);
            }
            !gone
        });
        if open.is_empty() {
            continue;
        }
        let began = Instant::now();
        let (mut tokens, mut prompts) = (0, 0);
        let stepped = scheduler.step(&mut |id, told| {
            tokens += usize::from(matches!(told, Told::Token(_)));
            prompts += usize::from(matches!(told, Told::Prompt { .. }));
            let ended = open
                .get_mut(&id)
                .is_some_and(|open| tell(open, told, server));
            if ended {
                open.remove(&id);
            }
        });
        match stepped {
            Ok(true) => {
                let loads = scheduler.session().loads();
                let of_this = loads.iter().filter(|load| load.visit_to >= began);
                let pass = Pass::of(began, tokens, of_this);
                // Else there were only ends to tell.
                if tokens + prompts > 0 || pass.streamed() {
                    server.metrics.pass(pass);
                }
                server.metrics.load(scheduler.load());
            }
            // Nothing could run now: it need not be asked again at once.
            Ok(false) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => {
                let why = error.to_string();
                for order in open.values() {
                    server.metrics.ended(Outcome::Failed, &Account::default());
                    order.teller.tell(Heard::Broken(why.clone()));
                }
                return Err(error);
            }
        }
    }
}

fn take(
    mut order: Order,
    scheduler: &mut Scheduler<'_>,
    open: &mut HashMap<u64, Open>,
    server: &Server,
) {
    let id = order.id;
    let prompt = std::mem::take(&mut order.prompt);
    let prompt_tokens = prompt.len();
    match scheduler.submit(id, prompt, order.options.clone()) {
        Ok(()) => {
            let order = Open {
                name: Arc::clone(&order.name),
                teller: order.teller.clone(),
                since: order.since,
                last_token: None,
                tokens: 0,
                prompt_tokens,
                order: Some(order),
            };
            open.insert(id, order);
        }
        Err(error) => {
            server.metrics.ended(Outcome::Failed, &Account::default());
            order.teller.tell(Heard::Told(Told::Failed(error)));
        }
    }
}

/// Whether it was the last that there is to say.
fn tell(open: &mut Open, told: Told, server: &Server) -> bool {
    let now = Instant::now();
    let last = match &told {
        Told::Prompt { .. } => false,
        Told::Token(_) => {
            match open.last_token.replace(now) {
                None => server.metrics.first_token(now - open.since),
                Some(before) => server.metrics.next_token(now - before),
            }
            open.tokens += 1;
            false
        }
        Told::Ended { ended, account, .. } => {
            server.metrics.ended(outcome(*ended), account);
            server.log.say(|| line(&open.name, words(*ended), account));
            true
        }
        Told::Failed(error) => {
            server.metrics.ended(Outcome::Failed, &Account::default());
            server.log.say(|| format!("{}: failed: {error}", open.name));
            true
        }
    };
    if last {
        // Its client may come again at once, and must find the place free.
        drop(open.order.take());
    }
    open.teller.tell(Heard::Told(told));
    last
}

fn went_away(open: &Open, server: &Server) {
    // What it took is not accounted for; what was seen of it is.
    let account = Account {
        prompt_tokens: match open.tokens {
            0 => 0,
            _ => open.prompt_tokens,
        },
        generated_tokens: open.tokens,
        ..Account::default()
    };
    server.metrics.ended(Outcome::Gone, &account);
    server.log.say(|| {
        format!(
            "{}: the client went away after {} tokens, {} of {} of the prompt unread",
            open.name,
            open.tokens,
            open.prompt_tokens - account.prompt_tokens,
            open.prompt_tokens
        )
    });
}

fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::EndOfText | Ended::GrammarComplete | Ended::StopString => Outcome::Stop,
        Ended::MaxNewTokens | Ended::ContextFull => Outcome::Length,
        Ended::Interrupted | Ended::Failed => Outcome::Failed,
    }
}

fn words(ended: Ended) -> &'static str {
    match ended {
        Ended::EndOfText => "done",
        Ended::GrammarComplete => "its grammar is complete",
        Ended::StopString => "stopped by a text",
        Ended::MaxNewTokens => "as long as it may be",
        Ended::ContextFull => "the context is full",
        Ended::Interrupted => "interrupted",
        Ended::Failed => "failed",
    }
}

fn line(name: &str, how: &str, account: &Account) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut line = format!(
        "{name}: {how}; prompt {} tokens ({} cached) in {:.1} ms after {:.1} ms of queue; {} tokens",
        account.prompt_tokens,
        account.cached_tokens,
        ms(account.prompt),
        ms(account.queued),
        account.generated_tokens,
    );
    if let Some(rate) = super::metrics::tokens_per_s(account) {
        line.push_str(&format!(", {rate:.1} tok/s"));
    }
    if account.link_bytes > 0 {
        line.push_str(&format!(
            "; stalled {:.1} ms, link {:.1} MB",
            ms(account.stalled),
            account.link_bytes as f64 / 1e6
        ));
        if let Some(gbps) = super::metrics::link_gbps(account) {
            line.push_str(&format!(" at {gbps:.2} GB/s"));
        }
    }
    line
}

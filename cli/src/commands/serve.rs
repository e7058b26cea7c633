//! `engine serve`: listen, load meanwhile, answer until told to stop.

use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;

use engine::memory as system_memory;
use engine::{Blueprint, EngineError, Model};
use offload::LayerIndex;
use tokio::sync::oneshot;

use super::generate::load_telling;
use super::preface;
use crate::args::{ListenArgs, ServeArgs, suggested};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::Console;
use crate::serve::{self, Ended, Log, Order, Ready, Server, Settings, Texts};

/// Where the key is looked for.
const KEY: &str = "ENGINE_API_KEY";

pub fn run(args: ServeArgs) -> Result<(), Failure> {
    let console = Console::new(args.quiet);
    let stop = interrupt::flag();
    let (listener, address) = bind(&args.listen)?;
    console.print(format_args!("Listening on http://{address}"));
    let settings = settings(&args);
    if !address.ip().is_loopback() && settings.api_key.is_none() {
        console.print(
            "warning: whoever reaches this address can use the model: set ENGINE_API_KEY, or listen \
             on 127.0.0.1",
        );
    }
    let (server, orders) = Server::new(settings, Log::start(console));
    let server = Arc::new(server);
    let (said, model_ended) = oneshot::channel();
    let shared = Arc::clone(&server);
    let work = move || {
        // The receiver is gone where the server was told to stop.
        let _ = said.send(model(&args, &shared, &orders, &console));
    };
    let started = thread::Builder::new().name("model".to_owned()).spawn(work);
    started.map_err(Failure::Serve)?;
    match serve::listen(listener, &server, &stop, model_ended).map_err(Failure::Serve)? {
        Ended::Stopped => Ok(()),
        Ended::Model(Some(ended)) => ended,
        Ended::Model(None) => Err(Failure::ModelThread),
    }
}

fn bind(listen: &ListenArgs) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |source| Failure::Listen {
        address: format!("{}:{}", listen.host, listen.port),
        source,
    };
    let host = listen.host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, listen.port).to_socket_addrs().map_err(failed)?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let listener = TcpListener::bind(addresses.as_slice()).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn settings(args: &ServeArgs) -> Settings {
    let listen = &args.listen;
    let key = listen.api_key.clone().or_else(|| std::env::var(KEY).ok());
    let mut hosts = listen.allow_host.clone();
    if listen.host.parse::<IpAddr>().is_err() {
        hosts.push(listen.host.clone());
    }
    Settings {
        hosts,
        cors: listen.cors.clone(),
        api_key: key.filter(|key| !key.is_empty()),
        strict: listen.strict,
        vllm_metrics: listen.vllm_metrics,
        body_limit: usize::try_from(listen.body_limit.0).unwrap_or(usize::MAX),
        parallel: args.sharing.parallel,
        queue: args.sharing.queue,
        drain: listen.drain(),
    }
}

/// Loads the model and runs it. On a thread of its own.
fn model(
    args: &ServeArgs,
    server: &Server,
    orders: &Receiver<Order>,
    console: &Console,
) -> Result<(), Failure> {
    let mut options = args.setup.options();
    let limits = system_memory::limits().into_iter();
    let available = limits.map(|limit| limit.left_bytes).min();
    let memory_bytes = options.memory_bytes.or(available);
    let schedule = args.sharing.apply(&mut options, memory_bytes);
    let blueprint = Blueprint::new(&args.setup.source(), options)?;
    let idle = args.setup.idle(&blueprint.plan)?;
    let base = suggested(&blueprint.checkpoint.generation);
    let sampling = args.draw.over(&base);
    sampling.validate().map_err(EngineError::from)?;
    let texts = Texts::new(&blueprint)?;
    preface::print(&blueprint, idle.as_ref(), console);
    if let Some(why) = texts.no_template() {
        console.say(format_args!(
            "note: conversations are refused, because {why}; /v1/completions continues texts"
        ));
    }
    let peak = match blueprint.plan.streamed_count() {
        0 => None,
        _ => blueprint.measure_peak()?,
    };
    server.loads(Model::bytes_to_load(&blueprint)?);
    let loaded = load_telling(blueprint, false, console, &mut |bytes| {
        server.has_loaded(bytes);
    })?;
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let model = Box::leak(Box::new(loaded));
    if model.loaded().kept_plain || model.loaded().lowered_from.is_some() {
        preface::plan_again(model.blueprint(), &args.setup, console)?;
    }
    server.is_ready(Ready {
        name: name(args, model),
        texts,
        sampling,
        layers: layers(model),
        peak_gbps: peak.map(|peak| peak.gbps),
    });
    console.say("Ready.");
    Ok(serve::work(model, schedule, orders, server)?)
}

fn name(args: &ServeArgs, model: &Model) -> String {
    let location = model.blueprint().checkpoint.location();
    let name = || preface::short_name(location).replace(' ', "-");
    args.listen.alias.clone().unwrap_or_else(name)
}

/// Which of them stay.
fn layers(model: &Model) -> String {
    let plan = &model.blueprint().plan;
    let letter = |layer| match plan.is_streamed(layer) {
        true => 'S',
        false => 'R',
    };
    LayerIndex::first(plan.layers()).map(letter).collect()
}

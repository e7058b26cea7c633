//! Connections: how many, for how long, and their end. Nobody holds a connection by being slow: heads
//! and bodies must come in time, and what is sent must be taken. It knows no route.

use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;

use super::routes;
use super::server::{Phase, Shared};

/// Connections at once; one more waits to be taken.
const CONNECTIONS_MOST: u32 = 1024;

/// The head of a request must be there after this; so a connection without requests ends, too.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// A client that takes nothing of what is sent for so long is given up.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// What is read of a head at the most.
const HEAD_BYTES_MOST: usize = 64 << 10;

/// How often a signal is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// For the last words of streams that are cut off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Threads beside the model's: they only pass on. A second one would be woken with the first at each
/// token, and take a core from the model.
const THREADS: usize = 1;
const BLOCKING_THREADS: usize = 8;

/// How serving ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// It was told to stop.
    Stopped,
    /// The model's thread ended with this; `None`: without a word.
    Model(Option<T>),
}

/// Serves until the flag is raised or the model's thread has ended.
pub fn listen<T>(
    listener: TcpListener,
    server: &Shared,
    stop: &AtomicBool,
    model: oneshot::Receiver<T>,
) -> io::Result<Ended<T>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("serve")
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve(listener, server, stop, model));
    // What is still under way was cut off; the process ends without it.
    runtime.shutdown_background();
    ended
}

async fn serve<T>(
    listener: TcpListener,
    server: &Shared,
    stop: &AtomicBool,
    mut model: oneshot::Receiver<T>,
) -> io::Result<Ended<T>> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = routes::router(Arc::clone(server));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MOST as usize));
    let mut ended = None;
    {
        let mut stopped = pin!(raised(stop));
        loop {
            tokio::select! {
                (stream, place) = next(&listener, &places) => {
                    tokio::spawn(connection(stream, router.clone(), Arc::clone(server), place));
                }
                () = &mut stopped => break,
                said = &mut model => {
                    ended = Some(said.ok());
                    break;
                }
            }
        }
    }
    drop(listener);
    server.enter_phase(Phase::Draining);
    let patience = match ended {
        None => server.settings.drain,
        Some(_) => LAST_WORDS,
    };
    let mut all = pin!(places.acquire_many(CONNECTIONS_MOST));
    if tokio::time::timeout(patience, &mut all).await.is_err() {
        server.enter_phase(Phase::Over);
        // Those that do not take them now will not have them.
        let _ = tokio::time::timeout(LAST_WORDS, &mut all).await;
    }
    Ok(match ended {
        None => Ended::Stopped,
        Some(said) => Ended::Model(said),
    })
}

async fn raised(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A connection, when there is a place for it.
async fn next(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let place = Arc::clone(places).acquire_owned().await;
        match (place, listener.accept().await) {
            (Ok(place), Ok((stream, _))) => return (stream, place),
            // Too many open files, say: others must end first.
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    server: Shared,
    _place: OwnedSemaphorePermit,
) {
    // A token is sent when it is there.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Impatient::new(stream));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES_MOST)
            .serve_connection(io, TowerToHyperService::new(router))
    );
    let mut phase = server.phase();
    let told = async move {
        // Without a sender the server is gone.
        let _ = phase.wait_for(|phase| *phase != Phase::Open).await;
    };
    tokio::select! {
        // What went wrong with a connection is the client's to see.
        _ = connection.as_mut() => return,
        () = told => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// A stream whose other end must take what is sent.
struct Impatient {
    stream: TcpStream,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            deadline: None,
        }
    }

    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.deadline = None;
            return done;
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKEN_WITHIN)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.bounded(context, done)
    }
}

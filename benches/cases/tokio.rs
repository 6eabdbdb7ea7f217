//! What the peers that are asynchronous share: one runtime on one thread, as one uses it for a small server.

use std::io;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::runtime::{Builder, Runtime};

use crate::Outcome;
use crate::case::Laps;

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Connects to a server that says it is ready before it is.
pub(super) fn patiently<T, E>(mut connect: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match connect() {
            Err(_) if Instant::now() < until => std::thread::yield_now(),
            done => return done,
        }
    }
}

/// Has so many calls in flight until enough were made: waits for the oldest and starts another.
pub(super) async fn fly<F: Future<Output = Outcome>>(
    window: usize,
    laps: &mut Laps,
    call: impl Fn(u64) -> F,
) -> Outcome {
    let mut flying = FuturesOrdered::new();
    loop {
        while flying.len() < window {
            let Some(number) = laps.issue() else { break };
            flying.push_back(call(number));
        }
        match flying.next().await {
            Some(done) => done?,
            None => return Ok(()),
        }
        laps.lap();
    }
}

//! What the peers that are asynchronous share: one runtime on one thread, as one uses it for a small server.

use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

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

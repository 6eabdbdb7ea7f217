//! SIGTERM and SIGINT as something to read.

use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::problem::Problem;

/// Becomes readable when this process is to stop; never waits for a reader.
pub(crate) fn signals() -> Result<UnixStream, Problem> {
    let failed = "signals cannot be watched";
    let (reader, raise) = UnixStream::pair().map_err(Problem::here(failed))?;
    for signal in [SIGTERM, SIGINT] {
        raise
            .try_clone()
            .and_then(|raise| signal_hook::low_level::pipe::register(signal, raise))
            .map_err(Problem::here(failed))?;
    }
    Ok(reader)
}

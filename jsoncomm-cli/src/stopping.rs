//! SIGTERM, SIGINT and SIGHUP as a readable descriptor.

use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::problem::Problem;

/// Becomes readable when this process should stop. Writing to it never blocks.
pub(crate) fn signals() -> Result<UnixStream, Problem> {
    let failed = "signals cannot be watched";
    let (reader, raise) = UnixStream::pair().map_err(Problem::here(failed))?;
    let ignored = ignored();
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        // nohup(1) ignores SIGHUP.
        if signal == SIGHUP && ignored & (1 << (SIGHUP - 1)) != 0 {
            continue;
        }
        raise
            .try_clone()
            .and_then(|raise| signal_hook::low_level::pipe::register(signal, raise))
            .map_err(Problem::here(failed))?;
    }
    Ok(reader)
}

/// Returns the signals that this process ignores, as a bit set; none if `/proc` does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.unwrap_or_default()
}

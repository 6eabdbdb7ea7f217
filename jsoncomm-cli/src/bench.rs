//! `jsoncomm bench`: how long calls take.

use std::time::{Duration, Instant};

use jsoncomm::message::{RawError, RawMessage};

use crate::args::{Bench, Timeout};
use crate::deadline::Clock;
use crate::json::Json;
use crate::problem::Problem;
use crate::words::{Reading, Text};
use crate::{output, standard, words};

/// The default duration.
const TIME: Duration = Duration::from_secs(3);

/// The number of calls whose times are kept: the last ones.
const KEPT: usize = 1 << 20;

pub(crate) fn run(bench: Bench) -> Result<(), Problem> {
    let (place, mut words) = words::read_call(bench.words)?;
    let method = words.method()?;
    standard::check_output()?;
    let clock = Clock::start(bench.reach.timeout);
    let reading = Reading {
        limit: bench.reach.limit(),
        deadline: clock.reading(),
    };
    let text = words.json(reading)?.unwrap_or_else(Text::nothing);
    text.check_arguments()?;
    let params = RawMessage::new(text.json);
    let time = match bench.time {
        Some(Timeout::After(time)) => Some(time),
        Some(Timeout::Never) => None,
        None => bench.calls.is_none().then_some(TIME),
    };
    let link = place.connect(&bench.reach, clock.calling())?;
    let connection = match bench.reach.timeout {
        // The timeout is for connecting, and then for each call.
        None => link.end.clone(),
        Some(Timeout::After(time)) => link.end.with_timeout(time),
        Some(Timeout::Never) => link.end.without_timeout(),
    };
    let mut times: Vec<Duration> = Vec::new();
    let (start, mut made) = (Instant::now(), 0_u64);
    let until = time.and_then(|time| start.checked_add(time));
    let mut now = start;
    while bench.calls.is_none_or(|calls| made < calls) && until.is_none_or(|until| now < until) {
        connection.call::<RawMessage, RawError>(&method, &params)?;
        let then = std::mem::replace(&mut now, Instant::now());
        keep(&mut times, made, now - then);
        made += 1;
    }
    let spent = now - start;
    times.sort_unstable();
    let micros = |time: Duration| Json::number(format_args!("{:.1}", time.as_secs_f64() * 1e6));
    let rate = made as f64 / spent.as_secs_f64().max(f64::MIN_POSITIVE);
    let about = Json::object([
        ("calls", Json::number(made)),
        (
            "seconds",
            Json::number(format_args!("{:.3}", spent.as_secs_f64())),
        ),
        ("median_us", micros(rank(&times, 50))),
        ("p99_us", micros(rank(&times, 99))),
        ("calls_per_second", Json::number(format_args!("{rate:.0}"))),
    ]);
    output::result(&about.to_string())
}

fn keep(times: &mut Vec<Duration>, made: u64, time: Duration) {
    let place = usize::try_from(made).unwrap_or(usize::MAX) % KEPT;
    match times.get_mut(place) {
        Some(kept) => *kept = time,
        None => times.push(time),
    }
}

/// Returns a percentile of sorted times.
fn rank(times: &[Duration], percent: usize) -> Duration {
    let place = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(rank(&times, 50), Duration::from_micros(100));
        assert_eq!(rank(&times, 99), Duration::from_micros(198));
        let one = [Duration::from_micros(7)];
        assert_eq!((rank(&one, 50), rank(&one, 99)), (one[0], one[0]));
        assert_eq!(rank(&[], 50), Duration::ZERO);
    }
}

//! Which trace a call belongs to: `traceparent` of the [W3C Trace Context].
//!
//! [W3C Trace Context]: https://www.w3.org/TR/trace-context/

use std::fmt;
use std::str::FromStr;

/// The trace that a call belongs to, and the part of it that made the call: a `traceparent` of the [W3C Trace Context].
///
/// A client sends one with [`Connection::with_trace`](crate::Connection::with_trace); the handler gets it from
/// [`Call::trace_parent`](crate::Call::trace_parent), and makes its own calls with it. Nothing is sent that the program does not pass:
/// there is no state of a thread. With the feature `tracing`, each handler runs in a span that has it.
///
/// Whoever calls can write any, so it may be logged and never grants anything.
///
/// # Examples
///
/// ```
/// use jsoncomm::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace: TraceParent = text.parse()?;
/// assert_eq!(trace.parent_id(), 0x00f0_67aa_0ba9_02b7);
/// assert!(trace.is_sampled());
/// let own = trace.with_parent_id(7).ok_or("not 0")?;
/// assert_eq!(own.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [W3C Trace Context]: https://www.w3.org/TR/trace-context/
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "traceparent")]
pub struct TraceParent {
    /// Bytes, as numbers of this length would make everything that holds them larger.
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

/// A text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
#[non_exhaustive]
pub struct NotTraceParent;

impl TraceParent {
    /// Makes one of a trace's id, and the id of the part of it that calls, with all flags off. `None` if one of them is 0.
    pub fn new(trace_id: u128, parent_id: u64) -> Option<Self> {
        (trace_id != 0 && parent_id != 0).then_some(Self {
            trace_id: trace_id.to_be_bytes(),
            parent_id: parent_id.to_be_bytes(),
            flags: 0,
        })
    }

    /// Returns the id of the trace.
    pub fn trace_id(&self) -> u128 {
        u128::from_be_bytes(self.trace_id)
    }

    /// Returns the id of the part of the trace that calls.
    pub fn parent_id(&self) -> u64 {
        u64::from_be_bytes(self.parent_id)
    }

    /// Returns true if the caller may have recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Returns the same trace, as the caller has recorded it or not.
    #[must_use = "the trace itself is unchanged"]
    pub fn sampled(self, is: bool) -> Self {
        let flags = self.flags & !1 | u8::from(is);
        Self { flags, ..self }
    }

    /// Returns the same trace, for calls from another part of it. `None` if the id is 0.
    pub fn with_parent_id(self, parent_id: u64) -> Option<Self> {
        let parent_id = (parent_id != 0).then_some(parent_id)?.to_be_bytes();
        Some(Self { parent_id, ..self })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, parent) = (self.trace_id(), self.parent_id());
        write!(f, "00-{trace:032x}-{parent:016x}-{:02x}", self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = NotTraceParent;

    /// Reads any version but the forbidden `ff`. What a version above `00` has behind the flags is dropped.
    fn from_str(text: &str) -> Result<Self, NotTraceParent> {
        read(text).ok_or(NotTraceParent)
    }
}

fn read(text: &str) -> Option<TraceParent> {
    let mut parts = text.splitn(5, '-');
    let [version] = hex(parts.next()?)?;
    let trace_id = hex(parts.next()?)?;
    let parent_id = hex(parts.next()?)?;
    let [flags] = hex(parts.next()?)?;
    let ends = version > 0 || parts.next().is_none();
    let valid = version != 0xff && trace_id != [0; 16] && parent_id != [0; 8];
    (ends && valid).then_some(TraceParent {
        trace_id,
        parent_id,
        flags,
    })
}

/// Reads two lower-case digits for each byte.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * N || text.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let [high, low] = *pair else { return None };
        *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_parent_is_read_as_it_is_written() {
        let trace: TraceParent = TEXT.parse().unwrap();
        assert_eq!(trace.to_string(), TEXT);
        assert_eq!(trace.trace_id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert!(!trace.sampled(false).is_sampled());
        let made = TraceParent::new(trace.trace_id(), trace.parent_id()).unwrap();
        assert_eq!(made.sampled(true), trace);
        assert_eq!(TraceParent::new(0, 1), None);
        assert_eq!(TraceParent::new(1, 0), None);
        assert_eq!(trace.with_parent_id(0), None);
    }

    #[test]
    fn what_is_no_trace_parent_is_refused() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ä-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(NotTraceParent), "{bad}");
        }
        let later = TEXT.replacen("00", "cc", 1) + "-what-is-to-come";
        assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), TEXT);
    }
}

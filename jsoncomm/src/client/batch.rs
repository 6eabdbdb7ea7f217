//! Calls that are gathered, to be sent together in one datagram.

use std::sync::MutexGuard;
use std::time::Instant;

use super::send::Outgoing;
use super::table::{Shared, Table, recycle};
use crate::error::Error;
use crate::sys::control::Wait;
use crate::transport::SendAttempt;

/// How many calls are gathered at most: as many as a server takes by default.
const CALLS_MAX: usize = 64;

/// How long the text of several calls may be, in bytes. It then fits into one datagram with the socket buffers of all
/// kernels.
const BYTES_MAX: usize = 64 * 1024;

/// Calls that have been started and not been sent.
#[derive(Default)]
pub(super) struct Batch {
    /// The calls, each after a `[` or a comma.
    text: Vec<u8>,
    calls: Vec<Gathered>,
    /// How many batches have been sent before.
    pub(super) number: u64,
}

struct Gathered {
    /// `None` if it has no reply.
    id: Option<u64>,
    /// Length of its text in bytes.
    length: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns true if a text of this length can be gathered too; any can be the first.
    pub(super) fn has_room(&self, length: usize, limit: usize) -> bool {
        let bytes = self.text.len() + 1 + length + 1;
        self.is_empty() || self.calls.len() < CALLS_MAX && bytes <= limit.min(BYTES_MAX)
    }

    pub(super) fn push(&mut self, id: Option<u64>, text: &[u8]) {
        self.text.push(if self.is_empty() { b'[' } else { b',' });
        self.text.extend_from_slice(text);
        let length = text.len();
        self.calls.push(Gathered { id, length });
    }

    /// Removes a call that has a reply.
    pub(super) fn remove(&mut self, id: u64) {
        let mut start = 0;
        self.calls.retain(|call| {
            let length = 1 + call.length;
            let found = call.id == Some(id);
            if found {
                self.text.drain(start..start + length);
            } else {
                start += length;
            }
            !found
        });
        if let Some(first) = self.text.first_mut() {
            *first = b'[';
        }
    }

    /// Calls `send` with what is sent: an array, or the only call as it is.
    fn send<R>(&mut self, send: impl FnOnce(&[u8]) -> R) -> R {
        if self.calls.len() == 1 {
            return send(self.text.get(1..).unwrap_or_default());
        }
        self.text.push(b']');
        let result = send(&self.text);
        self.text.pop();
        result
    }

    /// Removes all calls and returns their ids, `None` for a call without a reply.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Option<u64>> + '_ {
        self.number += 1;
        self.text.clear();
        self.calls.drain(..).map(|call| call.id)
    }
}

impl Table {
    /// Tries to send what is gathered, unless another thread has done so.
    pub(super) fn try_batch(&mut self) -> Result<SendAttempt, Error> {
        if self.batch.is_empty() {
            return Ok(SendAttempt::Sent);
        }
        let transport = &self.transport;
        let tried = self
            .batch
            .send(|text| transport.send(text, &[], None, Wait::Never))?;
        if let SendAttempt::Sent = tried {
            self.schedule_check();
            let number = self.batch.number + 1;
            for id in self.batch.take() {
                match id.and_then(|id| self.calls.get_mut(&id)) {
                    Some(slot) => (slot.gathered, slot.batch) = (false, number),
                    None => self.notified = true,
                }
            }
        }
        Ok(tried)
    }

    /// Returns the calls that a fault without an id refuses as a whole: all that a reply may still come for, if they were sent
    /// in one batch.
    pub(super) fn only_batch(&self) -> Vec<u64> {
        let open = || self.calls.iter().filter(|(_, slot)| slot.is_open());
        let batch = open().next().map_or(0, |(_, slot)| slot.batch);
        let alone = batch != 0 && !self.notified && open().all(|(_, slot)| slot.batch == batch);
        let ids = open().filter(|_| alone).map(|(id, _)| *id);
        ids.collect()
    }

    /// Returns true if the call has not been sent.
    pub(super) fn is_gathered(&self, id: u64) -> bool {
        self.calls.get(&id).is_some_and(|slot| slot.gathered)
    }
}

impl Shared {
    /// Keeps a call, to send it with others. `id` is `None` if it has no reply. Returns with the table locked.
    ///
    /// If there is no room for it, what was gathered before is sent first, which waits if `waits`, until the deadline.
    /// Nothing is kept if that fails.
    pub(super) fn gather(
        &self,
        call: Outgoing<'_>,
        id: Option<u64>,
        deadline: Option<Instant>,
        waits: bool,
        reconnect: bool,
    ) -> Result<MutexGuard<'_, Table>, Error> {
        let mut table = self.lock();
        let limit = table.transport.bounds.message;
        while !table.batch.has_room(call.text.len(), limit) {
            table = self.flush(table, deadline, waits, reconnect)?;
        }
        table.batch.push(id, &call.text);
        if let Some(id) = id {
            let slot = table.insert(id);
            // If this thread unlocks the table below, another may send the call and receive the first part of its reply.
            (slot.gathered, slot.streamed) = (true, call.streamed);
        }
        recycle(&mut table.buffers, call.text);
        if !table.batch.has_room(0, limit) {
            // If there is no room now, the next call waits for it, and returns the error if there is one.
            return Ok(self
                .flush(table, deadline, false, reconnect)
                .unwrap_or_else(|_| self.lock()));
        }
        Ok(table)
    }

    /// Sends what is gathered, by whatever clone, as soon as there is room. It stays gathered if that fails.
    #[inline]
    pub(super) fn flush<'s>(
        &'s self,
        table: MutexGuard<'s, Table>,
        deadline: Option<Instant>,
        waits: bool,
        reconnect: bool,
    ) -> Result<MutexGuard<'s, Table>, Error> {
        if table.batch.is_empty() {
            return Ok(table);
        }
        self.send_text(table, None, deadline, waits, reconnect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket;
    use crate::transport::{Inbox, Kind, Transport};
    use rustix::io::Errno;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    /// The deadline of each wait.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn text(batch: &mut Batch) -> String {
        batch.send(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn any_call_can_be_removed() {
        for removed in 0..3 {
            let mut batch = Batch::default();
            for id in 0..3 {
                batch.push(Some(id), format!("{{\"id\":{id}}}").as_bytes());
            }
            batch.remove(removed);
            batch.remove(9);
            let left: Vec<_> = (0..3).filter(|id| *id != removed).collect();
            let texts: Vec<_> = left.iter().map(|id| format!("{{\"id\":{id}}}")).collect();
            assert_eq!(text(&mut batch), format!("[{}]", texts.join(",")));
            batch.remove(left[0]);
            assert_eq!(text(&mut batch), texts[1], "one is no array");
            batch.remove(left[1]);
            assert!(batch.is_empty() && batch.text.is_empty());
            batch.push(None, b"{}");
            batch.push(None, b"{}");
            assert_eq!(text(&mut batch), "[{},{}]");
        }
    }

    #[test]
    fn calls_are_gathered_up_to_their_number_and_their_bytes() {
        let mut batch = Batch::default();
        assert!(batch.has_room(1 << 20, 1000), "any can be the first");
        batch.push(None, &[b'0'; 500]);
        // With the brackets and a comma.
        assert!(batch.has_room(497, 1000) && !batch.has_room(498, 1000));
        assert!(batch.has_room(BYTES_MAX - 503, usize::MAX));
        assert!(!batch.has_room(BYTES_MAX - 502, usize::MAX));
        for _ in 2..CALLS_MAX {
            batch.push(None, b"{}");
        }
        assert!(batch.has_room(2, 10_000));
        batch.push(None, b"{}");
        assert!(!batch.has_room(2, 10_000));
    }

    /// Returns a connection and its other end.
    fn ends(kind: Kind) -> (Shared, Transport) {
        let (near, far) = socket::socketpair(kind).unwrap();
        let transport = |fd| Transport::new(fd, kind, &Limits::default()).unwrap();
        (Shared::new(transport(near), None, 1), transport(far))
    }

    /// Gathers a call and returns its id.
    fn gather(shared: &Shared) -> u64 {
        let id = shared.next_id();
        let call = shared.encode("a.b", &(1,), Some((id, None)), None).unwrap();
        drop(shared.gather(call, Some(id), None, false, false).unwrap());
        id
    }

    /// Fills the socket with what is no call.
    fn fill(transport: &Transport) {
        let filler = vec![b' '; 50_000];
        while transport.send(&filler, &[], None, Wait::Never).unwrap() == SendAttempt::Sent {}
    }

    #[test]
    fn a_thread_that_flushes_waits_for_no_calls_that_were_gathered_later() {
        for kind in [Kind::Datagram, Kind::Seqpacket] {
            let (shared, far) = ends(kind);
            let id = gather(&shared);
            let near = Arc::clone(&shared.lock().transport);
            fill(&near);
            thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    let until = Some(Instant::now() + PATIENCE);
                    shared.flush(shared.lock(), until, true, false).map(drop)
                });
                // It waits for room.
                while !shared.lock().has_leader {
                    thread::yield_now();
                }
                let mut inbox = Inbox::of_one_peer();
                let mut table = shared.lock();
                // Another thread sends the first, and gathers a second.
                while table.is_gathered(id) {
                    far.receive(&mut inbox, Wait::Never).unwrap();
                    let _ = table.try_batch().unwrap();
                }
                fill(&near);
                drop(table);
                gather(&shared);
                // The reply to the first, with which the thread is done.
                let reply = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#);
                let sent = far.send(reply.as_bytes(), &[], None, Wait::Never).unwrap();
                assert_eq!(sent, SendAttempt::Sent);
                waiting.join().unwrap().unwrap();
            });
            assert!(!shared.lock().batch.is_empty());
        }
    }

    #[test]
    fn gathered_calls_do_not_wait_for_memory_that_no_reply_gives_back() {
        for kind in [Kind::Datagram, Kind::Seqpacket] {
            let (shared, _far) = ends(kind);
            gather(&shared);
            let (call, times, errno) = ("sendto", 0..usize::MAX, Errno::NOBUFS);
            inject::begin(Some(Plan { call, times, errno }));
            let until = Some(Instant::now() + PATIENCE);
            let error = shared.flush(shared.lock(), until, true, false).map(drop);
            inject::begin(None);
            assert!(matches!(error, Err(Error::Os { .. })), "{error:?}");
        }
    }

    #[test]
    fn a_datagram_server_is_checked_for_calls_that_were_gathered_for_long() {
        let (shared, _far) = ends(Kind::Datagram);
        gather(&shared);
        shared.lock().next_check = Some(Instant::now());
        assert!(!shared.drain().unwrap());
        drop(shared.flush(shared.lock(), None, false, false).unwrap());
        assert!(shared.lock().next_due().is_some());
    }
}

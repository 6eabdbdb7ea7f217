//! Sending: any thread, at any time. A datagram is sent whole or not at all, and nothing waits with the table locked.

use std::os::fd::AsFd;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::slot::Slot;
use super::table::{Shared, Table, recycle};
use crate::envelope;
use crate::error::Error;
use crate::json::check_size;
use crate::message::{Pack, Packer, Row};
use crate::sys::control::Wait;
use crate::sys::epoll::Watch;
use crate::sys::wait::{self, WaitOutcome};
use crate::trace::TraceParent;
use crate::transport::{self, DEADLINE, PAUSE, SendAttempt};

/// How long replies stay in the socket while calls are sent to a datagram server. If a call then finds the server dead,
/// replies that came in that time, and while a call waited for room, are lost.
///
/// To drain the socket before each call would cost a system call each time and a copy of nearly every reply, and leave
/// a race all the same: a thread can be preempted between the drain and the send.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// How many calls to a datagram server receive at once, after one has found no room for a while.
const CONGESTED_CALLS: u8 = 32;

/// How many calls in flight are likely to fill the queue of a datagram server, which holds 11 messages
/// (`max_dgram_qlen` in [unix(7)]).
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
const CROWD: usize = 8;

/// An encoded call.
pub(super) struct Outgoing<'a> {
    /// `None` if it has no reply.
    id: Option<u64>,
    pub(super) text: Vec<u8>,
    pub(super) fds: Row<'a>,
    /// The reply comes in many parts.
    pub(super) streamed: bool,
}

impl Shared {
    /// Encodes a call. `reply` is its id and the timeout that the server is told, if it has a reply.
    pub(super) fn encode<'a>(
        &self,
        method: &str,
        params: &'a (impl Pack + ?Sized),
        reply: Option<(u64, Option<Duration>)>,
        trace: Option<&TraceParent>,
    ) -> Result<Outgoing<'a>, Error> {
        self.check_process()?;
        let mut table = self.lock();
        let mut text = table.buffers.pop().unwrap_or_default();
        let bounds = table.transport.bounds;
        // User code follows.
        drop(table);
        transport::reset_buffer(&mut text);
        let fds = Packer::at_depth(bounds.depth);
        let id = reply.map(|(id, _)| id);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let timeout = reply.and_then(|(_, timeout)| Some(millis(timeout?).max(1)));
        envelope::write_call(&mut text, id, method, params, timeout, &fds)
            .and_then(|()| {
                if let Some(trace) = trace {
                    envelope::add_trace(&mut text, trace);
                }
                check_size(&text, bounds.message)
            })
            .map_err(Error::Encode)?;
        let fds = fds.into_row();
        let streamed = false;
        Ok(Outgoing {
            id,
            text,
            fds,
            streamed,
        })
    }

    /// Sends a call as soon as there is room for it, after what is gathered. Returns with the table locked, so that the
    /// call has its slot before its reply is received. If it had to wait, the slot may be there, with the reply.
    ///
    /// `waits`: for room, until the deadline. `reconnect`: connects again if the server is gone.
    pub(super) fn send(
        &self,
        call: Outgoing<'_>,
        deadline: Option<Instant>,
        waits: bool,
        reconnect: bool,
    ) -> Result<MutexGuard<'_, Table>, Error> {
        let table = self.flush(self.lock(), deadline, waits, reconnect)?;
        let mut table = self.send_text(table, Some(&call), deadline, waits, reconnect)?;
        recycle(&mut table.buffers, call.text);
        Ok(table)
    }

    /// Sends a call, or if that is `None` what is gathered now, unless another thread does so first.
    pub(super) fn send_text<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        call: Option<&Outgoing<'_>>,
        deadline: Option<Instant>,
        waits: bool,
        mut reconnect: bool,
    ) -> Result<MutexGuard<'s, Table>, Error> {
        let batch = table.batch.number;
        loop {
            if call.is_none() && table.batch.number != batch {
                return Ok(table);
            }
            table.send_cancels();
            let (locked, tried) = self.try_send(table, call, deadline, waits);
            table = match tried {
                Ok(SendAttempt::Sent) => return Ok(locked),
                // Nothing was sent, so nothing is repeated.
                Err(Error::Closed) if reconnect => {
                    reconnect = false;
                    self.reconnect(locked, deadline)?
                }
                Ok(_) if !waits => return Err(Error::Full),
                // No call of this connection can end the shortage.
                Ok(SendAttempt::Exhausted(error)) if !locked.expects_reply() => {
                    return Err(error.into());
                }
                Ok(tried) => self.wait_for_room(locked, &tried, deadline)?,
                Err(error) => return Err(error),
            };
        }
    }

    /// Tries to send. Before, it drains a datagram socket, unless that has just been done (see [`DRAIN_INTERVAL`]): if
    /// the server is dead, the send has the kernel discard what the server sent before.
    #[inline]
    fn try_send<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        call: Option<&Outgoing<'_>>,
        deadline: Option<Instant>,
        waits: bool,
    ) -> (MutexGuard<'s, Table>, Result<SendAttempt, Error>) {
        if table.may_lose_replies() {
            let now = Instant::now();
            if table.next_drain.is_none_or(|at| at <= now) {
                // A callback may make a call, which must not drain in turn.
                table.next_drain = Some(now + DRAIN_INTERVAL);
                drop(table);
                let drained = self.drain();
                table = self.lock();
                match drained {
                    Ok(more) => table.next_drain = (!more).then(|| now + DRAIN_INTERVAL),
                    Err(error) => return (table, Err(error)),
                }
            }
        }
        let crowded = waits && table.calls.len() >= CROWD && table.postpones_receiving();
        let tried = match call {
            Some(call) if crowded => return self.send_blocking(table, call, deadline),
            Some(call) => table
                .transport
                .send(&call.text, &call.fds, None, Wait::Never),
            None => table.try_batch(),
        };
        (table, tried)
    }

    /// Sends a call to a datagram server whose queue is likely to be full, and waits in sendto(2) for a while if it is.
    ///
    /// To try first costs as much as to send, and to poll even more: a thread in poll is in the wait queue of its own
    /// socket, and the kernel looks at it for each message that the server reads, and for each reply.
    #[inline(never)]
    fn send_blocking<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        call: &Outgoing<'_>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'s, Table>, Result<SendAttempt, Error>) {
        let now = Instant::now();
        // All wait equally long, since the socket has one timeout for all threads.
        let until = now + PAUSE;
        let transport = Arc::clone(&table.transport);
        if deadline.is_some_and(|at| at < until) {
            return (
                table,
                transport.send(&call.text, &call.fds, None, Wait::Never),
            );
        }
        if let Some(id) = call.id {
            // Another thread may receive the reply.
            table.insert(id).streamed = call.streamed;
        }
        let transport = Arc::clone(&table.transport);
        drop(table);
        let tried = transport.send_until(&call.text, &call.fds, until, now);
        let mut table = self.lock();
        if !matches!(tried, Ok(SendAttempt::Sent)) {
            table.congestion = CONGESTED_CALLS;
            let slot = call.id.and_then(|id| table.calls.remove(&id));
            drop(table);
            // Whatever was stored there answers no call. Its descriptors may be slow to close.
            drop(slot);
            table = self.lock();
        }
        (table, tried)
    }

    /// Waits until there may be room to send. If there is no leader, this thread leads meanwhile: the server may itself
    /// be waiting for room.
    #[inline(never)]
    fn wait_for_room<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        tried: &SendAttempt,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'s, Table>, Error> {
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Err(Error::Deadline);
        }
        let short = matches!(tried, SendAttempt::Exhausted(_));
        let postpones = !short && table.postpones_receiving();
        table.congestion = table.congestion.saturating_sub(1);
        // What cannot be received stays readable.
        let receives = !table.drain_failed;
        let leader = if postpones {
            None
        } else {
            self.try_lead(&mut table)
        };
        let what = match (short, leader.is_some() && receives) {
            (false, true) => Watch::Either,
            (false, false) => Watch::Writing,
            (true, true) => Watch::Reading,
            (true, false) => Watch::HangUp,
        };
        if leader.is_some() {
            (table.drain_skipped, table.drain_failed) = (false, false);
        }
        let mut until = deadline;
        if !matches!(what, Watch::Either) {
            // No event says when a shortage ends, or another leader stops.
            let pause = Instant::now() + PAUSE;
            until = Some(deadline.map_or(pause, |at| at.min(pause)));
        }
        let transport = Arc::clone(&table.transport);
        drop(table);
        let waited = wait::poll(transport.as_fd(), what, until);
        if let Some(leader) = leader {
            leader.leave();
            self.drain()?;
        }
        let mut table = self.lock();
        if waited? == WaitOutcome::TimedOut && postpones {
            table.congestion = CONGESTED_CALLS;
        }
        Ok(table)
    }

    /// Connects to the server again, and ends the calls in flight, once it is certain that they get no reply.
    #[inline(never)]
    fn reconnect<'s>(
        &'s self,
        table: MutexGuard<'s, Table>,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'s, Table>, Error> {
        let old = Arc::clone(&table.transport);
        drop(table);
        // What the server sent before it closed is still a reply.
        self.lock().next_check = Some(Instant::now());
        while let Ok(true) = self.drain() {
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Err(Error::Deadline);
            }
        }
        // From here on no other thread receives from the old socket.
        let Some(leader) = self.lead_or_follow(self.lock(), &[], deadline)? else {
            return Err(Error::Deadline);
        };
        let table = self.lock();
        if !Arc::ptr_eq(&table.transport, &old) {
            drop(table);
            leader.leave();
            return Ok(self.lock());
        }
        let connector = self.connector.as_ref().filter(|_| !table.expects_reply());
        drop(table);
        let by = deadline.unwrap_or_else(|| Instant::now() + DEADLINE);
        let transport = connector.ok_or(Error::Closed)?.reconnect(old.bounds, by)?;
        let transport = transport.know_giver();
        let mut table = self.lock();
        table.transport = Arc::new(transport.replacing(&old)?);
        // None of them has been sent to this server.
        table.to_cancel.clear();
        table.notified = false;
        (table.next_check, table.next_drain) = (None, None);
        let listeners = table.end_all(false);
        drop(table);
        leader.leave();
        self.notify_all(listeners);
        Ok(self.lock())
    }

    /// Removes a call, and tells the server unless the call has ended. Its reply is dropped when it comes. Does nothing
    /// in a forked child: there it is the parent's call.
    pub(super) fn cancel(&self, id: u64) {
        if self.check_process().is_err() {
            return;
        }
        let mut table = self.lock();
        let slot = table.calls.remove(&id);
        if slot.as_ref().is_some_and(|slot| slot.gathered) {
            table.batch.remove(id);
        } else if slot.as_ref().is_some_and(Slot::is_open) {
            table.to_cancel.push(id);
            if table.may_lose_replies() {
                drop(table);
                // An error shows in the slots of the others.
                let _ = self.drain();
                table = self.lock();
            }
            table.send_cancels();
        }
        drop(table);
        // The table is unlocked: the slot may have a waker or a callback.
        drop(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket as sys;
    use crate::transport::{Inbox, Kind, ReceiveOutcome, Transport};
    use rustix::io::Errno;

    /// A connection with one call in flight, and the other end.
    fn beside_another(kind: Kind) -> (Shared, Transport) {
        let (near, far) = sys::socketpair(kind).unwrap();
        let transport = |fd| Transport::new(fd, kind, &Limits::default()).unwrap();
        let shared = Shared::new(transport(near), None, 1);
        shared.lock().insert(0);
        (shared, transport(far))
    }

    /// Sends a call. Waits for room, up to `time`.
    fn send(shared: &Shared, time: Duration) -> Result<(), Error> {
        let reply = Some((shared.next_id(), None));
        let call = shared.encode("a.b", &(1,), reply, None).unwrap();
        let deadline = Some(Instant::now() + time);
        shared.send(call, deadline, true, false).map(drop)
    }

    /// Receives until a call comes.
    fn receive_call(far: &Transport) {
        let (mut inbox, until) = (Inbox::default(), Some(Instant::now() + DEADLINE));
        loop {
            let received = far.receive_by(&mut inbox, until, Instant::now()).unwrap();
            let ReceiveOutcome::Datagram(datagram) = received else {
                panic!("no datagram in time");
            };
            if inbox.text(&datagram).starts_with(b"{") {
                return;
            }
        }
    }

    #[test]
    fn a_call_beside_others_does_not_spin_while_the_kernel_is_short_of_memory() {
        for kind in [Kind::Datagram, Kind::Seqpacket] {
            for led in [false, true] {
                for errno in [Errno::NOBUFS, Errno::TOOMANYREFS] {
                    let (shared, _far) = beside_another(kind);
                    shared.lock().has_leader = led;
                    let (call, times) = ("sendto", 0..usize::MAX);
                    inject::begin(Some(Plan { call, times, errno }));
                    let pauses = 5;
                    let error = send(&shared, PAUSE * pauses).unwrap_err();
                    assert!(matches!(error, Error::Deadline), "{error:?}");
                    let attempts = inject::counts()[call];
                    assert!(attempts <= 3 + pauses as usize, "{attempts} attempts");
                    inject::begin(None);
                }
            }
        }
    }

    #[test]
    fn a_call_under_backpressure_does_not_spin_while_receiving_fails() {
        let (shared, far) = beside_another(Kind::Seqpacket);
        let filler = vec![b' '; 50_000];
        let near = Arc::clone(&shared.lock().transport);
        while near.send(&filler, &[], None, Wait::Never).unwrap() == SendAttempt::Sent {}
        let sent = far.send(b"{}", &[], None, Wait::Never).unwrap();
        assert_eq!(sent, SendAttempt::Sent);
        let (call, times, errno) = ("recvmsg", 0..usize::MAX, Errno::NOBUFS);
        inject::begin(Some(Plan { call, times, errno }));
        let pauses = 5;
        let error = send(&shared, PAUSE * pauses).unwrap_err();
        assert!(matches!(error, Error::Deadline), "{error:?}");
        let attempts = inject::counts()[call];
        assert!(attempts <= 3 + pauses as usize, "{attempts} attempts");
        inject::end();
    }

    #[test]
    fn replies_are_received_before_a_call_but_not_before_every_call() {
        let (shared, far) = beside_another(Kind::Datagram);
        inject::begin(None);
        let start = Instant::now();
        for _ in 0..20 {
            send(&shared, DEADLINE).unwrap();
        }
        let drains = inject::counts()["recvmsg"] as u128;
        let most = 1 + start.elapsed().as_micros() / DRAIN_INTERVAL.as_micros();
        assert!((1..=most).contains(&drains), "{drains} drains");
        let reply = br#"{"jsonrpc":"2.0","id":0,"result":1}"#;
        let sent = far.send(reply, &[], None, Wait::Never).unwrap();
        assert_eq!(sent, SendAttempt::Sent);
        let come = Instant::now();
        while come.elapsed() < DRAIN_INTERVAL {
            std::hint::spin_loop();
        }
        send(&shared, DEADLINE).unwrap();
        assert!(shared.lock().has_entry(0));
    }

    #[test]
    fn a_datagram_server_that_waits_for_room_itself_gets_it() {
        let (shared, far) = beside_another(Kind::Datagram);
        let until = Some(Instant::now() + DEADLINE);
        // Keeps the call from draining the socket before it is sent.
        shared.lock().next_drain = until;
        let filler = vec![b' '; 50_000];
        let near = Arc::clone(&shared.lock().transport);
        for end in [&*near, &far] {
            while end.send(&filler, &[], None, Wait::Never).unwrap() == SendAttempt::Sent {}
        }
        let far = std::thread::spawn(move || {
            let sent = far.send_by(&filler, &[], None, until).unwrap();
            assert_eq!(sent, SendAttempt::Sent);
            receive_call(&far);
        });
        send(&shared, DEADLINE).unwrap();
        assert!(
            shared.lock().congestion > 0,
            "the next call receives at once"
        );
        far.join().unwrap();
    }

    /// Has so many calls in flight that the next one waits in the kernel, where there is no room.
    fn crowd(shared: &Shared) {
        let mut table = shared.lock();
        for other in 1..CROWD as u64 {
            table.insert(1000 + other);
        }
        // Keeps the call from draining the socket before it is sent.
        table.next_drain = Some(Instant::now() + DEADLINE);
        let filler = vec![b' '; 50_000];
        let near = Arc::clone(&table.transport);
        while near.send(&filler, &[], None, Wait::Never).unwrap() == SendAttempt::Sent {}
    }

    #[test]
    fn a_reply_may_come_before_the_call_that_waited_in_the_kernel_goes_on() {
        let (shared, far) = beside_another(Kind::Datagram);
        crowd(&shared);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| send(&shared, DEADLINE));
            // The table is not locked while it waits.
            while !shared.lock().calls.contains_key(&1) && !sending.is_finished() {
                std::thread::yield_now();
            }
            let reply = br#"{"jsonrpc":"2.0","id":1,"result":1}"#;
            let sent = far.send(reply, &[], None, Wait::Never).unwrap();
            assert_eq!(sent, SendAttempt::Sent);
            while !shared.lock().has_entry(1) {
                shared.drain().unwrap();
            }
            receive_call(&far);
            sending.join().unwrap().unwrap();
        });
        assert!(shared.lock().has_entry(1));
    }

    #[test]
    fn a_call_that_found_no_room_in_time_is_not_in_flight() {
        let (shared, _far) = beside_another(Kind::Datagram);
        crowd(&shared);
        inject::begin(None);
        let pauses = 5;
        let error = send(&shared, PAUSE * pauses).unwrap_err();
        assert!(matches!(error, Error::Deadline), "{error:?}");
        let attempts = inject::counts()["sendto"];
        assert!(attempts <= 3 + pauses as usize, "{attempts} attempts");
        let table = shared.lock();
        assert!(table.congestion > 0, "the next call receives at once");
        assert!(!table.calls.contains_key(&1));
    }

    #[test]
    fn a_call_under_backpressure_does_not_spin_beside_a_receiving_thread() {
        for kind in [Kind::Datagram, Kind::Seqpacket] {
            let (shared, far) = beside_another(kind);
            shared.lock().has_leader = true;
            let filler = vec![b' '; 50_000];
            let near = Arc::clone(&shared.lock().transport);
            // The socket stays readable, since the other thread does not receive.
            for end in [&*near, &far] {
                while end.send(&filler, &[], None, Wait::Never).unwrap() == SendAttempt::Sent {}
            }
            inject::begin(None);
            let pauses = 5;
            let error = send(&shared, PAUSE * pauses).unwrap_err();
            assert!(matches!(error, Error::Deadline), "{error:?}");
            let attempts = inject::counts()["sendto"];
            assert!(attempts <= 3 + pauses as usize, "{attempts} attempts");
        }
    }
}

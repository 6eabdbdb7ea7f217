//! Sending: any thread, at any time. A datagram is sent whole or not at all, and nobody waits in sendmsg(2).

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::leader::Leader;
use super::table::{Shared, Table};
use crate::envelope;
use crate::error::Error;
use crate::json::check_size;
use crate::limits::Limits;
use crate::message::{Pack, Packer, Row};
use crate::sys::control::Wait;
use crate::sys::wait::{self, WaitOutcome};
use crate::transport::{self, DEADLINE, Kind, PAUSE, SendAttempt};

/// How long replies are left where they are while calls go out to a datagram server. What has come in that time, and
/// while a call waits for room, is lost if a call then finds the server dead. To take in what has come before each
/// call costs a system call each time and a copy of nearly every reply, and would not be certain either: a thread can
/// lose its processor between that and the send.
const UNSAVED: Duration = Duration::from_millis(10);

/// So many calls to a datagram server that has had no room for a while take in replies at once.
const CROWDED: u8 = 32;

/// A call as it is sent.
pub(super) struct Outgoing<'a> {
    text: Vec<u8>,
    fds: Row<'a>,
}

/// How a call is sent.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    /// Until when it waits for room.
    pub(super) deadline: Option<Instant>,
    /// It does not wait for room: an event loop drives the connection, and nobody waits for the call.
    pub(super) driven: bool,
    /// If the server is gone, another may be connected to.
    pub(super) reconnect: bool,
}

impl Shared {
    /// Writes a call that is answered; `timeout` is what the server is told. Returns its id.
    pub(super) fn encode_call<'a>(
        &self,
        method: &str,
        params: &'a (impl Pack + ?Sized),
        timeout: Option<Duration>,
    ) -> Result<(u64, Outgoing<'a>), Error> {
        self.check_process()?;
        let mut table = self.lock();
        let id = table.next_id();
        let budget = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let timeout = timeout.map(|timeout| budget(timeout).max(1));
        Ok((id, self.encode(table, Some(id), method, params, timeout)?))
    }

    /// Writes a call that is not answered.
    pub(super) fn encode_oneway<'a>(
        &self,
        method: &str,
        params: &'a (impl Pack + ?Sized),
    ) -> Result<Outgoing<'a>, Error> {
        self.check_process()?;
        self.encode(self.lock(), None, method, params, None)
    }

    fn encode<'a>(
        &self,
        mut table: MutexGuard<'_, Table>,
        id: Option<u64>,
        method: &str,
        params: &'a (impl Pack + ?Sized),
        timeout: Option<u64>,
    ) -> Result<Outgoing<'a>, Error> {
        let (mut text, bounds) = (table.take_text(), table.line.bounds());
        // What follows runs the program's code.
        drop(table);
        transport::reset_buffer(&mut text);
        let fds = Packer::at_depth(bounds.depth);
        let written = envelope::write_call(&mut text, id, method, params, timeout, &fds)
            .and_then(|()| check_size(&text, bounds.message));
        if let Err(error) = written {
            self.lock().give_text(text);
            return Err(Error::Encode(error));
        }
        let fds = fds.into_row();
        Ok(Outgoing { text, fds })
    }

    /// Sends a call as soon as there is room for it. Returns with the table locked, so that no reply comes before the
    /// call has its slot. After an error nothing has been sent.
    pub(super) fn send(
        &self,
        call: Outgoing<'_>,
        sending: Sending,
    ) -> Result<MutexGuard<'_, Table>, Error> {
        let Outgoing { text, fds } = call;
        match self.send_when_room(&text, &fds, sending) {
            Ok(mut table) => {
                table.give_text(text);
                Ok(table)
            }
            Err(error) => {
                self.lock().give_text(text);
                Err(error)
            }
        }
    }

    fn send_when_room(
        &self,
        text: &[u8],
        fds: &Row<'_>,
        sending: Sending,
    ) -> Result<MutexGuard<'_, Table>, Error> {
        let (mut table, mut reconnect) = (self.lock(), sending.reconnect);
        loop {
            table.send_cancels();
            let (again, tried) = self.try_send(table, text, fds);
            table = match tried {
                Ok(SendAttempt::Sent) => return Ok(again),
                // Nothing was sent, so this repeats nothing.
                Ok(SendAttempt::Closed) if reconnect => {
                    reconnect = false;
                    self.reconnect(again, sending.deadline)?
                }
                Ok(SendAttempt::Closed) => return Err(Error::Closed),
                Ok(_) if sending.driven => return Err(Error::Full),
                // Nothing of ours is under way that could end it.
                Ok(SendAttempt::Exhausted(error)) if again.has_none() => return Err(error.into()),
                Ok(tried) => self.wait_for_room(again, &tried, sending.deadline)?,
                Err(error) => return Err(error),
            };
        }
    }

    /// Tries to send. Before that, what a datagram server may have sent before it died is taken in, unless that has
    /// just been done (see [`UNSAVED`]): the send would find it dead, and have the kernel throw that away.
    #[inline]
    fn try_send<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        text: &[u8],
        fds: &Row<'_>,
    ) -> (MutexGuard<'s, Table>, Result<SendAttempt, Error>) {
        if table.line.kind() == Kind::Datagram && !table.led && !table.has_none() {
            let now = Instant::now();
            if table.save_at.is_none_or(|at| at <= now) {
                // Callbacks may call again meanwhile: these do not take in what others do, one inside the other.
                table.save_at = Some(now + UNSAVED);
                drop(table);
                let taken = self.take_in();
                table = self.lock();
                match taken {
                    Ok(more) => table.save_at = (!more).then(|| now + UNSAVED),
                    Err(Error::Closed) => return (table, Ok(SendAttempt::Closed)),
                    Err(error) => return (table, Err(error)),
                }
            }
        }
        let tried = table.line.send(text, fds, None, Wait::Never);
        (table, tried)
    }

    /// Waits until there may be room to send. If nobody receives, this thread does meanwhile: the server may be waiting
    /// for that itself.
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
        // The queue of a datagram server is full as soon as that is busy: what has come is left where it is for a
        // while. If that does not help, the server may be waiting for room itself, and that is believed for some calls.
        let is_datagram = table.line.kind() == Kind::Datagram;
        let patient = is_datagram && !short && table.crowded == 0;
        table.crowded = table.crowded.saturating_sub(1);
        // What cannot be received stays readable.
        let receives = !table.short;
        let table = match patient {
            true => table,
            false => match self.try_to_lead(table) {
                Ok(leader) => return self.wait_as_leader(leader, !short, receives, deadline),
                Err(table) => table,
            },
        };
        // Another thread receives; nothing says when that one stops.
        let line = Arc::clone(&table.line);
        drop(table);
        let what = match short {
            true => wait::For::Nothing,
            false => wait::For::Writing,
        };
        let pause = Instant::now() + PAUSE;
        let until = deadline.map_or(pause, |at| at.min(pause));
        let waited = line.wait(what, Some(until))?;
        let mut table = self.lock();
        if patient && waited == WaitOutcome::TimedOut {
            table.crowded = CROWDED;
        }
        Ok(table)
    }

    fn wait_as_leader<'s>(
        &'s self,
        leader: Leader<'s>,
        sends: bool,
        receives: bool,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'s, Table>, Error> {
        let line = leader.line();
        let waited = match (sends, receives) {
            (true, true) => line.wait(wait::For::Either, deadline),
            (true, false) => line.wait_or_pause(wait::For::Writing, deadline),
            (false, true) => line.wait_or_pause(wait::For::Reading, deadline),
            (false, false) => line.wait_or_pause(wait::For::Nothing, deadline),
        };
        leader.leave();
        if waited? == WaitOutcome::TimedOut {
            return Err(Error::Deadline);
        }
        self.take_in()?;
        Ok(self.lock())
    }

    /// Connects anew, once it is certain that no reply can come to the calls in flight: these end.
    #[inline(never)]
    fn reconnect<'s>(
        &'s self,
        table: MutexGuard<'s, Table>,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'s, Table>, Error> {
        let old = Arc::clone(&table.line);
        drop(table);
        // What came before the end is still a reply. A server that stops may answer some more.
        self.lock().look = Some(Instant::now());
        while self.take_in().is_ok_and(|more| more) {
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Err(Error::Deadline);
            }
        }
        // From here on nobody receives from the old socket.
        let leader = self.wait_to_lead(deadline)?;
        let table = self.lock();
        if !Arc::ptr_eq(&table.line, &old) {
            drop(table);
            leader.leave();
            return Ok(self.lock());
        }
        let dial = self.dial.as_ref().filter(|_| !table.is_awaited());
        drop(table);
        let bounds = old.bounds();
        let limits = Limits {
            message: bounds.message,
            depth: bounds.depth.limit(),
            ..Limits::default()
        };
        let by = deadline.unwrap_or_else(|| Instant::now() + DEADLINE);
        let line = dial.ok_or(Error::Closed)?.reconnect(&limits, by)?;
        let mut table = self.lock();
        table.line = Arc::new(line.replacing(&old)?);
        table.cancelled.clear();
        table.notified = false;
        (table.look, table.save_at) = (None, None);
        // None of them has been sent to this server.
        let notifications = table.end_all();
        drop(table);
        leader.leave();
        self.give_all(notifications);
        Ok(self.lock())
    }

    /// Cancels a call: it is removed, and the server told unless it has ended. Its reply is dropped when it comes. In a
    /// forked child it is the parent's call, and goes on.
    pub(super) fn cancel(&self, id: u64) {
        if self.check_process().is_err() {
            return;
        }
        let mut table = self.lock();
        let slot = table.remove(id);
        if slot.as_ref().is_some_and(super::slot::Slot::is_open) {
            table.cancelled.push(id);
            if table.line.kind() == Kind::Datagram && !table.led && !table.has_none() {
                drop(table);
                // To send to a server that has died loses what it has sent. Whatever trouble there is, the others find
                // it themselves.
                let _ = self.take_in();
                table = self.lock();
            }
            table.send_cancels();
        }
        drop(table);
        // A callback is dropped with the table unlocked.
        drop(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::slot::Slot;
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket as sys;
    use crate::transport::{Inbox, Transport};
    use rustix::io::Errno;

    /// A connection with one call in flight, and the other end.
    fn beside_another(kind: Kind) -> (Shared, Transport) {
        let (near, far) = sys::socketpair(kind.into()).unwrap();
        let line = |fd| Transport::new(fd, kind, &Limits::default()).unwrap();
        let shared = Shared::new(line(near), None, 1);
        shared.lock().insert(0, Slot::one());
        (shared, line(far))
    }

    /// Sends a call; waits so long for room.
    fn send(shared: &Shared, time: Duration) -> Result<(), Error> {
        let (_, call) = shared.encode_call("a.b", &(1,), None).unwrap();
        let sending = Sending {
            deadline: Some(Instant::now() + time),
            driven: false,
            reconnect: false,
        };
        shared.send(call, sending).map(drop)
    }

    #[test]
    fn a_call_beside_others_does_not_spin_while_the_kernel_is_short_of_memory() {
        for kind in [Kind::Datagram, Kind::Seqpacket] {
            for led in [false, true] {
                for errno in [Errno::NOBUFS, Errno::TOOMANYREFS] {
                    let (shared, _far) = beside_another(kind);
                    shared.lock().led = led;
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
    fn a_call_that_finds_no_room_does_not_spin_while_what_has_come_cannot_be_received() {
        let (shared, far) = beside_another(Kind::Seqpacket);
        let filler = vec![b' '; 50_000];
        let near = Arc::clone(&shared.lock().line);
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
    fn what_has_come_is_taken_in_before_a_call_but_not_before_each() {
        let (shared, far) = beside_another(Kind::Datagram);
        inject::begin(None);
        let start = Instant::now();
        for _ in 0..20 {
            send(&shared, DEADLINE).unwrap();
        }
        let looks = inject::counts()["recvmsg"] as u128;
        let most = 1 + start.elapsed().as_micros() / UNSAVED.as_micros();
        assert!((1..=most).contains(&looks), "{looks} looks");
        let answer = br#"{"jsonrpc":"2.0","id":0,"result":1}"#;
        let sent = far.send(answer, &[], None, Wait::Never).unwrap();
        assert_eq!(sent, SendAttempt::Sent);
        let come = Instant::now();
        while come.elapsed() < UNSAVED {
            std::hint::spin_loop();
        }
        send(&shared, DEADLINE).unwrap();
        assert!(shared.lock().has_kept(0));
    }

    #[test]
    fn a_datagram_server_that_waits_for_room_itself_gets_it() {
        let (shared, far) = beside_another(Kind::Datagram);
        let until = Some(Instant::now() + DEADLINE);
        // As if what has come had just been taken in.
        shared.lock().save_at = until;
        let filler = vec![b' '; 50_000];
        let near = Arc::clone(&shared.lock().line);
        for line in [&*near, &far] {
            while line.send(&filler, &[], None, Wait::Never).unwrap() == SendAttempt::Sent {}
        }
        let far = std::thread::spawn(move || {
            let sent = far.send_by(&filler, &[], None, until).unwrap();
            assert_eq!(sent, SendAttempt::Sent);
            let mut inbox = Inbox::default();
            loop {
                let datagram = far.receive_by(&mut inbox, until, Instant::now()).unwrap();
                let datagram = datagram.into_datagram().unwrap();
                if inbox.text(&datagram).starts_with(b"{") {
                    return;
                }
            }
        });
        send(&shared, DEADLINE).unwrap();
        assert!(shared.lock().crowded > 0, "the next does not wait as long");
        far.join().unwrap();
    }

    #[test]
    fn a_call_that_finds_no_room_does_not_spin_beside_a_thread_that_receives() {
        for kind in [Kind::Datagram, Kind::Seqpacket] {
            let (shared, far) = beside_another(kind);
            shared.lock().led = true;
            let filler = vec![b' '; 50_000];
            let near = Arc::clone(&shared.lock().line);
            // Something to receive, which the other thread does not get to.
            for line in [&*near, &far] {
                while line.send(&filler, &[], None, Wait::Never).unwrap() == SendAttempt::Sent {}
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

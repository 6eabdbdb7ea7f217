//! Sending calls, and the word that they are not wanted any more.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::Exchange;
use crate::client::started::Started;
use crate::envelope;
use crate::error::Error;
use crate::limits::Limits;
use crate::line::{self, DEADLINE, Kind, PAUSE, Sent, Tried};
use crate::message::{self, Pack, Packer};
use crate::sys::control::Wait;
use crate::sys::wait;

/// How long answers are left where they are while calls go out to a datagram server. What has come in that time, and
/// while a call waits for room, is lost if a call then finds the server dead. To take in what has come before each
/// call costs a system call each time and a copy of nearly every answer, and would not be certain either: a thread can
/// lose its processor between that and the send.
const UNSAVED: Duration = Duration::from_millis(10);

/// A call as it goes out.
#[derive(Clone, Copy)]
pub(in crate::client) struct Outgoing {
    pub(in crate::client) id: Option<u64>,
    /// What the server is told.
    pub(in crate::client) timeout: Option<Duration>,
    pub(in crate::client) deadline: Option<Instant>,
    /// A loop drives the connection, and nobody waits for the call: it does not wait for room.
    pub(in crate::client) driven: bool,
    /// If the server has gone before, another may be connected to.
    pub(in crate::client) reconnect: bool,
}

impl Exchange {
    /// Writes a call into the buffer.
    fn encode<'a>(
        &mut self,
        id: Option<u64>,
        method: &str,
        params: &'a (impl Pack + ?Sized),
        timeout: Option<Duration>,
    ) -> Result<Packer<'a>, Error> {
        let budget = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let timeout = timeout.map(|timeout| budget(timeout).max(1));
        line::empty(&mut self.text);
        let bounds = self.line.bounds();
        let fds = Packer::at_depth(bounds.depth);
        envelope::write_call(&mut self.text, id, method, params, timeout, &fds)
            .and_then(|()| message::check_size(&self.text, bounds.message))
            .map_err(Error::Encode)?;
        Ok(fds)
    }

    /// Sends a call, and waits for room unless a loop drives the connection and nobody waits for the call. When
    /// the server has gone before, it may connect anew.
    pub(in crate::client) fn send(
        &mut self,
        outgoing: Outgoing,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<(), Error> {
        let Outgoing {
            id,
            timeout,
            deadline,
            driven,
            ..
        } = outgoing;
        self.send_cancels();
        let fds = self.encode(id, method, params, timeout)?.into_row();
        match self.push(&fds, deadline, driven) {
            // Nothing was sent, so this repeats nothing.
            Err(Error::Closed) if outgoing.reconnect => {
                self.reconnect(deadline)?;
                self.push(&fds, deadline, driven)
            }
            pushed => pushed,
        }
    }

    /// Sends what stands in the buffer.
    fn push(
        &mut self,
        fds: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
        driven: bool,
    ) -> Result<(), Error> {
        if !driven && self.started.is_empty() {
            return self.line.send_by(&self.text, fds, None, deadline);
        }
        if self.line.kind() == Kind::Datagram {
            let now = Instant::now();
            self.save_answers(now)?;
            if !driven && self.send_soon(fds, deadline, now)? {
                return Ok(());
            }
        }
        self.send_taking_in(fds, deadline, driven)
    }

    /// Sends, and takes in answers while there is no room: the server may be waiting for that itself.
    fn send_taking_in(
        &mut self,
        fds: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
        driven: bool,
    ) -> Result<(), Error> {
        loop {
            match self.line.try_send(&self.text, fds, None, Wait::Never)? {
                Tried::Done => return Ok(()),
                Tried::Full | Tried::Short(_) if driven => return Err(Error::Full),
                Tried::Full => self.line.wait(wait::For::Either, deadline)?,
                Tried::Short(_) => self.line.wait_a_while(wait::For::Reading, deadline)?,
            }
            self.take_in()?;
        }
    }

    /// Sends to a datagram server, whose queue is full as soon as it is busy, and leaves what has come where it is
    /// while the server makes room. Says whether that went well. If not, the server may be waiting for room itself,
    /// and that is believed for a while.
    fn send_soon(
        &mut self,
        fds: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<bool, Error> {
        /// For so many calls.
        const BELIEVED: u8 = 32;
        if self.stuck > 0 {
            self.stuck -= 1;
            return Ok(false);
        }
        let pause = now + PAUSE;
        let until = deadline.map_or(pause, |deadline| deadline.min(pause));
        if until <= now {
            return Ok(false);
        }
        // To try without waiting first would cost a call nearly as much again whenever there is no room.
        match self.line.try_send_until(&self.text, fds, until, now)? {
            Tried::Done => return Ok(true),
            Tried::Full => self.stuck = BELIEVED,
            Tried::Short(_) => {}
        }
        Ok(false)
    }

    /// Says whether there is a way to the next server when this one has gone.
    pub(in crate::client) fn can_reconnect(&self) -> bool {
        self.dial.is_some()
    }

    /// Connects anew, once it is certain that the calls in flight have nothing more to hope for: they are told.
    fn reconnect(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        // What came before the end is still an answer. A server that stops may answer some more.
        self.look = Some(Instant::now());
        while self.take_in().is_ok_and(|more| more) {
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Err(Error::Deadline);
            }
        }
        let possible = self.can_reconnect() && !self.is_awaited();
        let dial = self.dial.as_ref().filter(|_| possible);
        let bounds = self.line.bounds();
        let limits = Limits {
            message: bounds.message,
            depth: bounds.depth.limit(),
            ..Limits::default()
        };
        let deadline = deadline.unwrap_or_else(|| Instant::now() + DEADLINE);
        let line = dial.ok_or(Error::Closed)?.reconnect(&limits, deadline)?;
        self.line.replace(line)?;
        self.cancelled.clear();
        self.notified = false;
        (self.look, self.save_at) = (None, None);
        Ok(())
    }

    /// Takes in what a datagram server may have sent before it died: the next send would find it dead, and
    /// have the kernel throw that away. Not if that has just been done: see [`UNSAVED`].
    fn save_answers(&mut self, now: Instant) -> Result<(), Error> {
        if !self.started.is_empty() && self.save_at.is_none_or(|at| at <= now) {
            self.save_at = None;
            let more = self.take_in()?;
            self.save_at = (!more).then(|| now + UNSAVED);
        }
        Ok(())
    }

    /// Gives a call up and tells the server that its answer is not wanted any more. The answer is dropped
    /// anyway.
    pub(in crate::client) fn cancel(&mut self, id: u64) -> Option<Started> {
        let started = self.started.remove(&id);
        if self.line.kind() == Kind::Datagram && !self.started.is_empty() {
            // Whatever trouble there is, the others find it themselves.
            let _ = self.take_in();
        }
        match &started {
            Some(Started::Come(_)) => {}
            Some(Started::Stream(frames)) if frames.is_ended() => {}
            _ => self.send_cancel(id),
        }
        started
    }

    pub(super) fn send_cancel(&mut self, id: u64) {
        self.cancelled.push(id);
        self.send_cancels();
    }

    /// Tells the server what is not wanted any more. What finds no room is told later: a stream would go on
    /// for ever.
    pub(super) fn send_cancels(&mut self) {
        if !self.cancelled.is_empty() {
            self.try_cancels();
        }
    }

    #[inline(never)]
    fn try_cancels(&mut self) {
        while let Some(id) = self.cancelled.last() {
            let mut text = Vec::new();
            envelope::write_cancel(&mut text, *id);
            if let Ok(Sent::Full) = self.line.send(&text, &[], None, Wait::Never) {
                return;
            }
            self.cancelled.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Inbox, Line};
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket as sys;
    use rustix::io::Errno;

    /// An exchange with one call in flight, and the other end.
    fn beside_another(kind: Kind) -> (Exchange, Line) {
        let (near, far) = sys::socketpair(kind.into()).unwrap();
        let line = |fd| Line::new(fd, kind, &Limits::default()).unwrap();
        let mut exchange = Exchange::new(line(near), None, 0);
        exchange.begin(0, Started::Waiting(None));
        (exchange, line(far))
    }

    fn outgoing(time: Duration) -> Outgoing {
        Outgoing {
            id: Some(1),
            timeout: None,
            deadline: Some(Instant::now() + time),
            driven: false,
            reconnect: false,
        }
    }

    #[test]
    fn a_call_beside_others_does_not_spin_while_the_kernel_is_short_of_memory() {
        for kind in [Kind::Datagram, Kind::Seqpacket] {
            for errno in [Errno::NOBUFS, Errno::TOOMANYREFS] {
                let (mut exchange, _far) = beside_another(kind);
                let (call, times) = ("sendto", 0..usize::MAX);
                inject::begin(Some(Plan { call, times, errno }));
                let pauses = 5;
                let outgoing = outgoing(PAUSE * pauses);
                let error = exchange.send(outgoing, "a.b", &(1,)).unwrap_err();
                assert!(matches!(error, Error::Deadline), "{error:?}");
                let attempts = inject::counts()[call];
                assert!(attempts <= 3 + pauses as usize, "{attempts} attempts");
                inject::begin(None);
            }
        }
    }

    #[test]
    fn what_has_come_is_taken_in_before_a_call_but_not_before_each() {
        let (mut exchange, far) = beside_another(Kind::Datagram);
        inject::begin(None);
        let start = Instant::now();
        for _ in 0..20 {
            let sent = exchange.send(outgoing(DEADLINE), "a.b", &(1,));
            sent.unwrap();
        }
        let looks = inject::counts()["recvmsg"] as u128;
        let most = 1 + start.elapsed().as_micros() / UNSAVED.as_micros();
        assert!((1..=most).contains(&looks), "{looks} looks");
        let answer = br#"{"jsonrpc":"2.0","id":0,"result":1}"#;
        let sent = far.send(answer, &[], None, Wait::Never).unwrap();
        assert_eq!(sent, Sent::Done);
        let come = Instant::now();
        while come.elapsed() < UNSAVED {
            std::hint::spin_loop();
        }
        exchange.send(outgoing(DEADLINE), "a.b", &(1,)).unwrap();
        assert!(exchange.has_come(0));
    }

    #[test]
    fn a_datagram_server_that_waits_for_room_itself_gets_it() {
        let (mut exchange, far) = beside_another(Kind::Datagram);
        let until = Some(Instant::now() + DEADLINE);
        // As if what has come had just been taken in.
        exchange.save_at = until;
        let filler = vec![b' '; 50_000];
        for line in [&exchange.line, &far] {
            while line.send(&filler, &[], None, Wait::Never).unwrap() == Sent::Done {}
        }
        let far = std::thread::spawn(move || {
            far.send_by(&filler, &[], None, until).unwrap();
            let mut inbox = Inbox::default();
            loop {
                let datagram = far.receive_by(&mut inbox, until).unwrap();
                if inbox.text(&datagram).starts_with(b"{") {
                    return;
                }
            }
        });
        exchange.send(outgoing(DEADLINE), "a.b", &(1,)).unwrap();
        assert!(exchange.stuck > 0, "the next does not wait as long");
        far.join().unwrap();
    }
}

//! Datagram endpoints: one socket for all peers, whose answers find room or wait for a timer.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::sending::{Attempt, Flushed, Outlet, replace, smaller};
use super::source::{DrainPolicy, Share, SourceAction, close, leave, receive};
use crate::accounts::{Account, InFlight, Order};
use crate::address::Bound;
use crate::envelope::Id;
use crate::error::Error;
use crate::observe::UndeliveredReason;
use crate::peer::Peer;
use crate::queue::{Backlog, Caller, OutgoingReply, SendOutcome, SendQueue, WaitsFor};
use crate::reactor::{Cause, Key};
use crate::router::Routes;
use crate::service::{ReplySink, ServerContext};
use crate::socket::local_address;
use crate::sys::OsError;
use crate::sys::control::Wait;
use crate::sys::name::Name;
use crate::sys::socket::{How, is_connected, shut_down};
use crate::transport::{Datagram, Inbox, ReceiveOutcome, Transport};

/// A datagram endpoint. It keeps nothing of a peer but answers that found no room.
#[derive(Debug)]
pub(super) struct Datagrams<S> {
    // Dropped before the socket is closed; see `Bound`. Elsewhere, as a connection has the room of an endpoint.
    path: Option<Box<Bound>>,
    pub(super) line: Transport,
    pub(super) routes: Arc<Routes<S>>,
    /// Whether there is one peer only, who needs no name.
    connected: bool,
    /// Who that one is, as the program says.
    peer: Option<Box<Peer>>,
    backlogs: HashMap<Option<Name>, Backlog>,
    /// What is in flight to all peers together: the kernel does not tell them apart.
    in_flight: InFlight,
    /// Who is charged for that.
    account: Arc<Account>,
    /// The user who sent the last message, and what that one costs; the next is often of the same.
    last: Option<(Option<u32>, Arc<Account>)>,
    /// When its timer will come, so that it is not set twice.
    timer: Option<Instant>,
    habit: DrainPolicy,
    /// Others may have the socket as well, and serve there when we have gone.
    shared: bool,
    /// Nothing more is taken.
    retired: bool,
}

impl<S> Datagrams<S> {
    pub(super) fn new(line: Transport, path: Option<Bound>, desk: &ServerContext) -> Self {
        Self {
            path: path.map(Box::new),
            line,
            routes: Arc::default(),
            connected: false,
            peer: None,
            backlogs: HashMap::new(),
            in_flight: InFlight::new(Order::Any),
            account: desk.accounts.apart(),
            last: None,
            timer: None,
            habit: DrainPolicy::default(),
            shared: false,
            retired: false,
        }
    }

    /// One on a socket that was made elsewhere. If it has a name, others can find it when we have gone.
    pub(super) fn adopted(line: Transport, desk: &ServerContext) -> Result<Self, Error> {
        let connected = is_connected(line.as_fd())?;
        Ok(Self {
            shared: local_address(line.as_fd())?.is_some(),
            connected,
            ..Self::new(line, None, desk)
        })
    }

    /// Returns true if there is one peer only.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes a program's word on who the one peer is.
    pub(super) fn set_peer(&mut self, peer: Option<Peer>) {
        self.peer = peer.map(Box::new);
    }

    /// Takes what has come already and nothing more: the path goes first, so that nobody finds it any more, and
    /// whoever has found it gets `EPIPE`. Of a socket that is shared nothing more is taken, and it is not shut
    /// down: that would be so for all who have it.
    pub(super) fn retire(&mut self) {
        self.path = None;
        self.retired = true;
        if !self.shared {
            // It fails when nobody can send to it anyway.
            let _ = shut_down(self.line.as_fd(), How::Reading);
        }
    }

    /// Takes the next datagram, if it is for us.
    fn receive(&mut self, inbox: &mut Inbox) -> Result<ReceiveOutcome, OsError> {
        match self.shared && self.retired {
            true => Ok(ReceiveOutcome::Empty),
            false => self.line.receive(inbox, Wait::Never),
        }
    }

    /// Closes it, its path first.
    pub(super) fn close(self, desk: &ServerContext) {
        drop(self.path);
        match self.shared {
            true => leave(self.line, desk),
            false => close(self.line, desk),
        }
    }

    /// How many answers wait for peers.
    pub(super) fn waiting(&self) -> usize {
        let backlogs = self.backlogs.values();
        backlogs.map(|backlog| backlog.queue.len()).sum()
    }

    /// How many descriptors, and how many bytes in memfds, may be unread of what was sent.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        self.in_flight.look(self.line.shared_fd())
    }

    /// Handles what has come, at most one turn's worth, and tries again what had found no room.
    pub(super) fn act(
        &mut self,
        state: &mut S,
        desk: &mut ServerContext,
        inbox: &mut Inbox,
        key: Key,
        cause: Cause,
    ) -> SourceAction {
        if cause == Cause::Timer {
            self.timer = None;
            self.retry(desk);
        }
        let mut share = Share::of(&desk.limits);
        while share.is_left() && desk.is_here() {
            // The next message would be anybody's, and could bring more of them.
            if self.must_wait(key) {
                return self.ignore();
            }
            match self.receive(inbox) {
                Ok(ReceiveOutcome::Datagram(mut datagram)) => {
                    share.take(inbox.text(&datagram));
                    self.handle(state, desk, inbox, key, &mut datagram);
                    if share.taken == 1 && !self.habit.looks() {
                        break;
                    }
                }
                Ok(ReceiveOutcome::Empty | ReceiveOutcome::Closed) if self.retired => {
                    // It would be reported as ready for ever.
                    return self.ignore();
                }
                Ok(ReceiveOutcome::Empty | ReceiveOutcome::Closed) => {
                    self.habit.note(share.taken);
                    break;
                }
                // Whatever it is, the endpoint stays.
                Ok(ReceiveOutcome::Exhausted) | Err(_) => {
                    return SourceAction::pause(desk.limits.accept_pause);
                }
            }
        }
        self.next()
    }

    /// Waits, if it has to, until more of what the user of the last message has sent is closed.
    fn must_wait(&self, key: Key) -> bool {
        let last = self.last.as_ref().map(|(_, account)| account);
        last.is_some_and(|account| account.must_wait() && account.wait_to_read(key.to_bits()))
    }

    /// Is not told of what comes, and has a turn only when a peer that was full is to be tried again.
    fn ignore(&mut self) -> SourceAction {
        match self.next() {
            SourceAction::At(due) => SourceAction::Ignore(Some(due)),
            _ => SourceAction::Ignore(None),
        }
    }

    /// Asks for a turn at that time.
    fn at(&mut self, time: Instant) -> SourceAction {
        self.timer = Some(time);
        SourceAction::At(time)
    }

    fn handle(
        &mut self,
        state: &mut S,
        desk: &mut ServerContext,
        inbox: &Inbox,
        key: Key,
        datagram: &mut Datagram,
    ) {
        let sender = Peer::of_message(datagram.credentials, datagram.pidfd.take());
        let user = sender.as_ref().map(Peer::uid);
        if self.last.as_ref().is_some_and(|(last, _)| *last != user) {
            self.last = None;
        }
        let fresh = || (user, desk.accounts.of(user));
        let (_, account) = self.last.get_or_insert_with(fresh);
        // A path resolves when the answer is sent, and with our rights: only names are answered.
        let to = inbox.sender().filter(|name| name.is_abstract());
        let peer = if self.connected {
            vouched_for(self.peer.as_deref(), user)
        } else {
            sender.as_ref()
        };
        let caller = Caller {
            key: key.to_bits(),
            to,
            account,
            peer,
        };
        let routes = &*self.routes;
        let admitted = routes.admits(caller.peer);
        let mut lane = DatagramWriter {
            outlet: Outlet {
                line: &self.line,
                to,
                account: &self.account,
                in_flight: &mut self.in_flight,
                in_order: routes.is_bare(),
            },
            connected: self.connected,
            backlogs: &mut self.backlogs,
            account,
        };
        receive(
            routes, state, desk, &mut lane, &caller, inbox, datagram, admitted,
        );
    }

    /// The way back to `to`, where what has to wait is charged to `account`.
    pub(super) fn lane<'e>(
        &'e mut self,
        to: Option<&'e Name>,
        account: &'e Arc<Account>,
    ) -> DatagramWriter<'e> {
        DatagramWriter {
            outlet: Outlet {
                line: &self.line,
                to,
                account: &self.account,
                in_flight: &mut self.in_flight,
                in_order: self.routes.is_bare(),
            },
            connected: self.connected,
            backlogs: &mut self.backlogs,
            account,
        }
    }

    /// When the earliest peer that is full should be tried again.
    pub(super) fn next(&mut self) -> SourceAction {
        let earliest = self.backlogs.values().map(Backlog::due).min();
        match earliest {
            Some(due) if self.timer.is_none_or(|timer| due < timer) => self.at(due),
            _ => SourceAction::Keep,
        }
    }

    /// Tries the peers whose time has come.
    fn retry(&mut self, desk: &mut ServerContext) {
        let now = Instant::now();
        let in_order = self.routes.is_bare();
        self.backlogs.retain(|name, backlog| {
            if backlog.due() > now {
                return true;
            }
            let mut outlet = Outlet {
                line: &self.line,
                to: name.as_ref(),
                account: &self.account,
                in_flight: &mut self.in_flight,
                in_order,
            };
            let waits = flush(&mut outlet, backlog, desk);
            if waits && !backlog.postpone(&desk.limits, now) {
                // Full for too long.
                desk.note_lost(UndeliveredReason::BacklogFull, backlog.queue.len());
                return false;
            }
            waits
        });
    }
}

/// Who has sent a message on a connected socket. Its peer may have passed its end on to a process with more rights, so
/// what the kernel says of the message's `user` can only take away what the program has said.
fn vouched_for(peer: Option<&Peer>, user: Option<u32>) -> Option<&Peer> {
    peer.filter(|peer| Some(peer.uid()) == user)
}

/// Sends what waits for a datagram peer, for as long as it has room. Returns true if something still waits.
fn flush(outlet: &mut Outlet<'_>, backlog: &mut Backlog, desk: &mut ServerContext) -> bool {
    let waiting = backlog.queue.len();
    let flushed = outlet.flush(&mut backlog.queue, desk);
    if flushed == Flushed::Gone {
        desk.note_lost(UndeliveredReason::Disconnected, backlog.queue.len());
        return false;
    }
    if backlog.queue.len() < waiting {
        backlog.progressed(&desk.limits);
    }
    !backlog.queue.is_empty()
}

/// The way back to the sender of a datagram.
pub(super) struct DatagramWriter<'e> {
    outlet: Outlet<'e>,
    connected: bool,
    backlogs: &'e mut HashMap<Option<Name>, Backlog>,
    /// Who is charged for what has to wait.
    account: &'e Arc<Account>,
}

impl ReplySink for DatagramWriter<'_> {
    fn deliver(&mut self, desk: &mut ServerContext, mut mail: OutgoingReply<'_>) {
        if !desk.is_here() {
            return;
        }
        let to = self.outlet.to;
        if to.is_none() && !self.connected {
            return desk.note_lost(UndeliveredReason::NoAddress, 1);
        }
        let attempt = match self.backlogs.is_empty() {
            true => self.outlet.offer(&SendQueue::default(), &mail),
            false => self.offer_behind(desk, &mail),
        };
        let waits_for = match attempt {
            Attempt::Sent => return mail.finish(SendOutcome::Sent),
            Attempt::Gone => return desk.note_lost(UndeliveredReason::Disconnected, 1),
            Attempt::Refused(error) => {
                if let Some(fault) = replace(desk, mail, &error) {
                    self.deliver(desk, OutgoingReply::Queued(fault));
                }
                return;
            }
            Attempt::Waits(waits_for) => waits_for,
        };
        self.keep(desk, mail, waits_for);
    }

    fn withdraw(&mut self, id: &Id<'_>) -> bool {
        let backlog = self.backlogs.get_mut(&self.outlet.to.copied());
        backlog.is_some_and(|backlog| backlog.queue.withdraw(id))
    }
}

impl DatagramWriter<'_> {
    /// Sends an answer, after what waits for its peer.
    #[inline(never)]
    fn offer_behind(&mut self, desk: &mut ServerContext, mail: &OutgoingReply<'_>) -> Attempt {
        let name = self.outlet.to.copied();
        // A peer that asks again may well have made room; what waits for it goes first.
        if let Some(backlog) = self.backlogs.get_mut(&name) {
            if flush(&mut self.outlet, backlog, desk) {
                return self.outlet.offer(&backlog.queue, mail);
            }
            self.backlogs.remove(&name);
        }
        self.outlet.offer(&SendQueue::default(), mail)
    }

    /// Has an answer wait, if it may.
    #[inline(never)]
    fn keep(&mut self, desk: &mut ServerContext, mail: OutgoingReply<'_>, waits_for: WaitsFor) {
        let name = self.outlet.to.copied();
        let crowded = self.backlogs.len() >= desk.limits.backlog_peers;
        if crowded && !self.backlogs.contains_key(&name) {
            return desk.note_lost(UndeliveredReason::BacklogFull, 1);
        }
        let fresh = || Backlog::new(&desk.limits, Instant::now());
        let backlog = self.backlogs.entry(name).or_insert_with(fresh);
        let mut push = |letter| {
            let outbox = &mut backlog.queue;
            outbox.push(letter, waits_for, &desk.limits, self.account)
        };
        let kept = match mail.into_queued().map(&mut push) {
            Some(Ok(())) => true,
            Some(Err(letter)) if !letter.is_item() => {
                // There may be room to say so.
                let _ = smaller(&letter.text, "the answer found no room").map(push);
                false
            }
            Some(Err(_)) | None => false,
        };
        if backlog.queue.is_empty() {
            self.backlogs.remove(&name);
        }
        if !kept {
            desk.note_lost(UndeliveredReason::BacklogFull, 1);
        }
    }
}

//! Connections: one socket for each peer, who is not read from while it does not read.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::leaving::Leaving;
use super::sending::{Attempt, Flushed, Outlet, instead, replace};
use super::source::{DrainPolicy, Share, SourceAction, close_or_tell, not_admitted, receive};
use crate::accounts::{Account, Charge, Cost, InFlight, Order};
use crate::envelope::Id;
use crate::error::Fault;
use crate::limits::Limits;
use crate::observe::{DisconnectReason, EventKind, UndeliveredReason};
use crate::peer::Peer;
use crate::queue::{Caller, OutgoingReply, SendOutcome, SendQueue, WaitsFor};
use crate::reactor::{Cause, Key, Watch};
use crate::router::Routes;
use crate::service::{ReplySink, ServerContext};
use crate::sys::control::{Credentials, Wait, peer_pidfd};
use crate::sys::socket::is_at_end;
use crate::sys::wait::{self, WaitOutcome};
use crate::transport::{Inbox, ReceiveOutcome, Transport};

/// The malformed messages of a connection of late.
#[derive(Debug, Default)]
struct Malformed {
    count: usize,
    since: Option<Instant>,
}

impl Malformed {
    /// Counts one more. Says whether that is more than allowed in so short a time.
    fn is_one_too_many(&mut self, limits: &Limits) -> bool {
        let now = Instant::now();
        let over = |since: Instant| now.duration_since(since) > limits.malformed_window;
        if self.since.is_none_or(over) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count > limits.malformed
    }
}

/// One client of a listening endpoint.
#[derive(Debug)]
pub(super) struct Connected<S> {
    way: ConnectionWriter,
    pub(super) routes: Arc<Routes<S>>,
    peer: Option<Peer>,
    /// Whether the endpoint's rule admits the peer, once it has been asked.
    admitted: Option<bool>,
    account: Arc<Account>,
    /// Counts the connection to its user; absent when that one has too many.
    charge: Option<Charge>,
    habit: DrainPolicy,
    malformed: Malformed,
    /// The program has said who the peer is.
    vouched_for: bool,
    /// The peer has gone, and all it had sent has been read.
    ended: bool,
    /// The server stops when it is closed.
    stops_server: bool,
    /// As many of its user's connections were being closed as may be when it came: nothing is read from it until there
    /// are fewer.
    parked: bool,
}

/// The way to a connection's peer and back. It is apart from the rest so that it can be used while that is looked
/// at.
#[derive(Debug)]
struct ConnectionWriter {
    line: Transport,
    account: Arc<Account>,
    peer: Option<Credentials>,
    outbox: SendQueue,
    in_flight: InFlight,
    /// Answers have no id, and stay in order.
    in_order: bool,
    /// When to try again what should have found room.
    retry: Option<Instant>,
    /// Nothing more can be sent: the peer has gone, or was cut for exceeding its budget.
    broken: bool,
}

impl<S> Connected<S> {
    pub(super) fn new(line: Transport, routes: Arc<Routes<S>>, desk: &mut ServerContext) -> Self {
        let pidfd = match routes.asks_for_pidfds() {
            true => peer_pidfd(line.as_fd()).ok(),
            false => None,
        };
        let peer = Peer::of_connection(line.as_fd(), pidfd);
        let account = desk.accounts.of(peer.as_ref().map(Peer::uid));
        let parked = account.room_to_close() == 0;
        Self {
            routes,
            charge: account.try_charge(Cost::CONNECTION),
            way: ConnectionWriter {
                line,
                account: Arc::clone(&account),
                peer: peer.as_ref().map(Peer::credentials),
                outbox: SendQueue::default(),
                in_flight: InFlight::new(Order::Sent),
                in_order: false,
                retry: None,
                broken: false,
            },
            peer,
            admitted: None,
            account,
            habit: DrainPolicy::default(),
            malformed: Malformed::default(),
            vouched_for: false,
            ended: false,
            stops_server: false,
            parked,
        }
    }

    /// Asks again who the peer is, and for its process. What the kernel does not tell stays as it is, and so does what the
    /// program has said.
    pub(super) fn ask_for_pidfd(&mut self) {
        if self.vouched_for {
            return;
        }
        if let Ok(pidfd) = peer_pidfd(self.as_fd()) {
            if let Some(peer) = Peer::of_connection(self.as_fd(), Some(pidfd)) {
                self.way.peer = Some(peer.credentials());
                self.peer = Some(peer);
            }
        }
    }

    /// Takes a program's word on who the peer is. What it costs is that one's from now on.
    pub(super) fn set_peer(&mut self, peer: Option<Peer>, desk: &mut ServerContext) {
        self.account = desk.accounts.of(peer.as_ref().map(Peer::uid));
        // It may be the same one's.
        self.charge = None;
        self.charge = self.account.try_charge(Cost::CONNECTION);
        self.parked = self.account.room_to_close() == 0;
        self.way.account = Arc::clone(&self.account);
        self.way.peer = peer.as_ref().map(Peer::credentials);
        self.peer = peer;
        self.vouched_for = true;
    }

    /// Has the server stop when this is closed.
    pub(super) fn stop_server_on_close(&mut self) {
        self.stops_server = true;
    }

    /// Returns true if the server stops when this is closed.
    pub(super) fn stops_server(&self) -> bool {
        self.stops_server
    }

    /// Who the peer is, without what more is known of it.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        self.way.peer
    }

    /// Says whether its user has no more connections than it may.
    pub(super) fn is_within_limits(&self) -> bool {
        self.charge.is_some()
    }

    /// Says whether the endpoint's rule admits the peer, which is asked once.
    pub(super) fn is_admitted(&mut self) -> bool {
        let rule = || self.routes.admits(self.peer.as_ref());
        *self.admitted.get_or_insert_with(rule)
    }

    /// How many answers wait for the peer.
    pub(super) fn waiting(&self) -> usize {
        self.way.outbox.len()
    }

    /// Does not wait any more until something is closed.
    pub(super) fn stop_waiting(&self, key: Key) {
        self.account.forget(key.to_bits());
    }

    /// How many descriptors, and how many bytes in memfds, may be unread of what was sent.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        self.way.in_flight.look(self.way.line.shared_fd())
    }

    /// Counts the answers that go with it, unless that has been done.
    pub(super) fn note_lost(&self, desk: &mut ServerContext) {
        if !self.way.broken {
            // At the end of a server they have waited for too long.
            let loss = if desk.stopping {
                UndeliveredReason::BacklogFull
            } else {
                UndeliveredReason::Disconnected
            };
            desk.note_lost(loss, self.waiting());
        }
    }

    /// Closes it. Gives back what is left of it while something that was sent is unread.
    pub(super) fn close(self, desk: &ServerContext) -> Option<Leaving> {
        let ConnectionWriter {
            line, in_flight, ..
        } = self.way;
        if in_flight.is_unread(line.shared_fd()) && !desk.stopping {
            return Some(Leaving::new(line, self.account, self.charge, in_flight));
        }
        // An empty packet looks like the end, and there can be more behind it.
        if self.ended && is_at_end(line.as_fd()).unwrap_or(false) {
            return None;
        }
        if let Some(line) = close_or_tell(line) {
            desk.accounts.close(&self.account, line);
        }
        None
    }

    /// Closes it before anything has been sent to it.
    pub(super) fn abandon(self, desk: &ServerContext) {
        // Nothing that was sent is unread.
        let _ = self.close(desk);
    }

    /// Tells the peer why it is turned away, and closes it.
    pub(super) fn turn_away(mut self, desk: &mut ServerContext, fault: &Fault) {
        self.refuse(desk, fault);
        // It was sent nothing but this.
        let _ = self.close(desk);
    }

    /// Tells the peer why it is about to be cut off.
    fn refuse(&mut self, desk: &mut ServerContext, fault: &Fault) {
        desk.peer = self.credentials();
        desk.note(EventKind::Rejected(fault.code));
        self.routes.refuse(desk, &mut self.way, b"", fault);
    }

    /// Waits, if it has to, until fewer connections of its user are being closed. Nothing is heard of it meanwhile, also
    /// if its peer goes: then it would be one more.
    fn stays_parked(&mut self, key: Key) -> bool {
        self.parked = self.account.wait_to_begin(key.to_bits());
        if !self.parked {
            self.account.resume_newcomers();
        }
        self.parked
    }

    /// Sends what had found no room, and only then handles what has come: a client that does not read is
    /// not read from.
    pub(super) fn act(
        &mut self,
        state: &mut S,
        desk: &mut ServerContext,
        inbox: &mut Inbox,
        key: Key,
        cause: Cause,
    ) -> SourceAction {
        if self.parked && self.stays_parked(key) {
            return SourceAction::Ignore(None);
        }
        // One that was made elsewhere has not been asked for before: its rule is set after it is adopted.
        if !self.is_admitted() {
            self.refuse(desk, &not_admitted());
            return SourceAction::Close;
        }
        let way = &mut self.way;
        if cause == Cause::Timer {
            way.retry = None;
        }
        way.in_order = self.routes.is_bare();
        desk.peer = way.peer;
        if !way.outbox.is_empty() {
            let waiting = way.outbox.len();
            way.flush(desk, cause);
            let stuck = way.outbox.is_full() && way.outbox.len() == waiting;
            if stuck && !way.broken {
                return way.try_later(desk, cause);
            }
        }
        let caller = Caller {
            key: key.to_bits(),
            to: None,
            account: &self.account,
            peer: self.peer.as_ref(),
        };
        let mut share = Share::of(&desk.limits);
        if self.account.must_wait() || !way.is_clear() {
            if let Some(next) = way.hold_off(key, &self.account) {
                return next;
            }
        }
        while share.is_left() && way.is_clear() && desk.is_here() {
            let mut datagram = match way.line.receive(inbox, Wait::Never) {
                Ok(ReceiveOutcome::Datagram(datagram)) => datagram,
                Ok(ReceiveOutcome::Empty) => {
                    self.habit.note(share.taken);
                    break;
                }
                Ok(ReceiveOutcome::Closed) => {
                    self.ended = true;
                    return SourceAction::Close;
                }
                Err(_) => return SourceAction::Close,
                Ok(ReceiveOutcome::Exhausted) => {
                    return SourceAction::pause(desk.limits.accept_pause);
                }
            };
            share.take(inbox.text(&datagram));
            let routes = &*self.routes;
            let sound = receive(
                routes,
                state,
                desk,
                way,
                &caller,
                inbox,
                &mut datagram,
                true,
            );
            if !sound && self.malformed.is_one_too_many(&desk.limits) {
                way.cut(desk, DisconnectReason::Malformed);
            } else if self.account.is_overdrawn() {
                way.cut(desk, DisconnectReason::UnusedFds);
            } else if self.account.must_wait() {
                break;
            }
            if share.taken == 1 && !self.habit.looks() {
                break;
            }
        }
        way.next()
    }

    /// Sends an answer from outside its turn.
    pub(super) fn deliver(&mut self, desk: &mut ServerContext, mail: OutgoingReply<'_>) {
        self.way.deliver(desk, mail);
    }

    /// What to watch for now.
    pub(super) fn next(&self) -> SourceAction {
        self.way.next()
    }
}

impl<S> AsFd for Connected<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.way.line.as_fd()
    }
}

impl ConnectionWriter {
    /// Returns true if the peer is there and has room for what is sent to it, so that it can be read from. While answers
    /// are held back it is read from as long as more of them may wait: what it asks for next may bring nothing.
    #[inline]
    fn is_clear(&self) -> bool {
        !self.broken && (self.outbox.is_empty() || self.may_hold_more())
    }

    /// Returns true if more answers may wait until descriptors are read.
    #[inline(never)]
    fn may_hold_more(&self) -> bool {
        /// Answers of one connection that are held back.
        const MOST: usize = 16;
        let few = self.outbox.held() < MOST && !self.outbox.is_full();
        few && !self.in_order && self.account.has_room_to_spare()
    }

    /// Says when to try again what has found no room a second time.
    fn try_later(&mut self, desk: &ServerContext, cause: Cause) -> SourceAction {
        if cause == Cause::Timer {
            return SourceAction::Again(Watch::Writing);
        }
        // There should be room: the kernel is short of memory, or of descriptors on their way, and no event says
        // when that ends.
        let retry = || Instant::now() + desk.limits.retry_backoff;
        let time = *self.retry.get_or_insert_with(retry);
        SourceAction::Pause(time, Watch::Writing)
    }

    /// What to watch for now.
    #[inline]
    fn next(&self) -> SourceAction {
        match (self.broken, self.outbox.is_empty()) {
            (true, _) => SourceAction::Close,
            (false, true) => SourceAction::Again(Watch::Reading),
            (false, false) => self.next_with_answers(),
        }
    }

    /// What to watch for while answers wait.
    #[inline(never)]
    fn next_with_answers(&self) -> SourceAction {
        if self.outbox.is_full() {
            SourceAction::Again(Watch::Writing)
        } else if self.is_clear() {
            self.next_for(Watch::Reading)
        } else {
            // It would be reported again and again that there is something to read.
            self.next_for(Watch::HangUp)
        }
    }

    /// Watches for this, and has a turn when what is held back is to be tried again.
    fn next_for(&self, watch: Watch) -> SourceAction {
        match self.outbox.due() {
            Some(due) => SourceAction::AgainAt(watch, due),
            None => SourceAction::Again(watch),
        }
    }

    /// What to do with a peer that is perhaps not to be read from: too many answers are held back, or a message could
    /// bring more of what its user has to wait for. Nothing if it can be read from after all.
    #[inline(never)]
    fn hold_off(&mut self, key: Key, account: &Account) -> Option<SourceAction> {
        if self.broken || self.outbox.is_full() {
            return Some(self.next());
        }
        // That it has gone stands behind what is not read, and what is held back is perhaps not even tried.
        let gone = wait::poll(self.line.as_fd(), wait::For::Nothing, Some(Instant::now()));
        if gone == Ok(WaitOutcome::Ready) {
            return Some(SourceAction::Close);
        }
        let waits = !self.is_clear() || account.wait_to_read(key.to_bits());
        waits.then(|| self.next_for(Watch::HangUp))
    }

    fn outlet(&mut self) -> (Outlet<'_>, &mut SendQueue) {
        let outlet = Outlet {
            line: &self.line,
            to: None,
            account: &self.account,
            in_flight: &mut self.in_flight,
            in_order: self.in_order,
        };
        (outlet, &mut self.outbox)
    }

    /// Sends queued answers for as long as there is room.
    #[inline(never)]
    fn flush(&mut self, desk: &mut ServerContext, cause: Cause) {
        let (mut outlet, outbox) = self.outlet();
        if outlet.flush(outbox, desk) == Flushed::Gone {
            return self.break_off(desk);
        }
        if cause == Cause::Timer {
            self.outbox.postpone(&desk.limits);
        }
    }

    /// Gives the peer up, with all that waits for it.
    fn break_off(&mut self, desk: &mut ServerContext) {
        desk.note_lost(UndeliveredReason::Disconnected, self.outbox.len());
        self.broken = true;
    }

    /// Gives the peer up for what it does.
    fn cut(&mut self, desk: &mut ServerContext, cut: DisconnectReason) {
        desk.note(EventKind::Disconnected(cut));
        self.break_off(desk);
    }
}

impl ReplySink for ConnectionWriter {
    fn deliver(&mut self, desk: &mut ServerContext, mut mail: OutgoingReply<'_>) {
        if !desk.is_here() {
            return;
        }
        desk.peer = self.peer;
        if self.broken {
            return desk.note_lost(UndeliveredReason::Disconnected, 1);
        }
        let (mut outlet, outbox) = self.outlet();
        match outlet.offer(outbox, &mail) {
            Attempt::Sent => mail.finish(SendOutcome::Sent),
            Attempt::Waits(waits_for) => self.keep(desk, mail, waits_for),
            Attempt::Refused(error) => {
                if let Some(fault) = replace(desk, mail, &error) {
                    self.deliver(desk, OutgoingReply::Queued(fault));
                }
            }
            Attempt::Gone => {
                desk.note_lost(UndeliveredReason::Disconnected, 1);
                self.break_off(desk);
            }
        }
    }

    fn withdraw(&mut self, id: &Id<'_>) -> bool {
        self.outbox.withdraw(id)
    }
}

impl ConnectionWriter {
    /// Has an answer wait. A peer that has no room and exceeds its budget is cut. One that has is told: others of its
    /// user may have used up what it needs.
    #[inline(never)]
    fn keep(&mut self, desk: &mut ServerContext, mail: OutgoingReply<'_>, waits_for: WaitsFor) {
        let busy = Fault::new(Fault::BUSY, "too much that was sent before is unread");
        let held = waits_for == WaitsFor::InFlight && !self.in_order;
        let item = mail.is_item();
        let instead = match held && !item {
            true => instead(mail.text(), &busy),
            false => None,
        };
        let mut push = |letter| {
            self.outbox
                .push(letter, waits_for, &desk.limits, &self.account)
        };
        if mail
            .into_queued()
            .is_some_and(|letter| push(letter).is_ok())
        {
            return;
        }
        desk.note_lost(UndeliveredReason::BacklogFull, 1);
        match instead {
            Some(fault) => self.deliver(desk, OutgoingReply::Queued(fault)),
            // The stream ends by itself.
            None if held && item => {}
            None => self.cut(desk, DisconnectReason::BacklogFull),
        }
    }
}

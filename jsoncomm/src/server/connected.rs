//! Connections: one socket per peer.
//!
//! Backpressure: a connection with unsent replies is not read until they are sent. A few replies that are held back until
//! descriptors are read do not stop it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::batch::Batch;
use super::control::OnEnd;
use super::lingering::Lingering;
use super::sending::{Attempt, ReplySocket, Writer, fault_instead};
use super::source::{DrainPolicy, Share, SourceAction, Turn, close_if_empty, dispatch_datagram};
use crate::accounts::{Account, Charge, Cost, Order};
use crate::envelope::Id;
use crate::error::Fault;
use crate::fds::Fds;
use crate::limits::Limits;
use crate::observe::{DisconnectReason, EventKind, UndeliveredReason};
use crate::peer::Peer;
use crate::queue::{
    Caller, Opening, OutgoingReply, QueuedReply, SendQueue, SessionState, WaitsFor,
};
use crate::reactor::{Cause, Key, Watch};
use crate::router::Routes;
use crate::service::{Dispatch, ReplySink, ServerContext, not_authorized};
use crate::sys::control::{Credentials, Wait, peer_pidfd};
use crate::sys::wait::{self, WaitOutcome};
use crate::transport::{ReceiveOutcome, Transport};

/// A connection to one client.
pub(super) struct Connected<S> {
    pub(super) writer: ConnectionWriter,
    pub(super) routes: Arc<Routes<S>>,
    pub(super) peer: Option<Peer>,
    /// What the endpoint's rule said, once it has been asked.
    pub(super) authorized: Option<bool>,
    pub(super) account: Arc<Account>,
    /// Counts the connection to its user; `None` if the user has too many.
    pub(super) charge: Option<Charge>,
    drain: DrainPolicy,
    /// What is left of a batch. Nothing is read until it is done.
    pub(super) batch: Option<Box<Batch>>,
    /// The program has said who the peer is.
    pub(super) vouched_for: bool,
    /// The server stops when the connection is closed.
    pub(super) stops_server: bool,
    /// Nothing is read until fewer of the user's connections are being closed: there were as many as may be when this one
    /// was accepted.
    parked: bool,
    /// Tells the state that the connection has ended.
    pub(super) on_end: Option<OnEnd<S>>,
}

/// A connection's send queue and its socket. Apart from the rest, so that both can be borrowed at the same time.
pub(super) struct ConnectionWriter {
    pub(super) socket: ReplySocket,
    /// Who events are reported about.
    pub(super) peer: Option<Credentials>,
    pub(super) queue: SendQueue,
    /// When to try again to send what should have found room.
    retry: Option<Instant>,
    malformed: Malformed,
    /// Nothing more can be sent: the peer has closed the connection, or was disconnected.
    broken: bool,
    /// The tag, and whether the program has closed the session.
    pub(super) session: Option<Arc<SessionState>>,
}

/// The malformed messages of a connection within [`Limits::malformed_window`].
#[derive(Default)]
struct Malformed {
    count: usize,
    since: Option<Instant>,
}

impl Malformed {
    /// Counts one more. Returns true if there are more than the limit.
    fn exceeds(&mut self, limits: &Limits) -> bool {
        let now = Instant::now();
        let over = |since: Instant| now.duration_since(since) > limits.malformed_window;
        if self.since.is_none_or(over) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count > limits.malformed
    }
}

impl<S> Connected<S> {
    pub(super) fn new(
        transport: Transport,
        routes: Arc<Routes<S>>,
        context: &mut ServerContext,
    ) -> Self {
        let fd = transport.as_fd();
        let pidfd = routes.pidfds.then(|| peer_pidfd(fd)).flatten();
        let peer = Peer::of_connection(fd, pidfd);
        let account = context.accounts.of(peer.as_ref().map(Peer::uid));
        let charge = account.try_charge(Cost::CONNECTION);
        Self::with_peer(transport, routes, peer, account, charge)
    }

    /// Makes the connection of a session. Its peer has been authorized.
    pub(super) fn of_session(opening: Opening, routes: Arc<Routes<S>>, on_end: OnEnd<S>) -> Self {
        let (transport, peer) = (opening.transport, opening.peer);
        let charge = Some(opening.charge);
        let connection = Self::with_peer(transport, routes, peer, opening.account, charge);
        Self {
            writer: ConnectionWriter {
                session: Some(opening.session),
                ..connection.writer
            },
            authorized: Some(true),
            vouched_for: true,
            on_end: Some(on_end),
            ..connection
        }
    }

    fn with_peer(
        transport: Transport,
        routes: Arc<Routes<S>>,
        peer: Option<Peer>,
        account: Arc<Account>,
        charge: Option<Charge>,
    ) -> Self {
        let parked = account.room_to_close() == 0;
        Self {
            routes,
            charge,
            writer: ConnectionWriter {
                socket: ReplySocket::new(transport, Arc::clone(&account), Order::Sent),
                peer: peer.as_ref().map(Peer::credentials),
                queue: SendQueue::default(),
                retry: None,
                malformed: Malformed::default(),
                broken: false,
                session: None,
            },
            peer,
            authorized: None,
            account,
            drain: DrainPolicy::default(),
            batch: None,
            vouched_for: false,
            stops_server: false,
            parked,
            on_end: None,
        }
    }

    /// Requests the peer's pidfd, unless the program has said who the peer is. What the kernel does not report stays as
    /// it is.
    pub(super) fn request_pidfd(&mut self) {
        let fd = self.as_fd();
        let pidfd = peer_pidfd(fd).filter(|_| !self.vouched_for);
        if let Some(peer) = pidfd.and_then(|pidfd| Peer::of_connection(fd, Some(pidfd))) {
            self.writer.peer = Some(peer.credentials());
            self.peer = Some(peer);
        }
    }

    /// Sets who the peer is, as the program says, and charges that user from now on.
    pub(super) fn set_peer(&mut self, peer: Option<Peer>, context: &mut ServerContext) {
        self.account = context.accounts.of(peer.as_ref().map(Peer::uid));
        // Given back first, as it may be the same account.
        self.charge = None;
        self.charge = self.account.try_charge(Cost::CONNECTION);
        self.parked = self.account.room_to_close() == 0;
        self.writer.socket.account = Arc::clone(&self.account);
        self.writer.peer = peer.as_ref().map(Peer::credentials);
        self.peer = peer;
        self.vouched_for = true;
    }

    /// Returns true if the endpoint's rule authorizes the peer. The rule is asked once.
    pub(super) fn is_authorized(&mut self) -> bool {
        let ask = || self.routes.authorizes(self.peer.as_ref());
        *self.authorized.get_or_insert_with(ask)
    }

    /// Notes that the session has ended. Returns its tag and what tells the state, once.
    pub(super) fn end(&mut self) -> Option<(u64, OnEnd<S>)> {
        let session = self.writer.session.as_ref()?;
        session.close();
        Some((session.tag, self.on_end.take()?))
    }

    /// Counts the replies that are lost when the connection is closed, unless that has been done.
    pub(super) fn note_lost(&self, context: &mut ServerContext) {
        if !self.writer.broken {
            // When the server stops, the peer is there but has not read in time.
            let reason = if context.stopping {
                UndeliveredReason::BacklogFull
            } else {
                UndeliveredReason::Disconnected
            };
            context.note_lost(self.writer.peer, reason, self.writer.queue.len());
        }
    }

    /// Closes the connection. Returns what has to be kept while something that was sent is unread.
    pub(super) fn close(self, context: &ServerContext) -> Option<Lingering> {
        let socket = self.writer.socket;
        if !context.stopping && socket.in_flight() != (0, 0) {
            return Some(Lingering::new(socket, self.charge));
        }
        // An empty packet looks like the end of file, and there can be more after it.
        if let Some(transport) = close_if_empty(socket.transport) {
            context.accounts.close(&self.account, transport);
        }
        None
    }

    /// Sends the peer the reason why it is about to be disconnected.
    #[inline(never)]
    pub(super) fn refuse(&mut self, context: &mut ServerContext, fault: &Fault) {
        context.note(self.writer.peer, EventKind::Rejected(fault.code));
        context.note(self.writer.peer, EventKind::Refused(fault.code));
        if !self.routes.is_bare() {
            let reply = QueuedReply::fault(None, fault);
            self.writer.deliver(context, OutgoingReply::Queued(reply));
        }
    }

    /// Waits, if necessary, until fewer connections of the user are being closed. Returns true while it waits. A hang-up is
    /// not noticed meanwhile: the connection would be one more to close.
    #[inline(never)]
    fn stays_parked(&mut self, key: Key) -> bool {
        self.parked = self.account.wait_to_begin(key.to_bits());
        if !self.parked {
            self.account.resume_newcomers();
        }
        self.parked
    }

    /// Sends queued replies first, and reads messages only if there is room for more.
    pub(super) fn act(&mut self, turn: Turn<'_, S>) -> SourceAction {
        let (key, cause) = (turn.key, turn.cause);
        if self.writer.is_revoked() {
            return SourceAction::Close;
        }
        if self.parked && self.stays_parked(key) {
            return SourceAction::Ignore(None);
        }
        // An adopted connection is asked about here: its rule is set after it is adopted.
        if !self.is_authorized() {
            self.refuse(turn.context, &not_authorized());
            return SourceAction::Close;
        }
        let writer = &mut self.writer;
        if cause == Cause::Timer {
            writer.retry = None;
        }
        writer.socket.in_order = self.routes.is_bare();
        if !writer.queue.is_empty() {
            if let Some(action) = writer.send_queued(turn.context, cause) {
                return action;
            }
        }
        if self.account.must_wait() || !writer.is_clear() {
            if let Some(action) = writer.hold_off(key, &self.account) {
                return action;
            }
        }
        self.read(turn)
    }

    /// Sends queued replies and reads nothing: the server is about to hand over its sockets.
    #[inline(never)]
    pub(super) fn act_unread(&mut self, turn: Turn<'_, S>) -> SourceAction {
        let writer = &mut self.writer;
        if turn.cause == Cause::Timer {
            writer.retry = None;
        }
        if !writer.queue.is_empty() {
            if let Some(action) = writer.send_queued(turn.context, turn.cause) {
                return action;
            }
        }
        self.next_unread()
    }

    /// Returns what to do with the connection next while nothing is read from it.
    pub(super) fn next_unread(&self) -> SourceAction {
        match self.writer.next() {
            action @ (SourceAction::Close | SourceAction::WRITE) => action,
            _ => SourceAction::Ignore(self.writer.queue.due()),
        }
    }

    /// Reads and dispatches messages, at most a turn's share.
    fn read(&mut self, mut turn: Turn<'_, S>) -> SourceAction {
        let mut share = Share::of(&turn.context.limits);
        if self.batch.is_some() {
            self.resume_batch(&mut turn, &mut share);
        }
        let caller = Caller {
            key: turn.key.to_bits(),
            to: None,
            account: &self.account,
            peer: self.peer.as_ref(),
            tag: self.writer.tag(),
        };
        let writer = &mut self.writer;
        while self.batch.is_none()
            && share.is_left()
            && writer.is_clear()
            && turn.context.is_own_process()
        {
            let mut datagram = match writer.socket.transport.receive(turn.inbox, Wait::Never) {
                Ok(ReceiveOutcome::Datagram(datagram)) => datagram,
                Ok(ReceiveOutcome::Empty) => {
                    self.drain.record(share.taken);
                    break;
                }
                Ok(ReceiveOutcome::Closed) | Err(_) => return SourceAction::Close,
                Ok(ReceiveOutcome::Exhausted) => {
                    return SourceAction::pause(turn.context.limits.accept_pause);
                }
            };
            let (text, bare) = (turn.inbox.text(&datagram), writer.socket.in_order);
            share.take(text);
            let mut dispatch = Dispatch {
                context: turn.context,
                sink: writer,
                caller: &caller,
                text,
                fds: Fds::new(),
                bare,
                parked: None,
            };
            let (routes, state) = (&*self.routes, &mut *turn.state);
            let batch = dispatch_datagram(routes, state, &mut dispatch, &mut datagram, true);
            if let Some(mut batch) = batch {
                let is_left = batch.run(routes, state, &mut dispatch, &mut share);
                self.batch = is_left.then_some(batch);
            }
            if self.account.is_overdrawn() {
                writer.disconnect(turn.context, DisconnectReason::UnusedFds);
            } else if self.account.must_wait() {
                break;
            }
            if share.taken == 1 && !self.drain.looks() {
                break;
            }
        }
        self.next()
    }

    /// Goes on with what is left of a batch.
    #[inline(never)]
    fn resume_batch(&mut self, turn: &mut Turn<'_, S>, share: &mut Share) {
        let Some(mut batch) = self.batch.take() else {
            return;
        };
        share.take_element();
        let caller = Caller {
            key: turn.key.to_bits(),
            to: None,
            account: &self.account,
            peer: self.peer.as_ref(),
            tag: self.writer.tag(),
        };
        let mut dispatch = Dispatch {
            context: &mut *turn.context,
            sink: &mut self.writer,
            caller: &caller,
            text: b"",
            fds: Fds::new(),
            bare: false,
            parked: None,
        };
        let is_left = batch.run(&self.routes, turn.state, &mut dispatch, share);
        self.batch = is_left.then_some(batch);
    }

    /// Returns what to do with the connection next. What is left of a batch gets a turn at once, unless replies wait.
    pub(super) fn next(&self) -> SourceAction {
        if self.batch.is_some() && self.writer.is_clear() {
            SourceAction::Ignore(Some(Instant::now()))
        } else {
            self.writer.next()
        }
    }
}

impl<S> AsFd for Connected<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.writer.socket.transport.as_fd()
    }
}

impl ConnectionWriter {
    /// Returns true if the peer may be read from: no reply waits, or few are held back, as its next message may need no
    /// descriptors.
    #[inline]
    fn is_clear(&self) -> bool {
        !self.is_broken() && (self.queue.is_empty() || self.may_hold_more())
    }

    /// Returns true if the program has closed the session.
    #[inline]
    fn is_revoked(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.is_closed())
    }

    /// Returns true if the peer must not be read from again.
    #[inline]
    pub(super) fn is_broken(&self) -> bool {
        self.broken || self.is_revoked()
    }

    fn tag(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.tag)
    }

    /// Returns true if more replies may be held back until descriptors are read.
    #[inline(never)]
    fn may_hold_more(&self) -> bool {
        const MAX_HELD: usize = 16;
        let few = self.queue.held() < MAX_HELD && !self.queue.waits_for_room();
        few && !self.socket.in_order && self.socket.account.has_room_to_spare()
    }

    /// Sends queued replies. Returns what to do if none could be sent.
    #[inline(never)]
    fn send_queued(&mut self, context: &mut ServerContext, cause: Cause) -> Option<SourceAction> {
        let waiting = self.queue.len();
        if !self.socket.flush(None, self.peer, &mut self.queue, context) {
            self.break_off(context);
        } else if cause == Cause::Timer {
            self.queue.double_pause_if_due(&context.limits);
        }
        let stuck = self.queue.waits_for_room() && self.queue.len() == waiting;
        (stuck && !self.broken).then(|| self.try_later(context, cause))
    }

    /// Waits after a second failure to send. The socket was reported writable, so the kernel is short of memory, or of
    /// descriptors in flight, and no event reports when that ends.
    fn try_later(&mut self, context: &ServerContext, cause: Cause) -> SourceAction {
        if cause == Cause::Timer {
            return SourceAction::WRITE;
        }
        let retry = || Instant::now() + context.limits.retry_backoff;
        let time = *self.retry.get_or_insert_with(retry);
        SourceAction::Pause(time, Watch::Writing)
    }

    /// Returns what to watch the socket for now.
    #[inline]
    pub(super) fn next(&self) -> SourceAction {
        if self.is_broken() {
            SourceAction::Close
        } else if self.queue.is_empty() {
            SourceAction::READ
        } else if self.queue.waits_for_room() {
            SourceAction::WRITE
        } else if self.is_clear() {
            SourceAction::Again(Watch::Reading, self.queue.due())
        } else {
            // Watched for reading, it would be reported again and again.
            SourceAction::Again(Watch::HangUp, self.queue.due())
        }
    }

    /// Returns what to do if the peer must not be read from now: too many replies are held back, or another message could
    /// bring more of what waits to be closed. Returns `None` if it may be read from after all.
    #[inline(never)]
    fn hold_off(&mut self, key: Key, account: &Account) -> Option<SourceAction> {
        if self.is_broken() || self.queue.waits_for_room() {
            return Some(self.next());
        }
        // The end of file comes after what is not read, and a reply that is held back may not be tried at all.
        let now = Some(Instant::now());
        let hung_up = wait::poll(self.socket.transport.as_fd(), Watch::HangUp, now);
        if hung_up == Ok(WaitOutcome::Ready) {
            return Some(SourceAction::Close);
        }
        let waits = !self.is_clear() || account.wait_to_read(key.to_bits());
        waits.then(|| SourceAction::Again(Watch::HangUp, self.queue.due()))
    }

    /// Gives the peer up, and all that waits for it.
    fn break_off(&mut self, context: &mut ServerContext) {
        context.note_lost(self.peer, UndeliveredReason::Disconnected, self.queue.len());
        self.broken = true;
    }

    /// Disconnects the peer for what it does.
    fn disconnect(&mut self, context: &mut ServerContext, reason: DisconnectReason) {
        if !self.broken {
            context.note(self.peer, EventKind::Disconnected(reason));
            self.break_off(context);
        }
    }
}

impl Writer for ConnectionWriter {
    fn peer(&self) -> Option<Credentials> {
        self.peer
    }

    fn offer(&mut self, context: &mut ServerContext, reply: &OutgoingReply<'_>) -> Attempt {
        if self.broken {
            return Attempt::Lost(UndeliveredReason::Disconnected);
        }
        let attempt = self.socket.offer(None, &self.queue, reply);
        if let Attempt::Lost(_) = attempt {
            self.break_off(context);
        }
        attempt
    }

    /// Disconnects a peer that has no room and exceeds its budget. A peer that has room is sent a fault: others of its user
    /// may have used up what the reply needs.
    #[inline(never)]
    fn keep(&mut self, context: &mut ServerContext, reply: OutgoingReply<'_>, waits_for: WaitsFor) {
        let held = waits_for == WaitsFor::InFlight && !self.socket.in_order;
        let is_item = reply.is_item();
        let busy = || Fault::new(Fault::BUSY, "too many earlier replies are unread");
        let instead = (held && !is_item).then(|| fault_instead(reply.text(), &busy()));
        let (limits, account) = (&context.limits, &self.socket.account);
        let push = |reply| self.queue.push(reply, waits_for, limits, account).is_ok();
        let kept = reply.into_queued().is_some_and(push);
        if kept {
            return;
        }
        context.note_lost(self.peer, UndeliveredReason::BacklogFull, 1);
        match instead.flatten() {
            Some(fault) => self.deliver(context, OutgoingReply::Queued(fault)),
            // The stream is told, and ends by itself.
            None if held && is_item => {}
            None => self.disconnect(context, DisconnectReason::BacklogFull),
        }
    }

    fn withdraw(&mut self, id: &Id<'_>) -> bool {
        self.queue.withdraw(id)
    }

    fn is_clear(&self) -> bool {
        self.is_clear()
    }

    fn count_malformed(&mut self, limits: &Limits) -> bool {
        self.malformed.exceeds(limits)
    }

    fn disconnect(&mut self, context: &mut ServerContext, reason: DisconnectReason) {
        self.disconnect(context, reason);
    }
}

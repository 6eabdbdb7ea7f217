//! Datagram endpoints: one socket for all peers. Replies that find no room wait for a timer.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::batch::Batch;
use super::sending::{Attempt, ReplySocket, Writer, fault_instead};
use super::source::{
    DrainPolicy, Share, SourceAction, Turn, close_if_empty, close_shared, dispatch_datagram,
};
use crate::accounts::{Account, Order};
use crate::address::Bound;
use crate::envelope::Id;
use crate::error::{Error, Fault};
use crate::fds::Fds;
use crate::observe::UndeliveredReason;
use crate::peer::Peer;
use crate::queue::{Backlog, Caller, OutgoingReply, SendQueue, WaitsFor};
use crate::reactor::{Cause, Key};
use crate::router::Routes;
use crate::service::{Dispatch, ServerContext};
use crate::socket::local_address;
use crate::sys::control::{Credentials, Wait};
use crate::sys::name::Name;
use crate::sys::socket::{Shutdown, is_connected, shut_down};
use crate::transport::{Datagram, ReceiveOutcome, Transport};

/// A datagram endpoint. All that it keeps of a peer is replies that found no room.
pub(super) struct Datagrams<S> {
    // Dropped before the socket is closed; see `Bound`. Boxed, as a connection takes the space of an endpoint.
    pub(super) path: Option<Box<Bound>>,
    pub(super) sender: DatagramSender,
    pub(super) routes: Arc<Routes<S>>,
    /// Who the one peer of a connected socket is, as the program says.
    pub(super) peer: Option<Box<Peer>>,
    /// The user who sent the last message, and that user's account; the next message is often from the same user.
    last: Option<(Option<u32>, Arc<Account>)>,
    /// When the timer is due, so that it is not set twice.
    timer: Option<Instant>,
    drain: DrainPolicy,
    /// What is left of a batch. Nothing is read until it is done.
    pub(super) batch: Option<Box<UnfinishedBatch>>,
    /// Other processes may have the socket as well, and serve there when this server is gone.
    pub(super) shared: bool,
    /// The server is shutting down: nothing new is received.
    retired: bool,
}

/// What is left of a batch, and who sent it.
pub(super) struct UnfinishedBatch {
    pub(super) batch: Box<Batch>,
    pub(super) to: Option<Name>,
    pub(super) account: Arc<Account>,
    pub(super) peer: Option<Peer>,
}

/// The part of an endpoint that replies are sent with.
pub(super) struct DatagramSender {
    /// What is in flight to all peers together is charged to an account of its own: the kernel does not distinguish them.
    pub(super) socket: ReplySocket,
    /// The socket has one peer, which needs no address.
    pub(super) connected: bool,
    pub(super) backlogs: HashMap<Option<Name>, Backlog>,
}

impl<S> Datagrams<S> {
    pub(super) fn new(transport: Transport, path: Option<Bound>, context: &ServerContext) -> Self {
        Self {
            path: path.map(Box::new),
            sender: DatagramSender {
                socket: ReplySocket::new(transport, context.accounts.apart(), Order::Any),
                connected: false,
                backlogs: HashMap::new(),
            },
            routes: Arc::default(),
            peer: None,
            last: None,
            timer: None,
            drain: DrainPolicy::default(),
            batch: None,
            shared: false,
            retired: false,
        }
    }

    /// Makes an endpoint of a socket that was made elsewhere. If it has a name, other processes can serve there.
    pub(super) fn adopted(transport: Transport, context: &ServerContext) -> Result<Self, Error> {
        let connected = is_connected(transport.as_fd())?;
        let shared = local_address(transport.as_fd())?.is_some();
        let mut endpoint = Self::new(transport, None, context);
        (endpoint.shared, endpoint.sender.connected) = (shared, connected);
        Ok(endpoint)
    }

    /// Ends receiving: what has arrived is handled, and nothing more can.
    ///
    /// The path is removed first, so that no new client finds it; one that has found it gets `EPIPE`. A shared socket is not
    /// shut down, as that would affect every process that has it; what has arrived there is left for them.
    pub(super) fn retire(&mut self) {
        self.path = None;
        self.retired = true;
        if !self.shared {
            // It fails only where no peer can send to the socket anyway.
            let _ = shut_down(self.sender.socket.transport.as_fd(), Shutdown::Read);
        }
    }

    /// Removes the path and closes the socket.
    pub(super) fn close(self, context: &ServerContext) {
        drop(self.path);
        let transport = self.sender.socket.transport;
        if self.shared {
            close_shared(transport, context);
        } else if let Some(transport) = close_if_empty(transport) {
            context.accounts.closer.close(transport);
        }
    }

    /// Returns how many replies wait.
    pub(super) fn waiting(&self) -> usize {
        let backlogs = self.sender.backlogs.values();
        backlogs.map(|backlog| backlog.queue.len()).sum()
    }

    /// Handles what has arrived, at most a turn's share, and tries again to send what is due.
    pub(super) fn act(&mut self, mut turn: Turn<'_, S>) -> SourceAction {
        self.sender.socket.in_order = self.routes.is_bare();
        if turn.cause == Cause::Timer {
            self.timer = None;
            self.sender.retry(turn.context);
        }
        if self.batch.is_some() && turn.cause == Cause::Ready {
            // Its own turn comes by timer, maybe in the same round.
            return SourceAction::Keep(self.set_timer());
        }
        let mut share = Share::of(&turn.context.limits);
        if self.batch.is_some() {
            self.resume_batch(&mut turn, &mut share);
        }
        while self.batch.is_none() && share.is_left() && turn.context.is_own_process() {
            // Waits until more of what the user of the last message has sent is closed: the next message can be from any
            // user, and could bring more of it. What arrives at a shared socket in a shutdown is for other processes.
            if self.must_wait(turn.key) || (self.shared && self.retired) {
                return SourceAction::Ignore(self.set_timer());
            }
            let transport = &self.sender.socket.transport;
            match transport.receive(turn.inbox, Wait::Never) {
                Ok(ReceiveOutcome::Datagram(datagram)) => {
                    share.take(turn.inbox.text(&datagram));
                    self.handle(&mut turn, datagram, &mut share);
                    if share.taken == 1 && !self.drain.looks() {
                        break;
                    }
                }
                // A socket that is shut down is always ready to read.
                Ok(ReceiveOutcome::Empty | ReceiveOutcome::Closed) if self.retired => {
                    return SourceAction::Ignore(self.set_timer());
                }
                Ok(ReceiveOutcome::Empty | ReceiveOutcome::Closed) => {
                    self.drain.record(share.taken);
                    break;
                }
                // No error ends the endpoint.
                Ok(ReceiveOutcome::Exhausted) | Err(_) => {
                    return SourceAction::pause(turn.context.limits.accept_pause);
                }
            }
        }
        SourceAction::Keep(self.set_timer())
    }

    /// Tries again to send what is due, and receives nothing: the server is about to hand over its sockets.
    #[inline(never)]
    pub(super) fn act_unread(&mut self, turn: Turn<'_, S>) -> SourceAction {
        if turn.cause == Cause::Timer {
            self.timer = None;
            self.sender.retry(turn.context);
        }
        self.next_unread()
    }

    /// Returns what to do with the endpoint next while nothing is received.
    pub(super) fn next_unread(&mut self) -> SourceAction {
        let backlogs = self.sender.backlogs.values().map(Backlog::due);
        SourceAction::Ignore(SourceAction::set_timer(&mut self.timer, backlogs.min()))
    }

    /// Returns true unless the socket has been shut down.
    pub(super) fn can_receive(&self) -> bool {
        self.shared || !self.retired
    }

    fn must_wait(&self, key: Key) -> bool {
        let last = self.last.as_ref().map(|(_, account)| account);
        last.is_some_and(|account| account.must_wait() && account.wait_to_read(key.to_bits()))
    }

    fn handle(&mut self, turn: &mut Turn<'_, S>, mut datagram: Datagram, share: &mut Share) {
        let (context, inbox) = (&mut *turn.context, &*turn.inbox);
        let sender = Peer::of_message(datagram.credentials, datagram.pidfd.take());
        let user = sender.as_ref().map(Peer::uid);
        if self.last.as_ref().is_some_and(|(last, _)| *last != user) {
            self.last = None;
        }
        let fresh = || (user, context.accounts.of(user));
        let (_, account) = self.last.get_or_insert_with(fresh);
        let peer = if self.sender.connected {
            // The peer may have passed its end on to a process with more rights, so the kernel's word on the user of a message
            // can only take away what the program has said.
            let vouched_for = self.peer.as_deref();
            vouched_for.filter(|peer| Some(peer.uid()) == user)
        } else {
            sender.as_ref()
        };
        let caller = Caller {
            key: turn.key.to_bits(),
            // A path would be resolved when the reply is sent, with the rights of this process: only abstract names are
            // replied to.
            to: inbox.sender().filter(|name| name.is_abstract()),
            account,
            peer,
            tag: None,
        };
        let authorized = self.routes.authorizes(peer);
        let (to, bare) = (caller.to, self.sender.socket.in_order);
        let mut dispatch = Dispatch {
            context,
            sink: &mut self.sender.writer(to, account, peer.map(Peer::credentials)),
            caller: &caller,
            text: inbox.text(&datagram),
            fds: Fds::new(),
            bare,
            parked: None,
        };
        let (routes, state) = (&*self.routes, &mut *turn.state);
        let batch = dispatch_datagram(routes, state, &mut dispatch, &mut datagram, authorized);
        let Some(mut batch) = batch else {
            return;
        };
        if batch.run(routes, state, &mut dispatch, share) {
            self.batch = Some(Box::new(UnfinishedBatch {
                batch,
                to: to.copied(),
                account: Arc::clone(account),
                peer: peer.cloned(),
            }));
        }
    }

    /// Goes on with what is left of a batch.
    #[inline(never)]
    fn resume_batch(&mut self, turn: &mut Turn<'_, S>, share: &mut Share) {
        let Some(mut unfinished) = self.batch.take() else {
            return;
        };
        share.take_element();
        let caller = Caller {
            key: turn.key.to_bits(),
            to: unfinished.to.as_ref(),
            account: &unfinished.account,
            peer: unfinished.peer.as_ref(),
            tag: None,
        };
        let peer = caller.peer.map(Peer::credentials);
        let mut dispatch = Dispatch {
            context: &mut *turn.context,
            sink: &mut self.sender.writer(caller.to, caller.account, peer),
            caller: &caller,
            text: b"",
            fds: Fds::new(),
            bare: false,
            parked: None,
        };
        let batch = &mut unfinished.batch;
        if batch.run(&self.routes, turn.state, &mut dispatch, share) {
            self.batch = Some(unfinished);
        }
    }

    /// Sets the timer to when the first peer that is full is to be tried again, or to now if a batch is not done. Returns the time
    /// if it was set.
    pub(super) fn set_timer(&mut self) -> Option<Instant> {
        let backlogs = self.sender.backlogs.values().map(Backlog::due);
        let batch = self.batch.as_ref().map(|_| Instant::now());
        let earliest = backlogs.chain(batch).min();
        SourceAction::set_timer(&mut self.timer, earliest)
    }
}

impl DatagramSender {
    /// Returns the writer of replies to `to`, which are charged to `account` if they have to wait.
    pub(super) fn writer<'e>(
        &'e mut self,
        to: Option<&'e Name>,
        account: &'e Arc<Account>,
        peer: Option<Credentials>,
    ) -> DatagramWriter<'e> {
        DatagramWriter {
            sender: self,
            to,
            account,
            peer,
        }
    }

    /// Tries again to send to the peers that are due.
    fn retry(&mut self, context: &mut ServerContext) {
        let now = Instant::now();
        self.backlogs.retain(|name, backlog| {
            if backlog.due() > now {
                return true;
            }
            let waits = flush(&mut self.socket, name.as_ref(), None, backlog, context);
            if waits && !backlog.double_pause_or_give_up(&context.limits, now) {
                // Full for too long.
                context.note_lost(None, UndeliveredReason::BacklogFull, backlog.queue.len());
                return false;
            }
            waits
        });
    }
}

/// Sends what waits for a peer, for as long as there is room. Returns true if something still waits.
fn flush(
    socket: &mut ReplySocket,
    to: Option<&Name>,
    peer: Option<Credentials>,
    backlog: &mut Backlog,
    context: &mut ServerContext,
) -> bool {
    let waiting = backlog.queue.len();
    if !socket.flush(to, peer, &mut backlog.queue, context) {
        context.note_lost(peer, UndeliveredReason::Disconnected, backlog.queue.len());
        return false;
    }
    if backlog.queue.len() < waiting {
        backlog.progressed(&context.limits);
    }
    !backlog.queue.is_empty()
}

/// The socket, and the backlog of one peer on it.
pub(super) struct DatagramWriter<'e> {
    sender: &'e mut DatagramSender,
    to: Option<&'e Name>,
    /// The account that is charged for replies that have to wait.
    account: &'e Arc<Account>,
    peer: Option<Credentials>,
}

impl DatagramWriter<'_> {
    /// Sends a reply, after what waits for its peer.
    #[inline(never)]
    fn offer_behind(&mut self, context: &mut ServerContext, reply: &OutgoingReply<'_>) -> Attempt {
        let name = self.to.copied();
        let DatagramSender {
            socket, backlogs, ..
        } = &mut *self.sender;
        // A peer that calls again may well have made room.
        if let Some(backlog) = backlogs.get_mut(&name) {
            if flush(socket, self.to, self.peer, backlog, context) {
                return socket.offer(self.to, &backlog.queue, reply);
            }
            backlogs.remove(&name);
        }
        socket.offer(self.to, &SendQueue::default(), reply)
    }
}

impl Writer for DatagramWriter<'_> {
    fn peer(&self) -> Option<Credentials> {
        self.peer
    }

    fn offer(&mut self, context: &mut ServerContext, reply: &OutgoingReply<'_>) -> Attempt {
        if self.to.is_none() && !self.sender.connected {
            return Attempt::Lost(UndeliveredReason::NoAddress);
        }
        if !self.sender.backlogs.is_empty() {
            return self.offer_behind(context, reply);
        }
        self.sender
            .socket
            .offer(self.to, &SendQueue::default(), reply)
    }

    #[inline(never)]
    fn keep(&mut self, context: &mut ServerContext, reply: OutgoingReply<'_>, waits_for: WaitsFor) {
        let (name, limits) = (self.to.copied(), &context.limits);
        let backlogs = &mut self.sender.backlogs;
        let crowded = backlogs.len() >= limits.backlog_peers && !backlogs.contains_key(&name);
        let mut kept = false;
        if !crowded {
            let fresh = || Backlog::new(limits, Instant::now());
            let backlog = backlogs.entry(name).or_insert_with(fresh);
            let mut push = |reply| backlog.queue.push(reply, waits_for, limits, self.account);
            kept = match reply.into_queued().map(&mut push) {
                Some(Ok(())) => true,
                Some(Err(reply)) if !reply.is_item() => {
                    // There may be room for a fault.
                    let fault = Fault::new(Fault::BUSY, "the reply found no room");
                    let fault = fault_instead(&reply.text, &fault);
                    let _ = fault
                        .filter(|fault| fault.text.len() < reply.text.len())
                        .map(push);
                    false
                }
                Some(Err(_)) | None => false,
            };
            if backlog.queue.is_empty() {
                backlogs.remove(&name);
            }
        }
        if !kept {
            context.note_lost(self.peer, UndeliveredReason::BacklogFull, 1);
        }
    }

    fn withdraw(&mut self, id: &Id<'_>) -> bool {
        let backlog = self.sender.backlogs.get_mut(&self.to.copied());
        backlog.is_some_and(|backlog| backlog.queue.withdraw(id))
    }
}

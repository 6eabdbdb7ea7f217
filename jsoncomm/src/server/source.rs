//! What a server's loop watches on the sockets: datagram endpoints and connections, a turn at a time.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::{Account, Charge, Cost};
use crate::address::BoundPath;
use crate::envelope;
use crate::error::{Error, Fault};
use crate::limits::Limits;
use crate::line::{Datagram, Heard, Inbox, Line, Sent};
use crate::mailbox::{Caller, Ticket};
use crate::observe::{Cut, Loss, Notice};
use crate::outbox::{Backlog, Letter, Mail, Outbox};
use crate::peer::Peer;
use crate::reactor::{Cause, Key, Watch};
use crate::routes::Routes;
use crate::service::{Desk, Lane};
use crate::sys::control::{Credentials, Wait, peer_pidfd};
use crate::sys::name::Name;
use crate::sys::socket::{How, shut_down};
use crate::sys::wait;

/// What a source wants after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// To be told when something new comes.
    Keep,
    /// To be told at once if something is left, or when something comes.
    Again(Watch),
    /// A turn at that time.
    At(Instant),
    /// No turn until that time, and then to be told of this.
    Pause(Instant, Watch),
    /// Not to be told of anything any more.
    Ignore,
    /// To be closed.
    Close,
}

impl Next {
    /// Has nothing read for a while: the kernel is short of something, and no event says when that ends.
    pub(super) fn pause(time: Duration) -> Self {
        Self::Pause(Instant::now() + time, Watch::Reading)
    }
}

/// How often a source that has one message at a time is not asked for another.
///
/// Whatever it has is reported again, so looking for a second message after each costs a system call that nearly
/// always finds nothing; not looking costs one for each message of a source that has many. So one that had no
/// second message is believed to have none for a while.
#[derive(Debug, Default)]
struct Habit(u8);

impl Habit {
    /// So many times.
    const BELIEVED: u8 = 32;

    /// Says whether to look for another message after the first of a turn.
    fn looks(&mut self) -> bool {
        let believed = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        !believed
    }

    /// Notes that a turn has found nothing more after so many messages.
    fn note(&mut self, messages: usize) {
        self.0 = match messages {
            1 => Self::BELIEVED,
            _ => 0,
        };
    }
}

/// What is left of a source's turn.
#[derive(Debug)]
struct Share {
    messages: usize,
    bytes: usize,
    taken: usize,
}

impl Share {
    fn of(limits: &Limits) -> Self {
        Self {
            messages: limits.turn.max(1),
            bytes: limits.turn_bytes.max(1),
            taken: 0,
        }
    }

    fn is_left(&self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    fn take(&mut self, message: &[u8]) {
        self.taken += 1;
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.len());
    }
}

/// A datagram endpoint. It keeps nothing of a peer but answers that found no room.
#[derive(Debug)]
pub(super) struct Datagrams<S> {
    // Dropped before the socket is closed; see `BoundPath`.
    path: Option<BoundPath>,
    pub(super) line: Line,
    pub(super) routes: Arc<Routes<S>>,
    backlogs: HashMap<Name, Backlog>,
    /// When its timer will come, so that it is not set twice.
    timer: Option<Instant>,
    habit: Habit,
    /// Nothing more can come.
    retired: bool,
}

impl<S> Datagrams<S> {
    pub(super) fn new(line: Line, path: Option<BoundPath>) -> Self {
        Self {
            path,
            line,
            routes: Arc::default(),
            backlogs: HashMap::new(),
            timer: None,
            habit: Habit::default(),
            retired: false,
        }
    }

    /// Takes what has come already and nothing more: the path goes first, so that nobody finds it any more, and
    /// whoever has found it gets `EPIPE`.
    pub(super) fn retire(&mut self) {
        self.path = None;
        self.retired = true;
        // It fails when nobody can send to it anyway.
        let _ = shut_down(self.line.as_fd(), How::Reading);
    }

    /// Closes it, its path first.
    pub(super) fn close(self, desk: &Desk) {
        drop(self.path);
        close(self.line, desk);
    }

    /// How many answers wait for peers.
    pub(super) fn waiting(&self) -> usize {
        let backlogs = self.backlogs.values();
        backlogs.map(|backlog| backlog.outbox.len()).sum()
    }

    /// Handles what has come, at most one turn's worth, and tries again what had found no room.
    pub(super) fn act(
        &mut self,
        state: &mut S,
        desk: &mut Desk,
        inbox: &mut Inbox,
        key: Key,
        cause: Cause,
    ) -> Next {
        if cause == Cause::Timer {
            self.timer = None;
            self.retry(desk);
        }
        let mut share = Share::of(&desk.limits);
        while share.is_left() {
            match self.line.receive(inbox, Wait::Never) {
                Ok(Heard::Datagram(datagram)) => {
                    share.take(inbox.text(&datagram));
                    self.handle(state, desk, inbox, key, datagram);
                    if share.taken == 1 && !self.habit.looks() {
                        break;
                    }
                }
                Ok(Heard::Pending | Heard::Closed) if self.retired => {
                    // It would be reported as ready for ever.
                    return match self.next() {
                        Next::At(due) => Next::Pause(due, Watch::Reading),
                        _ => Next::Ignore,
                    };
                }
                Ok(Heard::Pending | Heard::Closed) => {
                    self.habit.note(share.taken);
                    break;
                }
                // Whatever it is, the endpoint stays.
                Ok(Heard::Short) | Err(_) => return Next::pause(desk.limits.accept_pause),
            }
        }
        self.next()
    }

    /// Asks for a turn at that time.
    fn at(&mut self, time: Instant) -> Next {
        self.timer = Some(time);
        Next::At(time)
    }

    fn handle(
        &mut self,
        state: &mut S,
        desk: &mut Desk,
        inbox: &Inbox,
        key: Key,
        mut datagram: Datagram,
    ) {
        let peer = Peer::of_message(datagram.credentials, datagram.pidfd.take());
        let account = desk.accounts.of(peer.as_ref());
        // A path resolves when the answer is sent, and with our rights: only names are answered.
        let to = inbox.sender().filter(Name::is_abstract);
        let key = key.to_bits();
        let caller = Caller {
            ticket: Ticket { key, to },
            account: Arc::clone(&account),
            peer,
        };
        let routes = Arc::clone(&self.routes);
        let mut lane = self.lane(to, account);
        let refused = || Fault::new(Fault::REFUSED, "not admitted");
        let refusal = (!routes.admits(caller.peer.as_ref())).then(refused);
        receive(
            &routes, state, desk, &mut lane, &caller, inbox, datagram, refusal,
        );
    }

    /// The way back to `to`, where what has to wait is charged to `account`.
    pub(super) fn lane(&mut self, to: Option<Name>, account: Arc<Account>) -> DatagramLane<'_> {
        DatagramLane {
            line: &self.line,
            backlogs: &mut self.backlogs,
            to,
            account,
        }
    }

    /// When the earliest peer that is full should be tried again.
    pub(super) fn next(&mut self) -> Next {
        let earliest = self.backlogs.values().map(Backlog::due).min();
        match earliest {
            Some(due) if self.timer.is_none_or(|timer| due < timer) => self.at(due),
            _ => Next::Keep,
        }
    }

    /// Tries the peers whose time has come.
    fn retry(&mut self, desk: &mut Desk) {
        let now = Instant::now();
        let line = &self.line;
        self.backlogs.retain(|name, backlog| {
            if backlog.due() > now {
                return true;
            }
            match flush(line, name, backlog, desk) {
                Flushed::Full if backlog.postpone(&desk.limits, now) => true,
                Flushed::Full => {
                    // Full for too long.
                    desk.note_lost(Loss::NoRoom, backlog.outbox.len());
                    false
                }
                Flushed::Done | Flushed::Gone => false,
            }
        });
    }
}

/// What became of the answers that waited for a datagram peer.
enum Flushed {
    /// All are sent.
    Done,
    /// Some still wait.
    Full,
    /// Nobody is there; they are dropped and counted.
    Gone,
}

/// Sends what waits for a datagram peer, for as long as it has room.
fn flush(line: &Line, name: &Name, backlog: &mut Backlog, desk: &mut Desk) -> Flushed {
    while let Some(letter) = backlog.outbox.front() {
        match line.send(&letter.text, &letter.lend(), Some(name), Wait::Never) {
            Ok(Sent::Done) => backlog.progressed(&desk.limits),
            Ok(Sent::Full) => return Flushed::Full,
            Err(_) => {
                desk.note_lost(Loss::Gone, backlog.outbox.len());
                return Flushed::Gone;
            }
        }
        backlog.outbox.pop_sent();
    }
    Flushed::Done
}

/// The way back to the sender of a datagram.
pub(super) struct DatagramLane<'e> {
    line: &'e Line,
    backlogs: &'e mut HashMap<Name, Backlog>,
    to: Option<Name>,
    account: Arc<Account>,
}

impl Lane for DatagramLane<'_> {
    fn deliver(&mut self, desk: &mut Desk, mail: Mail<'_>) {
        let Some(to) = self.to else {
            return desk.note_lost(Loss::NoAddress, 1);
        };
        // A peer that asks again may well have made room; what waits for it goes first.
        let waits = match self.backlogs.get_mut(&to) {
            None => false,
            Some(backlog) => match flush(self.line, &to, backlog, desk) {
                Flushed::Full => true,
                Flushed::Done | Flushed::Gone => {
                    self.backlogs.remove(&to);
                    false
                }
            },
        };
        if !waits {
            let sent = self
                .line
                .send(mail.text(), &mail.fds(), Some(&to), Wait::Never);
            match sent {
                Ok(Sent::Done) => return mail.sent(),
                Ok(Sent::Full) if self.backlogs.len() < desk.limits.waiting_peers => {}
                Ok(Sent::Full) => return desk.note_lost(Loss::NoRoom, 1),
                Err(error) => match fault_instead(&error, mail.text()) {
                    Some(fault) => {
                        desk.note_lost(Loss::NotKept, 1);
                        return self.deliver(desk, Mail::Letter(fault));
                    }
                    None => return desk.note_lost(Loss::Gone, 1),
                },
            }
        }
        let fresh = || Backlog::new(&desk.limits, Instant::now());
        let backlog = self.backlogs.entry(to).or_insert_with(fresh);
        let mut push = |letter| backlog.outbox.push(letter, &desk.limits, &self.account);
        let kept = match mail.into_letter().map(&mut push) {
            Some(Ok(())) => true,
            Some(Err(letter)) => {
                // There may be room to say so.
                let _ = smaller(&letter.text, "the answer found no room").map(push);
                false
            }
            None => false,
        };
        if backlog.outbox.is_empty() {
            self.backlogs.remove(&to);
        }
        if !kept {
            desk.note_lost(Loss::NoRoom, 1);
        }
    }
}

/// What a caller is told instead of an answer that may not wait for it, or cannot be sent.
fn smaller(text: &[u8], reason: &str) -> Option<Letter> {
    let id = envelope::find_id(text)?;
    let mut fault = Vec::new();
    envelope::write_fault(&mut fault, Some(&id), &Fault::new(Fault::BUSY, reason));
    (fault.len() < text.len()).then(|| Letter::from(fault))
}

/// The same, if it is our own trouble that it cannot be sent: nothing can hold it on its way.
fn fault_instead(error: &Error, text: &[u8]) -> Option<Letter> {
    match error {
        Error::Os { operation, .. } if *operation == "memfd_create" => {
            smaller(text, "the answer is larger than can be sent")
        }
        _ => None,
    }
}

/// What one connection costs.
const ONE: Cost = Cost {
    connections: 1,
    deferred: 0,
    bytes: 0,
    descriptors: 0,
};

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
    pub(super) line: Line,
    pub(super) routes: Arc<Routes<S>>,
    peer: Option<Peer>,
    account: Arc<Account>,
    /// Counts the connection to its user; absent when that one has too many.
    charge: Option<Charge>,
    outbox: Outbox,
    /// When its timer will come, so that it is not set twice.
    timer: Option<Instant>,
    habit: Habit,
    malformed: Malformed,
    /// The peer has gone, and all it had sent has been read.
    ended: bool,
    /// Nothing more can be sent: the peer has gone, or was cut for exceeding its budget.
    broken: bool,
}

impl<S> Connected<S> {
    pub(super) fn new(line: Line, routes: Arc<Routes<S>>, desk: &mut Desk) -> Self {
        let pidfd = match routes.asks_for_pidfds() {
            true => peer_pidfd(line.as_fd()).ok(),
            false => None,
        };
        let peer = Peer::of_connection(line.as_fd(), pidfd);
        let account = desk.accounts.of(peer.as_ref());
        Self {
            line,
            routes,
            peer,
            charge: account.try_charge(ONE),
            account,
            outbox: Outbox::default(),
            timer: None,
            habit: Habit::default(),
            malformed: Malformed::default(),
            ended: false,
            broken: false,
        }
    }

    /// Asks again who the peer is, and for its process. What the kernel does not tell stays as it is.
    pub(super) fn ask_for_pidfd(&mut self) {
        if let Ok(pidfd) = peer_pidfd(self.line.as_fd()) {
            let peer = Peer::of_connection(self.line.as_fd(), Some(pidfd));
            self.peer = peer.or(self.peer.take());
        }
    }

    /// Who the peer is, without what more is known of it.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        self.peer.as_ref().map(Peer::credentials)
    }

    /// Says whether its user has no more connections than it may.
    pub(super) fn is_within_limits(&self) -> bool {
        self.charge.is_some()
    }

    /// Says whether the endpoint's rule admits the peer.
    pub(super) fn is_admitted(&self) -> bool {
        self.routes.admits(self.peer.as_ref())
    }

    /// How many answers wait for the peer.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Closes it.
    pub(super) fn close(self, desk: &Desk) {
        match self.ended {
            true => drop(self.line),
            false => close(self.line, desk),
        }
    }

    /// Tells the peer why it is about to be cut off.
    pub(super) fn turn_away(mut self, desk: &mut Desk, fault: &Fault) {
        desk.peer = self.credentials();
        desk.note(Notice::TurnedAway(fault.code));
        Arc::clone(&self.routes).refuse(desk, &mut self, b"", fault);
        self.close(desk);
    }

    /// Sends what had found no room, and only then handles what has come: a client that does not read is
    /// not read from.
    pub(super) fn act(
        &mut self,
        state: &mut S,
        desk: &mut Desk,
        inbox: &mut Inbox,
        key: Key,
        cause: Cause,
    ) -> Next {
        if cause == Cause::Timer {
            self.timer = None;
        }
        let waiting = self.outbox.len();
        let was_full = waiting > 0;
        desk.peer = self.credentials();
        self.flush(desk);
        if was_full && self.outbox.len() == waiting && !self.broken {
            return self.try_later(desk, cause);
        }
        let routes = Arc::clone(&self.routes);
        let caller = Caller {
            ticket: Ticket {
                key: key.to_bits(),
                to: None,
            },
            account: Arc::clone(&self.account),
            peer: self.peer.clone(),
        };
        let mut share = Share::of(&desk.limits);
        while share.is_left() {
            if self.broken {
                return Next::Close;
            }
            if !self.outbox.is_empty() {
                return Next::Again(Watch::Writing);
            }
            match self.line.receive(inbox, Wait::Never) {
                Ok(Heard::Datagram(datagram)) => {
                    share.take(inbox.text(&datagram));
                    let sound = receive(&routes, state, desk, self, &caller, inbox, datagram, None);
                    let malformed = !sound && self.malformed.is_one_too_many(&desk.limits);
                    if malformed {
                        self.cut(desk, Cut::Malformed);
                    } else if self.account.take_overdrawn() {
                        self.cut(desk, Cut::Descriptors);
                    }
                    if share.taken == 1 && !self.habit.looks() {
                        break;
                    }
                }
                Ok(Heard::Pending) => {
                    self.habit.note(share.taken);
                    break;
                }
                Ok(Heard::Closed) => {
                    self.ended = true;
                    return Next::Close;
                }
                Err(_) => return Next::Close,
                Ok(Heard::Short) => return Next::pause(desk.limits.accept_pause),
            }
        }
        self.next()
    }

    /// Says when to try again what has found no room a second time.
    fn try_later(&mut self, desk: &Desk, cause: Cause) -> Next {
        if cause == Cause::Timer {
            return Next::Again(Watch::Writing);
        }
        // There should be room: the kernel is short of memory, or of descriptors on their way, and no event says
        // when that ends.
        let retry = || Instant::now() + desk.limits.retry;
        let time = *self.timer.get_or_insert_with(retry);
        Next::Pause(time, Watch::Writing)
    }

    /// What to watch for now.
    pub(super) fn next(&self) -> Next {
        if self.broken {
            Next::Close
        } else if self.outbox.is_empty() {
            Next::Again(Watch::Reading)
        } else {
            Next::Again(Watch::Writing)
        }
    }

    /// Sends queued answers for as long as there is room.
    fn flush(&mut self, desk: &mut Desk) {
        while let Some(letter) = self.outbox.front() {
            match self
                .line
                .send(&letter.text, &letter.lend(), None, Wait::Never)
            {
                Ok(Sent::Done) => self.outbox.pop_sent(),
                Ok(Sent::Full) => return,
                Err(_) => return self.break_off(desk),
            }
        }
    }

    /// Gives the peer up, with all that waits for it.
    fn break_off(&mut self, desk: &mut Desk) {
        desk.note_lost(Loss::Gone, self.outbox.len());
        self.broken = true;
    }

    /// Gives the peer up for what it does.
    fn cut(&mut self, desk: &mut Desk, cut: Cut) {
        desk.note(Notice::Cut(cut));
        self.break_off(desk);
    }
}

impl<S> Lane for Connected<S> {
    fn deliver(&mut self, desk: &mut Desk, mail: Mail<'_>) {
        desk.peer = self.credentials();
        if self.broken {
            return desk.note_lost(Loss::Gone, 1);
        }
        if self.outbox.is_empty() {
            let sent = self.line.send(mail.text(), &mail.fds(), None, Wait::Never);
            match sent {
                Ok(Sent::Done) => return mail.sent(),
                Ok(Sent::Full) => {}
                Err(error) => {
                    if let Some(fault) = fault_instead(&error, mail.text()) {
                        desk.note_lost(Loss::NotKept, 1);
                        return self.deliver(desk, Mail::Letter(fault));
                    }
                    desk.note_lost(Loss::Gone, 1);
                    return self.break_off(desk);
                }
            }
        }
        let letter = mail.into_letter();
        let mut push = |letter| self.outbox.push(letter, &desk.limits, &self.account);
        let kept = letter.is_some_and(|letter| push(letter).is_ok());
        if !kept {
            desk.note_lost(Loss::NoRoom, 1);
            self.cut(desk, Cut::Waiting);
        }
    }
}

/// Closes a socket. What nobody has read goes with it, descriptors included, and closing these may take its time:
/// then it is done elsewhere, and the peers are told now.
pub(super) fn close(socket: impl AsFd + Send + 'static, desk: &Desk) {
    if wait::poll(socket.as_fd(), wait::For::Reading, Some(Instant::now())).unwrap_or(true) {
        // It fails when there is nobody to tell.
        let _ = shut_down(socket.as_fd(), How::Both);
        desk.accounts.closer().close(socket);
    }
}

/// Judges a datagram that has come and hands it on. Says whether it was a call at all.
#[expect(clippy::too_many_arguments, reason = "each is of another owner")]
fn receive<S>(
    routes: &Routes<S>,
    state: &mut S,
    desk: &mut Desk,
    lane: &mut dyn Lane,
    caller: &Caller,
    inbox: &Inbox,
    mut datagram: Datagram,
    refusal: Option<Fault>,
) -> bool {
    desk.peer = caller.peer.as_ref().map(Peer::credentials);
    desk.counts.received += 1;
    if datagram.is_spilled() {
        desk.note(Notice::Spilled);
    }
    if !datagram.fds.is_empty() {
        let account = Arc::clone(&caller.account);
        datagram.fds.set_discard(account);
    }
    let text = inbox.text(&datagram);
    let damage = datagram.damage.take().map(|damage| {
        let code = match &damage {
            Error::Payload { .. } => Fault::BAD_DESCRIPTORS,
            Error::Truncated { .. } if !text.is_empty() => Fault::BAD_DESCRIPTORS,
            Error::Os { .. } => Fault::BUSY,
            Error::Decode(_) => Fault::NOT_JSON,
            _ => Fault::NOT_A_CALL,
        };
        Fault::new(code, damage.to_string())
    });
    let limit = desk.limits.descriptors.min(routes.descriptors());
    let count = datagram.fds.len();
    let too_many = || {
        let message = format!("{count} descriptors exceed {limit}");
        Fault::new(Fault::BAD_DESCRIPTORS, message)
    };
    let surplus = (count > limit).then(too_many);
    match refusal.or(damage).or(surplus) {
        Some(fault) => routes.refuse(desk, lane, text, &fault),
        None => routes.dispatch(state, desk, lane, caller, text, datagram.fds),
    }
    !desk.take_malformed()
}

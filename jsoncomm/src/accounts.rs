//! What each user costs the server: connections, calls, bytes and descriptors that wait.
//!
//! A peer can be many connections and any number of datagram sockets, so what one of them may use is not
//! enough of a bound. Peers whose user is not known share one account.

mod in_flight;
mod waiters;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::fds::{Closer, Discard, Fds, FdsToClose};
use crate::limits::Limits;
use crate::sys::socket::has_no_queued_descriptors;

use in_flight::Senders;
pub(crate) use in_flight::{InFlight, Order};
use waiters::{Resumed, Waiters};

/// An amount of everything that is accounted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) connections: usize,
    pub(crate) deferred: usize,
    pub(crate) bytes: usize,
    pub(crate) descriptors: usize,
    /// Of the descriptors, those that nobody wants and that are still open.
    pub(crate) unwanted: usize,
    /// Descriptors that have been sent and may be unread.
    pub(crate) fds_in_flight: usize,
    /// Bytes in memfds that have been sent and may be unread.
    pub(crate) bytes_in_flight: usize,
}

impl Cost {
    /// What one connection costs.
    pub(crate) const CONNECTION: Self = Self {
        connections: 1,
        ..Self::NONE
    };

    /// One deferred call.
    pub(crate) const DEFERRED: Self = Self {
        deferred: 1,
        ..Self::NONE
    };

    /// A reply that waits.
    pub(crate) fn queued(bytes: usize, descriptors: usize) -> Self {
        Self {
            bytes,
            descriptors,
            ..Self::NONE
        }
    }

    pub(crate) const NONE: Self = Self {
        connections: 0,
        deferred: 0,
        bytes: 0,
        descriptors: 0,
        unwanted: 0,
        fds_in_flight: 0,
        bytes_in_flight: 0,
    };

    /// All of it, in one order.
    #[inline]
    fn parts(&self) -> [usize; PARTS] {
        [
            self.connections,
            self.deferred,
            self.bytes,
            self.descriptors,
            self.unwanted,
            self.fds_in_flight,
            self.bytes_in_flight,
        ]
    }
}

/// How many things are accounted for.
const PARTS: usize = 7;

/// What one user costs now.
#[derive(Debug, Default)]
pub(crate) struct Account {
    limit: Cost,
    connections: AtomicUsize,
    deferred: AtomicUsize,
    bytes: AtomicUsize,
    descriptors: AtomicUsize,
    unwanted: AtomicUsize,
    /// The memfds of large texts, which have been read and are still open. They are as they should be, so they are no
    /// part of the descriptors; as many may be as of those that nobody wants.
    payloads: AtomicUsize,
    /// Connections that are being closed.
    closing: AtomicUsize,
    /// As many of these may be.
    closing_limit: usize,
    fds_in_flight: AtomicUsize,
    bytes_in_flight: AtomicUsize,
    senders: Mutex<Senders>,
    /// One for each user, so that nobody's descriptors wait behind another's.
    closer: Closer,
    /// What [has to wait](Self::must_wait) until more of them are closed.
    readers: Waiters,
    /// New connections that wait until fewer others are being closed.
    newcomers: Waiters,
    /// What may go on of all that waits.
    resumed: Arc<Resumed>,
}

impl Account {
    /// What is charged now, in the order of [`Cost::parts`].
    fn used(&self) -> [&AtomicUsize; PARTS] {
        [
            &self.connections,
            &self.deferred,
            &self.bytes,
            &self.descriptors,
            &self.unwanted,
            &self.fds_in_flight,
            &self.bytes_in_flight,
        ]
    }

    /// Returns true if all that it costs anything of `fits`: so much is used, wanted and allowed.
    #[inline]
    fn fits(&self, cost: &Cost, fits: impl Fn(usize, usize, usize) -> bool) -> bool {
        let wanted = cost.parts().into_iter().zip(self.limit.parts());
        let mut parts = self.used().into_iter().zip(wanted);
        parts.all(|(used, (wanted, limit))| {
            wanted == 0 || fits(used.load(Ordering::Relaxed), wanted, limit)
        })
    }

    /// Says whether so much more is within the limit. What costs nothing always is.
    #[inline]
    pub(crate) fn has_room(&self, cost: Cost) -> bool {
        self.fits(&cost, |used, wanted, limit| {
            used.saturating_add(wanted) <= limit
        })
    }

    /// Says whether items of streams may wait, which can do without: less than half of what may wait does. The rest
    /// is for what cannot.
    pub(crate) fn has_room_to_spare(&self) -> bool {
        let half =
            |used: &AtomicUsize, limit: usize| used.load(Ordering::Relaxed) < limit.div_ceil(2);
        half(&self.bytes, self.limit.bytes) && half(&self.descriptors, self.limit.descriptors)
    }

    /// Charges it, whatever the limit.
    pub(crate) fn charge(self: &Arc<Self>, cost: Cost) -> Charge {
        for (used, more) in self.used().into_iter().zip(cost.parts()) {
            if more > 0 {
                used.fetch_add(more, Ordering::Relaxed);
            }
        }
        let account = Arc::clone(self);
        Charge { account, cost }
    }

    /// Says whether more descriptors that nobody wants wait to be closed than its peers may have sent.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed) > self.limit.unwanted
    }

    /// Returns true if messages of its peers have to wait: more descriptors that came with earlier ones wait to be closed
    /// than may.
    pub(crate) fn must_wait(&self) -> bool {
        self.is_overdrawn() || self.payloads.load(Ordering::Relaxed) > self.limit.unwanted
    }

    /// Has a source of the loop wait while its messages [have to](Self::must_wait). Returns true if it does; it is resumed
    /// when they need not any more.
    pub(crate) fn wait_to_read(&self, key: u64) -> bool {
        self.readers.wait(key, || self.must_wait())
    }

    /// Has a new connection wait while as many of its user's are being closed as may be. Returns true if it does; it is
    /// resumed when there are fewer.
    pub(crate) fn wait_to_begin(&self, key: u64) -> bool {
        self.newcomers.wait(key, || self.room_to_close() == 0)
    }

    /// How many more of its connections may be closed at a time.
    pub(crate) fn room_to_close(&self) -> usize {
        let closing = self.closing.load(Ordering::Relaxed);
        self.closing_limit.saturating_sub(closing)
    }

    /// Resumes new connections that have waited, no more than there is room for if all of them have to be closed. Each
    /// that begins resumes further ones.
    pub(crate) fn resume_newcomers(&self) {
        self.newcomers
            .resume(&self.resumed, || self.room_to_close());
    }

    /// Forgets a source of the loop that has gone, and may have waited, or been resumed: then the next has its turn.
    pub(crate) fn forget(&self, key: u64) {
        self.readers.forget(key);
        self.newcomers.forget(key);
        self.resume_newcomers();
    }

    /// Resumes what has had to wait, and need not any more.
    fn resume_readers(&self) {
        let room = || if self.must_wait() { 0 } else { usize::MAX };
        self.readers.resume(&self.resumed, room);
    }

    /// How many of these are still open.
    fn count(&self, thing: Thing) -> &AtomicUsize {
        match thing {
            Thing::Payload => &self.payloads,
            Thing::Connection => &self.closing,
        }
    }

    /// Closes the memfd of a large text that has been read.
    pub(crate) fn close_payload(self: &Arc<Self>, payload: Fds) {
        let open = Open::new(self, Thing::Payload);
        self.closer
            .close((FdsToClose(payload.into_iter().collect()), open));
    }

    /// Charges it, if it is within the limit.
    pub(crate) fn try_charge(self: &Arc<Self>, cost: Cost) -> Option<Charge> {
        self.has_room(cost).then(|| self.charge(cost))
    }
}

impl Discard for Account {
    fn discard(self: Arc<Self>, fds: Vec<OwnedFd>) {
        if !self.closer.is_here() {
            // They may be wanted in the parent: they are closed as they are.
            return;
        }
        let cost = Cost {
            descriptors: fds.len(),
            unwanted: fds.len(),
            ..Cost::default()
        };
        self.closer.close((FdsToClose(fds), self.charge(cost)));
    }
}

/// Something that is charged to an account until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    account: Arc<Account>,
    cost: Cost,
}

impl Drop for Charge {
    fn drop(&mut self) {
        for (used, less) in self.account.used().into_iter().zip(self.cost.parts()) {
            if less > 0 {
                used.fetch_sub(less, Ordering::Relaxed);
            }
        }
        if self.cost.unwanted > 0 {
            self.account.resume_readers();
        }
    }
}

/// What another thread closes for a user, besides what nobody wants.
#[derive(Debug, Clone, Copy)]
enum Thing {
    Payload,
    Connection,
}

/// One such thing, until it is closed and this is dropped.
struct Open {
    account: Arc<Account>,
    thing: Thing,
}

impl Open {
    fn new(account: &Arc<Account>, thing: Thing) -> Self {
        account.count(thing).fetch_add(1, Ordering::Relaxed);
        let account = Arc::clone(account);
        Self { account, thing }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { account, thing } = self;
        account.count(*thing).fetch_sub(1, Ordering::Relaxed);
        match thing {
            Thing::Payload => account.resume_readers(),
            Thing::Connection => account.resume_newcomers(),
        }
    }
}

/// A connection that is being closed. If descriptors are unread in it, that waits for others of its user.
struct Leaving<T: AsFd + Send + 'static> {
    rest: Option<Rest<T>>,
    account: Arc<Account>,
}

/// The socket, and what counts it until it is closed.
type Rest<T> = (T, Open, One);

/// How many connections are being closed, of all users.
#[derive(Debug, Default)]
struct Closing {
    count: AtomicUsize,
    /// Listening sources that wait until there are fewer.
    doors: Waiters,
    resumed: Arc<Resumed>,
}

/// One of them, until this is dropped.
struct One(Arc<Closing>);

impl One {
    fn of(closing: &Arc<Closing>) -> Self {
        closing.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(closing))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let Self(closing) = self;
        closing.count.fetch_sub(1, Ordering::Relaxed);
        closing.doors.resume(&closing.resumed, || usize::MAX);
    }
}

impl<T: AsFd + Send + 'static> Drop for Leaving<T> {
    fn drop(&mut self) {
        let none = |rest: &Rest<T>| has_no_queued_descriptors(rest.0.as_fd()).unwrap_or(false);
        if let Some(rest) = self.rest.take_if(|rest| !none(rest)) {
            self.account.closer.close(rest);
        }
    }
}

/// The accounts of those users that cost something.
#[derive(Debug)]
pub(crate) struct Accounts {
    limit: Cost,
    closing_limit: usize,
    users: HashMap<Option<u32>, Arc<Account>>,
    /// For sockets that are no user's.
    closer: Closer,
    /// For connections, which do not wait here.
    leaving: Closer,
    closing: Arc<Closing>,
    /// Sources of the loop that have waited for something to be closed, and may go on.
    resumed: Arc<Resumed>,
    /// How many there may be until it is time to forget those that cost nothing.
    crowd: usize,
}

impl Accounts {
    pub(crate) fn new(limits: &Limits) -> Self {
        let resumed = Arc::<Resumed>::default();
        let closing = Closing {
            resumed: Arc::clone(&resumed),
            ..Closing::default()
        };
        Self {
            limit: Cost {
                connections: limits.user_connections,
                deferred: limits.user_deferred,
                bytes: limits.user_backlog_bytes,
                descriptors: limits.user_descriptors,
                unwanted: limits.user_descriptors,
                fds_in_flight: limits.user_descriptors,
                bytes_in_flight: limits.user_backlog_bytes,
            },
            closing_limit: limits.user_closing,
            users: HashMap::new(),
            closer: Closer::default(),
            leaving: Closer::default(),
            closing: Arc::new(closing),
            resumed,
            crowd: 0,
        }
    }

    /// Has the loop woken by this when sources may go on ([`take_resumed`](Self::take_resumed)).
    pub(crate) fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.resumed.set_wake(wake);
    }

    /// Takes the keys of the sources that have waited for something to be closed, and may go on.
    pub(crate) fn take_resumed(&self) -> Vec<u64> {
        self.resumed.take()
    }

    /// Who closes what may take its time.
    pub(crate) fn closer(&self) -> &Closer {
        &self.closer
    }

    /// Closes a user's connection, which has been shut down, where that may take its time. It does not count as a
    /// connection meanwhile.
    pub(crate) fn close<T>(&self, account: &Arc<Account>, socket: T)
    where
        T: AsFd + Send + 'static,
    {
        let open = Open::new(account, Thing::Connection);
        self.leaving.close(Leaving {
            rest: Some((socket, open, One::of(&self.closing))),
            account: Arc::clone(account),
        });
    }

    /// How many connections are being closed there.
    pub(crate) fn closing(&self) -> usize {
        self.closing.count.load(Ordering::Relaxed)
    }

    /// Has a listening source wait while `too_many` are being closed. Returns true if it does; it is resumed when one
    /// more has been closed.
    pub(crate) fn wait_to_accept(&self, key: u64, too_many: impl Fn(usize) -> bool) -> bool {
        let closing = &self.closing;
        closing.doors.wait(key, || too_many(self.closing()))
    }

    /// The account of a user, or of those who are not known.
    pub(crate) fn of(&mut self, user: Option<u32>) -> Arc<Account> {
        /// So few are not worth looking through.
        const FEW: usize = 64;
        if let Some(account) = self.users.get(&user) {
            return Arc::clone(account);
        }
        if self.users.len() >= self.crowd.max(FEW) {
            self.users
                .retain(|_, account| Arc::strong_count(account) > 1);
            self.crowd = self.users.len() * 2;
        }
        let account = self.apart();
        self.users.insert(user, Arc::clone(&account));
        account
    }

    /// An account of nobody's, with the limits of a user.
    pub(crate) fn apart(&self) -> Arc<Account> {
        Arc::new(Account {
            limit: self.limit,
            closing_limit: self.closing_limit,
            resumed: Arc::clone(&self.resumed),
            ..Account::default()
        })
    }

    /// Says whether nobody costs anything.
    #[cfg(all(test, feature = "derive"))]
    pub(crate) fn is_idle(&self) -> bool {
        let used = self.users.values().flat_map(|account| account.used());
        let mut used = used.map(|used| used.load(Ordering::Relaxed));
        let mut open = self.users.values().map(|account| {
            let open = |thing| account.count(thing).load(Ordering::Relaxed);
            open(Thing::Payload) + open(Thing::Connection)
        });
        used.all(|used| used == 0) && open.all(|open| open == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_charged_up_to_the_limit_and_no_further() {
        let mut limits = Limits::default();
        (limits.user_backlog_bytes, limits.user_descriptors) = (10, 1);
        let mut accounts = Accounts::new(&limits);
        let account = accounts.of(Some(7));
        let bytes = |bytes| Cost {
            bytes,
            ..Cost::default()
        };
        assert!(account.try_charge(bytes(11)).is_none(), "above");
        let ten = account.try_charge(bytes(10)).unwrap();
        assert!(account.try_charge(bytes(1)).is_none());
        let descriptors = Cost {
            descriptors: 1,
            ..Cost::default()
        };
        let one = account.try_charge(descriptors).unwrap();
        assert!(account.try_charge(descriptors).is_none());
        assert!(accounts.of(Some(8)).try_charge(bytes(10)).is_some());
        drop((ten, one));
        assert!(accounts.of(Some(7)).has_room(bytes(10)));
    }

    #[test]
    fn a_new_connection_that_goes_before_its_turn_leaves_it_to_the_next() {
        let limits = Limits {
            user_closing: 1,
            ..Limits::default()
        };
        let mut accounts = Accounts::new(&limits);
        let account = accounts.of(None);
        let open = Open::new(&account, Thing::Connection);
        assert!([1, 2, 3].into_iter().all(|key| account.wait_to_begin(key)));
        account.forget(3);
        drop(open);
        assert_eq!(accounts.take_resumed(), [1]);
        account.forget(1);
        assert_eq!(accounts.take_resumed(), [2]);
    }

    #[test]
    fn there_is_room_to_spare_until_half_is_used() {
        for (limit, most) in [(0, 0), (1, 1), (10, 5), (11, 6), (usize::MAX, 7)] {
            let mut limits = Limits::default();
            (limits.user_backlog_bytes, limits.user_descriptors) = (limit, limit);
            let account = Accounts::new(&limits).of(None);
            let mut charges = Vec::new();
            while account.has_room_to_spare() && charges.len() < 7 {
                charges.push(account.charge(Cost {
                    bytes: 1,
                    ..Cost::default()
                }));
            }
            assert_eq!(charges.len(), most, "{limit}");
        }
    }

    #[test]
    fn users_that_cost_nothing_are_forgotten() {
        let mut accounts = Accounts::new(&Limits::default());
        let kept = accounts.of(None);
        for uid in 0..1000 {
            accounts.of(Some(uid));
        }
        assert!(accounts.users.len() <= 64 + 1);
        assert!(Arc::ptr_eq(&kept, &accounts.of(None)));
    }
}

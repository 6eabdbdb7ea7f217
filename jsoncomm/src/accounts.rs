//! Budgets of users: connections, deferred calls, and bytes and descriptors that wait or are in flight.
//!
//! A bound for each peer is not enough: one user can have many connections and any number of datagram sockets. Peers
//! whose user is not known share one account.

mod in_flight;
mod waiters;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::fds::{Closer, Discard, Fds, FdsToClose, Hold, OverBudget};
use crate::limits::Limits;
use crate::sys::opaque_debug;
use crate::sys::socket::has_no_queued_descriptors;

use in_flight::Senders;
pub(crate) use in_flight::{InFlight, Order};
use waiters::{Resumed, Waiters};

/// What is accounted for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resource {
    Connections,
    Deferred,
    /// Bytes of queued replies.
    Bytes,
    /// Descriptors of queued replies, and those that no message used.
    Descriptors,
    /// Descriptors that no message used and that are still open.
    Unused,
    /// Descriptors sent that may be unread.
    FdsInFlight,
    /// Bytes in memfds sent that may be unread.
    BytesInFlight,
    /// Memfds of large messages that have been read and are still open.
    Payloads,
    /// Connections that are being closed.
    Closing,
}

/// The number of resources.
const RESOURCES: usize = Resource::Closing as usize + 1;

/// An amount of each resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost([usize; RESOURCES]);

#[expect(
    clippy::indexing_slicing,
    reason = "there is a place for each resource"
)]
impl Cost {
    pub(crate) const NONE: Self = Self([0; RESOURCES]);
    /// One connection.
    pub(crate) const CONNECTION: Self = Self::NONE.with(Resource::Connections, 1);
    /// One deferred call.
    pub(crate) const DEFERRED: Self = Self::NONE.with(Resource::Deferred, 1);

    /// Sets the amount of one resource.
    pub(crate) const fn with(mut self, resource: Resource, amount: usize) -> Self {
        self.0[resource as usize] = amount;
        self
    }

    fn get(&self, resource: Resource) -> usize {
        self.0[resource as usize]
    }

    /// A reply that waits.
    pub(crate) const fn queued(bytes: usize, descriptors: usize) -> Self {
        let cost = Self::NONE.with(Resource::Bytes, bytes);
        cost.with(Resource::Descriptors, descriptors)
    }

    /// A call that waits, unread, until the program has decided whether to allow it.
    pub(crate) const fn parked(bytes: usize, descriptors: usize) -> Self {
        Self::queued(bytes, descriptors).with(Resource::Deferred, 1)
    }

    /// A reply that was sent and may be unread.
    pub(crate) const fn in_flight(fds: usize, bytes: usize) -> Self {
        let cost = Self::NONE.with(Resource::FdsInFlight, fds);
        cost.with(Resource::BytesInFlight, bytes)
    }
}

/// What one user uses now.
#[derive(Default)]
pub(crate) struct Account {
    limit: Cost,
    used: [AtomicUsize; RESOURCES],
    /// The sockets from which something is in flight to this user's peers.
    senders: Mutex<Senders>,
    /// One for each user, so that no user's descriptors wait for another's to be closed.
    closer: Closer,
    /// Sources that are not read from until fewer descriptors wait to be closed.
    readers: Waiters,
    /// New connections, or listeners, that wait until fewer connections are being closed.
    newcomers: Waiters,
    /// The sources of all users that may go on.
    resumed: Arc<Resumed>,
}

opaque_debug!(Account);

impl Account {
    fn used(&self, resource: Resource) -> usize {
        let used = self.used.get(resource as usize);
        used.map_or(0, |used| used.load(Ordering::Relaxed))
    }

    /// Returns true if `fits(used, cost, limit)` holds for each resource that `cost` contains.
    #[inline]
    fn fits(&self, cost: &Cost, fits: impl Fn(usize, usize, usize) -> bool) -> bool {
        let mut parts = self.used.iter().zip(cost.0.into_iter().zip(self.limit.0));
        parts.all(|(used, (cost, limit))| {
            cost == 0 || fits(used.load(Ordering::Relaxed), cost, limit)
        })
    }

    /// Returns true if `cost` more is within the limit.
    #[inline]
    pub(crate) fn has_room(&self, cost: Cost) -> bool {
        self.fits(&cost, |used, cost, limit| {
            used.saturating_add(cost) <= limit
        })
    }

    /// Returns true if items of streams may wait: less than half of the budgets for queued replies is used. The rest is
    /// for replies, which cannot wait elsewhere.
    pub(crate) fn has_room_to_spare(&self) -> bool {
        [Resource::Bytes, Resource::Descriptors]
            .into_iter()
            .all(|resource| self.used(resource) < self.limit.get(resource).div_ceil(2))
    }

    /// Charges `cost`, whatever the limit.
    pub(crate) fn charge(self: &Arc<Self>, cost: Cost) -> Charge {
        for (used, more) in self.used.iter().zip(cost.0) {
            if more > 0 {
                used.fetch_add(more, Ordering::Relaxed);
            }
        }
        let account = Arc::clone(self);
        Charge { account, cost }
    }

    /// Charges `cost` if it is within the limit.
    pub(crate) fn try_charge(self: &Arc<Self>, cost: Cost) -> Option<Charge> {
        self.has_room(cost).then(|| self.charge(cost))
    }

    /// Returns true if more descriptors that no message used wait to be closed than the limit.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.used(Resource::Unused) > self.limit.get(Resource::Unused)
    }

    /// Returns true if the user's peers must not be read from: too many descriptors of earlier messages wait to be closed.
    pub(crate) fn must_wait(&self) -> bool {
        self.is_overdrawn() || self.used(Resource::Payloads) > self.limit.get(Resource::Payloads)
    }

    /// Lets a source of the loop wait while it [must](Self::must_wait). Returns true if it does.
    pub(crate) fn wait_to_read(&self, key: u64) -> bool {
        self.readers.wait(key, || self.must_wait())
    }

    /// Lets a new connection wait while as many of its user's connections are being closed as may be. Returns true if it
    /// does.
    pub(crate) fn wait_to_begin(&self, key: u64) -> bool {
        self.newcomers.wait(key, || self.room_to_close() == 0)
    }

    /// The number of further connections that may be closed at a time.
    pub(crate) fn room_to_close(&self) -> usize {
        let limit = self.limit.get(Resource::Closing);
        limit.saturating_sub(self.used(Resource::Closing))
    }

    /// Resumes new connections: as many as may be closed, if all of them have to be. Each that begins resumes others.
    pub(crate) fn resume_newcomers(&self) {
        self.newcomers
            .resume(&self.resumed, || self.room_to_close());
    }

    /// Removes a source from those that wait. If it had been resumed, the next one is.
    pub(crate) fn forget(&self, key: u64) {
        self.readers.forget(key);
        self.newcomers.forget(key);
        self.resume_newcomers();
    }

    /// Closes the memfd of a large message on another thread.
    pub(crate) fn close_payload(self: &Arc<Self>, payload: Fds) {
        let charge = self.charge(Cost::NONE.with(Resource::Payloads, 1));
        let fds = FdsToClose(payload.into_iter().collect());
        self.closer.close((fds, charge));
    }
}

impl Discard for Account {
    fn discard(self: Arc<Self>, fds: Vec<OwnedFd>) {
        if !self.closer.is_own_process() {
            // Closed without changing their options: the parent may use them.
            return;
        }
        let cost = Cost::NONE.with(Resource::Descriptors, fds.len());
        let charge = self.charge(cost.with(Resource::Unused, fds.len()));
        self.closer.close((FdsToClose(fds), charge));
    }

    fn hold(self: Arc<Self>) -> Result<Option<Hold>, OverBudget> {
        let charge = self.try_charge(Cost::CONNECTION).ok_or(OverBudget)?;
        Ok(Some(Box::new(charge)))
    }
}

/// A cost charged to an account until this is dropped.
#[must_use = "dropping it gives the cost back"]
pub(crate) struct Charge {
    account: Arc<Account>,
    cost: Cost,
}

impl Charge {
    /// The account that is charged.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Self { account, cost } = self;
        for (used, less) in account.used.iter().zip(cost.0) {
            if less > 0 {
                used.fetch_sub(less, Ordering::Relaxed);
            }
        }
        if cost.get(Resource::Unused) + cost.get(Resource::Payloads) > 0 {
            let room = || if account.must_wait() { 0 } else { usize::MAX };
            account.readers.resume(&account.resumed, room);
        }
        if cost.get(Resource::Closing) > 0 {
            account.resume_newcomers();
        }
    }
}

/// A connection to close. If unread descriptors are in it, it waits for other connections of its user.
///
/// Holds the socket, and its charges to its user and to all users.
struct Leaving<T: AsFd + Send + 'static>(Option<(T, Charge, Charge)>);

impl<T: AsFd + Send + 'static> Drop for Leaving<T> {
    fn drop(&mut self) {
        // One value, so that the socket is closed before its charges are given back.
        let Some(socket) = self.0.take() else {
            return;
        };
        if !has_no_queued_descriptors(socket.0.as_fd()).unwrap_or(false) {
            let account = Arc::clone(&socket.1.account);
            account.closer.close(socket);
        }
    }
}

/// The accounts of the users that use anything.
pub(crate) struct Accounts {
    limit: Cost,
    /// In the order of their users. Searching a list takes a tenth of the code of a hash map.
    users: Vec<(Option<u32>, Arc<Account>)>,
    /// Closes sockets that belong to no user.
    pub(crate) closer: Closer,
    /// Closes connections without unread descriptors, which does not wait.
    leaving: Closer,
    /// What all users together have being closed, without a limit. Listeners wait in it.
    total: Arc<Account>,
    /// Sources of the loop that waited for something to be closed, and may go on.
    pub(crate) resumed: Arc<Resumed>,
    /// The number of accounts at which unused ones are removed.
    crowd: usize,
}

impl Accounts {
    pub(crate) fn new(limits: &Limits) -> Self {
        let resumed = Arc::<Resumed>::default();
        let (bytes, descriptors) = (limits.user_backlog_bytes, limits.user_descriptors);
        Self {
            limit: Cost::queued(bytes, descriptors)
                .with(Resource::Connections, limits.user_connections)
                .with(Resource::Deferred, limits.user_deferred)
                .with(Resource::Unused, descriptors)
                .with(Resource::FdsInFlight, descriptors)
                .with(Resource::BytesInFlight, bytes)
                .with(Resource::Payloads, descriptors)
                .with(Resource::Closing, limits.user_closing),
            users: Vec::new(),
            closer: Closer::default(),
            leaving: Closer::default(),
            total: Arc::new(Account {
                limit: Cost::NONE.with(Resource::Closing, usize::MAX),
                resumed: Arc::clone(&resumed),
                ..Account::default()
            }),
            resumed,
            crowd: 0,
        }
    }

    /// Closes a connection, which has been shut down, on another thread. It does not count as a connection meanwhile.
    pub(crate) fn close<T>(&self, account: &Arc<Account>, socket: T)
    where
        T: AsFd + Send + 'static,
    {
        let cost = Cost::NONE.with(Resource::Closing, 1);
        let (user, total) = (account.charge(cost), self.total.charge(cost));
        self.leaving.close(Leaving(Some((socket, user, total))));
    }

    /// The number of connections that are being closed.
    pub(crate) fn closing(&self) -> usize {
        self.total.used(Resource::Closing)
    }

    /// Lets a listener wait while `too_many` connections are being closed. Returns true if it does.
    pub(crate) fn wait_to_accept(&self, key: u64, too_many: impl Fn(usize) -> bool) -> bool {
        let listeners = &self.total.newcomers;
        listeners.wait(key, || too_many(self.closing()))
    }

    /// The account of a user; `None` for peers whose user is not known.
    pub(crate) fn of(&mut self, user: Option<u32>) -> Arc<Account> {
        /// So few accounts are never searched for unused ones.
        const FEW: usize = 64;
        let found = self.users.binary_search_by_key(&user, |(user, _)| *user);
        if let Some((_, account)) = found.ok().and_then(|at| self.users.get(at)) {
            return Arc::clone(account);
        }
        if self.users.len() >= self.crowd.max(FEW) {
            self.users
                .retain(|(_, account)| Arc::strong_count(account) > 1);
            self.crowd = self.users.len() * 2;
        }
        let account = self.apart();
        let place = self.users.partition_point(|(other, _)| *other < user);
        self.users.insert(place, (user, Arc::clone(&account)));
        account
    }

    /// The user whose account this is; `None` for peers whose user is not known.
    pub(crate) fn user_of(&self, account: &Arc<Account>) -> Option<u32> {
        let mut users = self.users.iter();
        let found = users.find(|(_, other)| Arc::ptr_eq(account, other));
        found.and_then(|(user, _)| *user)
    }

    /// An account of its own, with the limits of a user.
    pub(crate) fn apart(&self) -> Arc<Account> {
        Arc::new(Account {
            limit: self.limit,
            resumed: Arc::clone(&self.resumed),
            ..Account::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(repository, feature = "derive"))]
    impl Accounts {
        /// Returns true if nothing is charged to any user.
        pub(crate) fn is_idle(&self) -> bool {
            let mut used = self.users.iter().flat_map(|(_, account)| &account.used);
            used.all(|used| used.load(Ordering::Relaxed) == 0)
        }
    }

    #[test]
    fn a_user_is_charged_up_to_the_limit_and_no_further() {
        let mut limits = Limits::default();
        (limits.user_backlog_bytes, limits.user_descriptors) = (10, 1);
        let mut accounts = Accounts::new(&limits);
        let account = accounts.of(Some(7));
        let bytes = |bytes| Cost::queued(bytes, 0);
        assert!(account.try_charge(bytes(11)).is_none(), "above");
        let ten = account.try_charge(bytes(10)).unwrap();
        assert!(account.try_charge(bytes(1)).is_none());
        let descriptors = Cost::queued(0, 1);
        let one = account.try_charge(descriptors).unwrap();
        assert!(account.try_charge(descriptors).is_none());
        assert!(accounts.of(Some(8)).try_charge(bytes(10)).is_some());
        drop((ten, one));
        assert!(accounts.of(Some(7)).has_room(bytes(10)));
    }

    #[test]
    fn a_resumed_connection_that_disconnects_leaves_its_turn_to_the_next() {
        let limits = Limits {
            user_closing: 1,
            ..Limits::default()
        };
        let mut accounts = Accounts::new(&limits);
        let account = accounts.of(None);
        let closing = account.charge(Cost::NONE.with(Resource::Closing, 1));
        assert!([1, 2, 3].into_iter().all(|key| account.wait_to_begin(key)));
        account.forget(3);
        drop(closing);
        assert_eq!(accounts.resumed.take(), [1]);
        account.forget(1);
        assert_eq!(accounts.resumed.take(), [2]);
    }

    #[test]
    fn there_is_room_to_spare_until_half_is_used() {
        for (limit, most) in [(0, 0), (1, 1), (10, 5), (11, 6), (usize::MAX, 7)] {
            let mut limits = Limits::default();
            (limits.user_backlog_bytes, limits.user_descriptors) = (limit, limit);
            let account = Accounts::new(&limits).of(None);
            let mut charges = Vec::new();
            while account.has_room_to_spare() && charges.len() < 7 {
                charges.push(account.charge(Cost::queued(1, 0)));
            }
            assert_eq!(charges.len(), most, "{limit}");
        }
    }

    #[test]
    fn accounts_without_charges_are_removed() {
        let mut accounts = Accounts::new(&Limits::default());
        let kept = accounts.of(None);
        for uid in 0..1000 {
            accounts.of(Some(uid));
        }
        assert!(accounts.users.len() <= 64 + 1);
        assert!(Arc::ptr_eq(&kept, &accounts.of(None)));
    }
}

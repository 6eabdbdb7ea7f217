//! Who may call what: rules for methods, which decide before anything of a call is decoded.

use std::sync::Arc;

use super::incoming::{Incoming, deadline_exceeded};
use crate::accounts::Cost;
use crate::error::{Fault, caught};
use crate::peer::Peer;
use crate::queue::{Decision, DeferredId, ParkedCall, PendingReplies, ReplyRoute, run_callback};
use crate::sys::opaque_debug;

/// A call of which only the method's name has been read, for a rule of [`Endpoint::authorize_calls`] or
/// [`Endpoint::authorize_method`].
///
/// [`Endpoint::authorize_calls`]: crate::Endpoint::authorize_calls
/// [`Endpoint::authorize_method`]: crate::Endpoint::authorize_method
///
/// # Examples
///
/// ```
/// use jsoncomm::server::UnreadCall;
///
/// /// Everybody may read, and root may write.
/// fn may_call(call: &UnreadCall<'_>) -> bool {
///     call.peer().uid() == 0 || matches!(call.method(), "get" | "list")
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct UnreadCall<'c> {
    peer: &'c Peer,
    service: &'c str,
    method: &'c str,
    tag: Option<u64>,
}

impl<'c> UnreadCall<'c> {
    /// Returns the caller's identity as reported by the kernel, or as set by [`Endpoint::peer_is`](crate::Endpoint::peer_is).
    pub fn peer(&self) -> &'c Peer {
        self.peer
    }

    /// Returns the service's name, without the method: `rpc` for `rpc.discover`.
    ///
    /// Of a call for the [fallback](crate::Endpoint::fallback) it is what the caller has written in front of the last dot.
    pub fn service(&self) -> &'c str {
        self.service
    }

    /// Returns the method's present name, without the service, also if the caller has used an older name.
    ///
    /// Of a call for the [fallback](crate::Endpoint::fallback) it is what the caller has written behind the last dot.
    pub fn method(&self) -> &'c str {
        self.method
    }

    /// Returns the tag of the session, or of the [adopted connection](crate::Endpoint::tag), that the call came on.
    pub fn tag(&self) -> Option<u64> {
        self.tag
    }
}

/// What a rule says about a call: of [`Endpoint::authorize_calls`](crate::Endpoint::authorize_calls) or
/// [`Endpoint::authorize_method`](crate::Endpoint::authorize_method).
///
/// A rule may return a `bool` in its place: `true` is [`Allow`](Access::Allow), `false` is [`Refuse`](Access::Refuse).
///
/// # Examples
///
/// See [`Verdict`].
#[expect(missing_debug_implementations, reason = "it has a closure")]
pub enum Access {
    /// The call is handled.
    Allow,
    /// The caller gets the fault [`Fault::NOT_AUTHORIZED`].
    Refuse,
    /// The call waits, unread, until its [`Verdict`] has been given. Made by [`Access::ask`].
    Ask(Box<dyn FnOnce(Verdict)>),
}

impl Access {
    /// Lets the call wait, unread, and passes its [`Verdict`] to `take`, which keeps it, sends it to a thread, or uses it at
    /// once.
    ///
    /// `take` runs after the rule, on the server's thread. It is not called if the caller or its user has no room for another
    /// waiting call: then the caller gets the fault [`Fault::BUSY`].
    pub fn ask(take: impl FnOnce(Verdict) + 'static) -> Self {
        Self::Ask(Box::new(take))
    }
}

impl From<bool> for Access {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Refuse }
    }
}

/// The right to decide about one waiting call, once, from any thread. Made by [`Access::ask`].
///
/// | the program | the call |
/// |---|---|
/// | [allows](Verdict::allow) it | is handled as if it had just arrived, with the peer and the deadline that it came with |
/// | [refuses](Verdict::refuse) it, or drops the verdict | gets the fault [`Fault::NOT_AUTHORIZED`] |
///
/// Until then its text and its descriptors wait in the server, undecoded. The call counts as a deferred one
/// ([`Limits::deferred`], [`Limits::user_deferred`], [`Limits::deferred_total`]), and its text and its descriptors count as queued
/// ([`Limits::user_backlog_bytes`], [`Limits::user_descriptors`]). If one of these is used up, it gets [`Fault::BUSY`] instead.
/// Later calls of the same caller are handled meanwhile.
///
/// | meanwhile | the call |
/// |---|---|
/// | its deadline passes | gets [`Fault::DEADLINE_EXCEEDED`] |
/// | it is cancelled | gets [`Fault::CANCELLED`] |
/// | its caller disconnects, or its endpoint is removed | is dropped |
/// | the server [shuts down](crate::Server::shut_down) | gets [`Fault::SHUTTING_DOWN`] |
///
/// A verdict about a call that has ended does nothing. A call without a deadline waits for as long as its caller and the
/// program let it, so keep each verdict for a bounded time. In a forked child of the server's process a verdict does nothing.
///
/// [`Limits::deferred`]: crate::Limits::deferred
/// [`Limits::user_deferred`]: crate::Limits::user_deferred
/// [`Limits::deferred_total`]: crate::Limits::deferred_total
/// [`Limits::user_backlog_bytes`]: crate::Limits::user_backlog_bytes
/// [`Limits::user_descriptors`]: crate::Limits::user_descriptors
///
/// # Examples
///
/// ```
/// use jsoncomm::server::{Access, Verdict};
/// use jsoncomm::{Connection, Kind, Limits, Server};
/// use std::sync::mpsc::channel;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("clock.sock");
///
/// #[jsoncomm::service(name = "example.clock")]
/// trait Clock {
///     fn set(&mut self, now: u64) -> u64;
/// }
///
/// struct Wall { now: u64 }
///
/// impl Clock for Wall {
///     fn set(&mut self, now: u64) -> u64 { std::mem::replace(&mut self.now, now) }
/// }
///
/// let (ask, asked) = channel::<(u32, Verdict)>();
/// // It may ask a person, or another process.
/// let clerk = std::thread::spawn(move || {
///     for (user, verdict) in asked {
///         println!("user {user} may set the clock");
///         verdict.allow();
///     }
/// });
///
/// let mut server = Server::new(Limits::default())?;
/// server
///     .bind(&path, Kind::Seqpacket)?
///     .serve::<dyn Clock>()
///     .authorize_method("example.clock.set", move |call| {
///         let (ask, user) = (ask.clone(), call.peer().uid());
///         Access::ask(move |verdict| ask.send((user, verdict)).expect("the clerk listens"))
///     });
/// # let handle = server.handle();
/// # let client = std::thread::spawn(move || {
/// let clock = ClockClient::new(Connection::open(&path)?);
/// assert_eq!(clock.set(7)?, 3);
/// #     handle.stop();
/// #     Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # });
/// server.run(&mut Wall { now: 3 })?;
/// # client.join().unwrap().unwrap();
/// # drop(server);
/// # clerk.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a verdict refuses the call"]
pub struct Verdict {
    pending: Arc<PendingReplies>,
    route: ReplyRoute,
    id: DeferredId,
    /// What dropping it decides.
    decision: Decision,
}

opaque_debug!(Verdict);

impl Verdict {
    /// Allows the call. Does not wait: the server's loop handles it.
    pub fn allow(mut self) {
        self.decision = Decision::Allow;
    }

    /// Refuses the call. Does not wait: the server's loop sends the fault.
    pub fn refuse(self) {}

    /// Returns true if the call still waits for the verdict.
    pub fn is_wanted(&self) -> bool {
        self.pending.is_own_process() && self.pending.is_wanted(&self.route, self.id)
    }

    /// Sets the callback for when the call ends before the verdict: it is cancelled, its deadline passes, its caller disconnects,
    /// or the server shuts down. Replaces an earlier callback. Runs it at once if that has happened.
    ///
    /// It may run on any thread that uses the server, in a forked child at once. A panic in it ends the callback only.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        let callback = Box::new(callback);
        if self.pending.is_own_process() {
            self.pending.on_cancel(&self.route, self.id, callback);
        } else {
            run_callback(callback);
        }
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        if self.pending.is_own_process() {
            self.pending.decide(&self.route, self.id, self.decision);
        }
    }
}

/// A rule for calls.
pub(crate) type CallRule = Box<dyn Fn(&UnreadCall<'_>) -> Access + Send + Sync>;

/// The rules of an endpoint for its methods. A trait, so that they are no part of a server without rules.
pub(crate) trait CallRules: Send + Sync {
    /// Sets the rule of the method of this name, or for each that has none of its own.
    fn set(&mut self, name: Option<String>, rule: CallRule);

    /// Returns true if there is a rule for the method.
    fn cover(&self, names: Names<'_>) -> bool;

    /// Returns true if the call may be handled. If not, it has been refused or parked.
    fn admit(&self, names: Names<'_>, incoming: &mut Incoming<'_, '_>) -> bool;
}

/// A service and its method.
pub(crate) type Names<'n> = (&'n str, &'n str);

/// Returns no rules.
pub(crate) fn no_rules() -> Box<dyn CallRules> {
    Box::new(RuleTable::default())
}

#[derive(Default)]
struct RuleTable {
    /// For each method that has none of its own.
    all: Option<CallRule>,
    /// By the methods' whole names.
    methods: Vec<(String, CallRule)>,
}

impl RuleTable {
    fn find(&self, names: Names<'_>) -> Option<&CallRule> {
        let own = self.methods.iter().find(|(name, _)| is_named(name, names));
        own.map(|(_, rule)| rule).or(self.all.as_ref())
    }
}

impl CallRules for RuleTable {
    fn set(&mut self, name: Option<String>, rule: CallRule) {
        let Some(name) = name else {
            self.all = Some(rule);
            return;
        };
        self.methods.retain(|(other, _)| *other != name);
        self.methods.push((name, rule));
    }

    fn cover(&self, names: Names<'_>) -> bool {
        self.find(names).is_some()
    }

    fn admit(&self, names: Names<'_>, incoming: &mut Incoming<'_, '_>) -> bool {
        let Some(rule) = self.find(names) else {
            return true;
        };
        let (service, method) = names;
        let access = incoming.dispatch.caller.peer.map(|peer| {
            let call = UnreadCall {
                peer,
                service,
                method,
                tag: incoming.dispatch.caller.tag,
            };
            caught(|| rule(&call))
        });
        match access {
            Some(Ok(Access::Allow)) => return true,
            Some(Ok(Access::Ask(take))) => incoming.park(take),
            Some(Ok(Access::Refuse) | Err(_)) | None => incoming.refuse_unread(not_authorized()),
        }
        false
    }
}

/// Splits the whole name of a method at its last dot.
pub(crate) fn split(name: &str) -> Names<'_> {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// Returns true if `name` is the whole name of this method.
fn is_named(name: &str, (service, method): Names<'_>) -> bool {
    let rest = name.strip_prefix(service);
    rest.and_then(|rest| rest.strip_prefix('.')) == Some(method)
}

/// Makes the fault for a peer or a call that a rule does not authorize.
pub(crate) fn not_authorized() -> Fault {
    Fault::new(Fault::NOT_AUTHORIZED, "not authorized")
}

fn no_room() -> Fault {
    Fault::new(Fault::BUSY, "too many calls wait until they are allowed")
}

impl Incoming<'_, '_> {
    /// Parks the call until its verdict is given, or refuses it.
    fn park(&mut self, take: Box<dyn FnOnce(Verdict)>) {
        // A panic drops the verdict, which refuses the call.
        let _ = match self.try_park() {
            Ok(verdict) => caught(|| take(verdict)),
            Err(fault) => {
                self.refuse(&fault);
                caught(|| drop(take))
            }
        };
    }

    fn try_park(&mut self) -> Result<Verdict, Fault> {
        self.envelope.skip()?;
        if self.envelope.timeout == Some(0) {
            return Err(deadline_exceeded());
        }
        let deadline = self.deadline();
        let dispatch = &mut *self.dispatch;
        let (pending, caller, text) = (&dispatch.context.pending, dispatch.caller, dispatch.text);
        let cost = Cost::parked(text.len(), dispatch.fds.len());
        let fds = &mut dispatch.fds;
        let id = pending.park(caller, self.envelope.id(), cost, || ParkedCall {
            text: text.to_vec(),
            fds: std::mem::take(fds),
            account: Arc::clone(caller.account),
            peer: caller.peer.cloned(),
            tag: caller.tag,
            deadline,
        });
        Ok(Verdict {
            pending: Arc::clone(pending),
            route: caller.route(),
            id: id.ok_or_else(no_room)?,
            decision: Decision::Refuse,
        })
    }
}

//! What is served at an endpoint: which peers, which methods, by whom.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;

use crate::describe::{DISCOVER, Describe, Discovery};
use crate::envelope::{self, Envelope};
use crate::error::{Fault, caught};
use crate::fds::Fds;
use crate::message::{RawError, RawMessage, Request};
use crate::observe::EventKind;
use crate::peer::Peer;
use crate::queue::Caller;
use crate::reply::Reply;
use crate::service::{Call, Handler, Incoming, ReplySink, ServerContext, Service, handle_bare};

/// One method: who carries it out, and as which number.
struct Route<S> {
    call: fn(&mut S, usize, Incoming<'_, '_>),
    index: usize,
    service: &'static str,
    method: &'static str,
}

/// A rule for peers.
type Admit = Box<dyn Fn(&Peer) -> bool + Send + Sync>;

/// A handler of bare messages.
type Bare<S> = fn(&mut S, &mut ServerContext, &mut dyn ReplySink, &Caller<'_>, &[u8], Fds);

/// A handler of calls whose method nothing else serves.
pub(crate) type Fallback<S> = fn(&mut S, &mut Call, &str, RawMessage, Reply<RawMessage, RawError>);

/// What an endpoint serves.
pub(crate) struct Routes<S> {
    /// Sorted by name, as [`order`] has it. The names are the program's own, so nobody can make the look-up slow, and
    /// comparing a few is faster than hashing one.
    methods: Vec<(String, Route<S>)>,
    fallback: Option<Fallback<S>>,
    bare: Option<Bare<S>>,
    admit: Option<Admit>,
    discovery: Discovery,
    /// Most descriptors in one message, if less than the server takes anyway.
    descriptors: usize,
    /// Whether the process of a peer is to be known.
    pidfds: bool,
}

impl<S> Default for Routes<S> {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            fallback: None,
            bare: None,
            admit: None,
            discovery: Discovery::default(),
            descriptors: usize::MAX,
            pidfds: false,
        }
    }
}

impl<S> fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.methods.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

impl<S> Routes<S> {
    /// Adds every method of a service. Says which name is taken already, and adds nothing then.
    pub(crate) fn add_service<T: Service<S> + ?Sized>(&mut self) -> Result<(), String> {
        let names = T::METHODS.iter().map(std::slice::from_ref);
        let usual = names.enumerate().filter(|_| T::NUMBERS.is_empty());
        let numbers = T::NUMBERS.iter().copied().chain(usual);
        self.add(T::NAME, numbers, T::call)?;
        self.discovery.add(T::DESCRIPTION);
        Ok(())
    }

    /// Adds every request of an enum, likewise.
    pub(crate) fn add_requests<R: Request + Describe>(&mut self) -> Result<(), String>
    where
        S: Handler<R>,
    {
        let numbers = R::METHODS.iter().map(std::slice::from_ref).enumerate();
        self.add(R::SERVICE, numbers, |state, index, incoming| {
            incoming.handle(index, |call, request, reply| {
                state.handle(call, request, reply);
            });
        })?;
        self.discovery.add(R::DESCRIPTION);
        Ok(())
    }

    /// Adds methods by their numbers and names. A call by any name is told to the handler by the first.
    fn add(
        &mut self,
        service: &'static str,
        numbers: impl Iterator<Item = (usize, &'static [&'static str])>,
        call: fn(&mut S, usize, Incoming<'_, '_>),
    ) -> Result<(), String> {
        let mut added = Vec::new();
        for (index, names) in numbers {
            let method = names.first().copied().unwrap_or_default();
            for name in names {
                let name = format!("{service}.{name}");
                let route = Route {
                    call,
                    index,
                    service,
                    method,
                };
                if self.route(&name).is_some() {
                    return Err(name);
                }
                added.push((name, route));
            }
        }
        added.sort_unstable_by(|(one, _), (other, _)| order(one, other));
        for pair in added.windows(2) {
            if let [(one, _), (other, _)] = pair {
                if one == other {
                    return Err(one.clone());
                }
            }
        }
        self.methods.append(&mut added);
        self.methods
            .sort_unstable_by(|(one, _), (other, _)| order(one, other));
        Ok(())
    }

    fn route(&self, name: &str) -> Option<&Route<S>> {
        let place = |(method, _): &(String, _)| order(method, name);
        let index = self.methods.binary_search_by(place).ok()?;
        self.methods.get(index).map(|(_, route)| route)
    }

    /// Has calls of other methods handled by this.
    pub(crate) fn set_fallback(&mut self, fallback: Fallback<S>) {
        self.fallback = Some(fallback);
    }

    /// Makes this a bare endpoint, whose every message is an `R`.
    pub(crate) fn set_bare<R: Request<Error = Infallible>>(&mut self)
    where
        S: Handler<R>,
    {
        self.bare = Some(|state, desk, lane, caller, text, fds| {
            handle_bare::<R>(desk, lane, caller, text, fds, |call, request, reply| {
                state.handle(call, request, reply);
            });
        });
    }

    /// Sets the rule for peers.
    pub(crate) fn set_admit(&mut self, admit: Admit) {
        self.admit = Some(admit);
    }

    /// Tells nobody what is served.
    pub(crate) fn turn_discovery_off(&mut self) {
        self.discovery.turn_off();
    }

    /// Takes no descriptors.
    pub(crate) fn refuse_descriptors(&mut self) {
        self.descriptors = 0;
    }

    /// Has the process of each peer known.
    pub(crate) fn ask_for_pidfds(&mut self) {
        self.pidfds = true;
    }

    /// Returns true if messages have no envelope here, so that answers are told apart by their order alone.
    pub(crate) fn is_bare(&self) -> bool {
        self.bare.is_some()
    }

    /// Says whether the process of a peer is to be known.
    pub(crate) fn asks_for_pidfds(&self) -> bool {
        self.pidfds
    }

    /// How many descriptors a message may bring at most.
    pub(crate) fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Says whether the rule admits this peer. Without a rule everybody is; with one, nobody whose
    /// identity is unknown, and nobody about whom it panics.
    pub(crate) fn admits(&self, peer: Option<&Peer>) -> bool {
        match &self.admit {
            None => true,
            Some(admit) => peer.is_some_and(|peer| caught(|| admit(peer)).unwrap_or(false)),
        }
    }

    /// Carries out what a peer sent, or refuses it.
    pub(crate) fn dispatch(
        &self,
        state: &mut S,
        desk: &mut ServerContext,
        lane: &mut dyn ReplySink,
        caller: &Caller<'_>,
        text: &[u8],
        fds: Fds,
    ) {
        if let Some(bare) = self.bare {
            if desk.stopping {
                return desk.note(EventKind::Ignored);
            }
            return bare(state, desk, lane, caller, text, fds);
        }
        let mut envelope = match Envelope::open(text, desk.mailbox.bounds().depth) {
            Ok(envelope) => envelope,
            Err(fault) => return self.refuse(desk, lane, text, &fault),
        };
        let mut incoming = Incoming {
            desk,
            lane,
            caller,
            text,
            envelope: &mut envelope,
            fds,
            service: "",
            method: "",
        };
        let method = incoming.envelope.method();
        match method.and_then(|method| self.route(method)) {
            Some(route) if !incoming.desk.stopping => {
                (incoming.service, incoming.method) = (route.service, route.method);
                (route.call)(state, route.index, incoming);
            }
            _ => self.dispatch_otherwise(state, incoming),
        }
    }

    /// Carries out what is no method of a service, or refuses it.
    #[inline(never)]
    fn dispatch_otherwise(&self, state: &mut S, mut incoming: Incoming<'_, '_>) {
        if incoming.envelope.is_answer() {
            return incoming.desk.note(EventKind::Ignored);
        }
        let Some(method) = incoming.envelope.method().map(str::to_owned) else {
            let fault = Fault::new(Fault::INVALID_REQUEST, "method is missing");
            return self.refuse(incoming.desk, incoming.lane, incoming.text, &fault);
        };
        if method == CANCEL {
            return cancel(incoming);
        }
        if incoming.desk.stopping {
            let fault = Fault::new(Fault::SHUTTING_DOWN, "the server is stopping");
            return incoming.refuse_unread(fault);
        }
        if method == DISCOVER && self.discovery.is_on() {
            (incoming.service, incoming.method) = ("rpc", "discover");
            return incoming.discover(&self.discovery);
        }
        match self.fallback {
            Some(handler) if !method.starts_with(RESERVED) => {
                incoming.pass(|call, params, reply| handler(state, call, &method, params, reply));
            }
            _ => {
                let name: String = method.escape_debug().take(128).collect();
                let fault = Fault::new(Fault::METHOD_NOT_FOUND, format!("unknown method {name}"));
                incoming.refuse_unread(fault);
            }
        }
    }

    /// Refuses a message that cannot be carried out, in the form its sender can read. What looks like an
    /// answer is never answered, so that two servers cannot talk to each other for ever.
    pub(crate) fn refuse(
        &self,
        desk: &mut ServerContext,
        lane: &mut dyn ReplySink,
        text: &[u8],
        fault: &Fault,
    ) {
        if self.bare.is_some() {
            return desk.note_refusal(fault.code);
        }
        if envelope::looks_like_answer(text) {
            return desk.note(EventKind::Ignored);
        }
        desk.refuse(lane, envelope::find_id(text).as_ref(), fault);
    }
}

/// The order of names to search in: by length first, which tells most apart.
fn order(one: &str, other: &str) -> Ordering {
    let lengths = one.len().cmp(&other.len());
    lengths.then_with(|| one.cmp(other))
}

/// How the names of methods begin that are the framework's own. No service's do; its macro sees to that.
const RESERVED: &str = "rpc.";

/// What a caller calls that no longer waits for the answer to another call.
pub(crate) const CANCEL: &str = "rpc.cancel";

/// Cancels a call of the same caller that is deferred, or whose answer is held back. It is answered, so that a caller that waits all the same
/// is told; a caller that does not drops the answer by its id. The wish to cancel is answered if it has an id itself.
fn cancel(mut incoming: Incoming<'_, '_>) {
    let depth = incoming.envelope.depth();
    let id = match incoming
        .envelope
        .decode(|text| envelope::front_id(text, depth))
    {
        Ok(Ok(id)) => id,
        Ok(Err(error)) => return incoming.refuse(&error.into()),
        Err(fault) => return incoming.refuse(&fault),
    };
    let desk = &mut *incoming.desk;
    if desk.mailbox.cancel(&incoming.caller.route(), &id) || incoming.lane.withdraw(&id) {
        desk.note(EventKind::Cancelled);
        let fault = Fault::new(Fault::CANCELLED, "cancelled");
        desk.refuse(incoming.lane, Some(&id), &fault);
    }
    incoming.confirm();
}

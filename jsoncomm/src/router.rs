//! What an endpoint serves: its methods, its handlers, and who may call.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::describe::{DISCOVER, Describe, Discovery};
use crate::envelope::{self, Envelope};
use crate::error::Fault;
use crate::message::{self, NoArguments, RawError, RawMessage, Request, Unpack};
use crate::observe::{EventKind, MethodCounts};
use crate::peer::{Peer, Rule, is_authorized};
use crate::reply::Reply;
use crate::service::{
    Call, CallRule, CallRules, Dispatch, Handler, Incoming, MethodReturn, Service, no_rules,
    shutting_down, split,
};

/// One method: the function that carries it out, and the number that the function knows it by.
struct Route<S> {
    call: fn(&mut S, usize, Incoming<'_, '_>),
    index: usize,
    service: &'static str,
    method: &'static str,
    tally: Tally,
}

/// What a method has done. Only the loop's thread changes it.
#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    faults: AtomicU64,
    /// In its handler, in nanoseconds.
    nanos: AtomicU64,
}

impl Tally {
    #[inline]
    fn add(counter: &AtomicU64, more: u64) {
        let sum = counter.load(Relaxed).wrapping_add(more);
        counter.store(sum, Relaxed);
    }
}

/// A handler of bare messages.
type BareHandler<S> = fn(&mut S, &mut Dispatch<'_>);

/// A handler of calls to methods that nothing else serves.
pub(crate) type Fallback<S> = fn(&mut S, &mut Call, &str, RawMessage, Reply<RawMessage, RawError>);

/// What an endpoint serves.
pub(crate) struct Routes<S> {
    /// Sorted by [`order`] of their names. A binary search compares few names and is faster than hashing one, and as the
    /// names are the program's own, no peer can make it slow.
    methods: Vec<(String, Route<S>)>,
    pub(crate) fallback: Option<Fallback<S>>,
    /// The handler of a bare endpoint, which gets every message.
    pub(crate) bare: Option<BareHandler<S>>,
    pub(crate) rule: Option<Rule>,
    /// The rules for methods.
    call_rules: Option<Box<dyn CallRules>>,
    pub(crate) discovery: Discovery,
    /// The most descriptors that a message may bring.
    pub(crate) descriptors: usize,
    /// A pidfd is requested for each peer.
    pub(crate) pidfds: bool,
    /// Connections in messages are taken whichever user they lead to.
    pub(crate) foreign_endpoints: bool,
    /// What the program calls the endpoint.
    pub(crate) name: Option<Box<str>>,
}

impl<S> Default for Routes<S> {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            fallback: None,
            bare: None,
            rule: None,
            call_rules: None,
            discovery: Discovery::default(),
            descriptors: usize::MAX,
            pidfds: false,
            foreign_endpoints: false,
            name: None,
        }
    }
}

impl<S> Routes<S> {
    /// Adds every method of a service. If a name is taken already, returns it and adds nothing.
    pub(crate) fn add_service<T: Service<S> + ?Sized>(&mut self) -> Result<(), String> {
        let names = T::METHODS.iter().map(std::slice::from_ref);
        let usual = names.enumerate().filter(|_| T::NUMBERS.is_empty());
        let numbers = T::NUMBERS.iter().copied().chain(usual);
        self.add(T::NAME, numbers, T::call)?;
        self.discovery.add(T::DESCRIPTION);
        Ok(())
    }

    /// Adds every request of an enum. If a name is taken already, returns it and adds nothing.
    pub(crate) fn add_requests<R: Request + Describe>(&mut self) -> Result<(), String>
    where
        S: Handler<R>,
    {
        let numbers = R::METHODS.iter().map(std::slice::from_ref).enumerate();
        self.add(R::SERVICE, numbers, |state, index, incoming| {
            incoming.hand_over(
                |params, fds| message::decode_params(index, params, fds),
                |call, request, reply| state.handle(call, request, reply),
            );
        })?;
        self.discovery.add(R::DESCRIPTION);
        Ok(())
    }

    /// Adds methods by their numbers and names. The handler is told the first name, whichever was called.
    fn add(
        &mut self,
        service: &'static str,
        numbers: impl Iterator<Item = (usize, &'static [&'static str])>,
        call: fn(&mut S, usize, Incoming<'_, '_>),
    ) -> Result<(), String> {
        for (index, names) in numbers {
            let method = names.first().copied().unwrap_or_default();
            for name in names {
                let name = format!("{service}.{name}");
                let Err(place) = self.find(&name) else {
                    return Err(name);
                };
                let route = Route {
                    call,
                    index,
                    service,
                    method,
                    tally: Tally::default(),
                };
                self.methods.insert(place, (name, route));
            }
        }
        Ok(())
    }

    /// Returns the names of the services, each once.
    pub(crate) fn services(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .methods
            .iter()
            .map(|(_, route)| route.service)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Adds what each method has done, under the name that the service has for it.
    pub(crate) fn add_counts(&self, to: &mut BTreeMap<(&'static str, &'static str), MethodCounts>) {
        for (_, route) in &self.methods {
            let names = (route.service, route.method);
            let counts = to.entry(names).or_insert_with(|| MethodCounts::new(names));
            let Tally {
                calls,
                faults,
                nanos,
            } = &route.tally;
            counts.calls += calls.load(Relaxed);
            counts.faults += faults.load(Relaxed);
            counts.time += Duration::from_nanos(nanos.load(Relaxed));
        }
    }

    fn route(&self, name: &str) -> Option<&Route<S>> {
        let index = self.find(name).ok()?;
        self.methods.get(index).map(|(_, route)| route)
    }

    /// Returns the method's place, or the one where it would be inserted.
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.methods
            .binary_search_by(|(method, _)| order(method, name))
    }

    /// Returns true if messages have no envelope here. Their replies are matched by order alone.
    pub(crate) fn is_bare(&self) -> bool {
        self.bare.is_some()
    }

    /// Returns true if the peer may call.
    pub(crate) fn authorizes(&self, peer: Option<&Peer>) -> bool {
        is_authorized(self.rule.as_ref(), peer)
    }

    /// Sets the rule for each method that has none of its own.
    pub(crate) fn set_rule_for_all(&mut self, rule: CallRule) {
        self.call_rules().set(None, rule);
    }

    /// Sets the rule of the method with this name, which may be an older one. Returns false if the method is unknown.
    pub(crate) fn set_rule(&mut self, name: &str, rule: CallRule) -> bool {
        let route = self.route(name);
        let name = match route.map(|route| (route.service, route.method)) {
            Some((service, method)) => format!("{service}.{method}"),
            None if name == DISCOVER || self.reaches_fallback(name) => name.to_owned(),
            None => return false,
        };
        self.call_rules().set(Some(name), rule);
        true
    }

    /// The rules for methods, which are about to be changed.
    fn call_rules(&mut self) -> &mut dyn CallRules {
        &mut **self.call_rules.get_or_insert_with(no_rules)
    }

    /// Returns true if there are rules for methods.
    pub(crate) fn has_call_rules(&self) -> bool {
        self.call_rules.is_some()
    }

    /// Returns true if there is a rule for the method.
    fn restricts(&self, service: &str, method: &str) -> bool {
        let rules = self.call_rules.as_ref();
        rules.is_some_and(|rules| rules.cover((service, method)))
    }

    /// Returns true if the rules for methods let a call to a known method be handled. If not, it has been refused or parked.
    #[inline(never)]
    fn admits(&self, incoming: &mut Incoming<'_, '_>) -> bool {
        self.admits_as((incoming.service, incoming.method), incoming)
    }

    /// Decides as [`admits`](Self::admits) about a method of this name. A call that was parked is not asked about again.
    fn admits_as(&self, names: (&str, &str), incoming: &mut Incoming<'_, '_>) -> bool {
        match &self.call_rules {
            Some(rules) if incoming.dispatch.parked.is_none() => rules.admit(names, incoming),
            _ => true,
        }
    }

    /// Returns true if the fallback handles calls to a method that nothing else serves.
    fn reaches_fallback(&self, name: &str) -> bool {
        self.fallback.is_some() && !name.starts_with(RESERVED)
    }

    /// Dispatches a message to its handler, or refuses it.
    pub(crate) fn dispatch(&self, state: &mut S, dispatch: &mut Dispatch<'_>) {
        if let Some(handler) = self.bare {
            if dispatch.context.stopping {
                return dispatch.note(EventKind::Ignored);
            }
            return handler(state, dispatch);
        }
        let depth = dispatch.context.pending.bounds.depth;
        let mut envelope = match Envelope::open(dispatch.text, depth) {
            Ok(envelope) => envelope,
            Err(fault) => return dispatch.refuse(None, &fault),
        };
        let refused = dispatch.context.counts.refused;
        let mut incoming = Incoming {
            dispatch: &mut *dispatch,
            envelope: &mut envelope,
            service: "",
            method: "",
            decoded: false,
            replied: false,
        };
        let method = incoming.envelope.method();
        match method.and_then(|method| self.route(method)) {
            Some(route) if !incoming.dispatch.context.stopping => {
                (incoming.service, incoming.method) = (route.service, route.method);
                if self.call_rules.is_none() || self.admits(&mut incoming) {
                    (route.call)(state, route.index, incoming);
                    Tally::add(&route.tally.calls, 1);
                }
                let context = &mut *dispatch.context;
                if context.counts.refused != refused {
                    Tally::add(&route.tally.faults, 1);
                }
                if let Some(time) = &mut context.handler_time {
                    Tally::add(&route.tally.nanos, std::mem::take(time));
                }
            }
            _ => self.dispatch_other(state, incoming),
        }
    }

    /// Dispatches a message that calls no method of a service, or any message while the server shuts down.
    #[inline(never)]
    fn dispatch_other(&self, state: &mut S, mut incoming: Incoming<'_, '_>) {
        if incoming.envelope.is_response() {
            return incoming.dispatch.note(EventKind::Ignored);
        }
        let Some(method) = incoming.envelope.method().map(str::to_owned) else {
            return incoming.refuse(&Fault::new(Fault::INVALID_REQUEST, "method is missing"));
        };
        if method == CANCEL {
            return cancel(incoming);
        }
        if incoming.dispatch.context.stopping {
            return incoming.refuse_unread(shutting_down());
        }
        if method == DISCOVER && self.discovery.is_on() {
            (incoming.service, incoming.method) = ("rpc", "discover");
            if !self.admits(&mut incoming) {
                return;
            }
            let document = |()| {
                RawMessage::new(
                    self.discovery
                        .text(&|service, method| self.restricts(service, method)),
                )
            };
            return MethodReturn::answer::<NoArguments>(incoming, document);
        }
        match self.fallback {
            Some(handler) if self.reaches_fallback(&method) => {
                if !self.admits_as(split(&method), &mut incoming) {
                    return;
                }
                incoming.hand_over(RawMessage::front, |call, params, reply| {
                    handler(state, call, &method, params, reply);
                });
            }
            _ => {
                let name: String = method.escape_debug().take(128).collect();
                let fault = Fault::new(Fault::METHOD_NOT_FOUND, format!("unknown method {name}"));
                incoming.refuse_unread(fault);
            }
        }
    }
}

/// The order in which names are searched: by length first, which distinguishes most of them.
fn order(one: &str, other: &str) -> Ordering {
    let lengths = one.len().cmp(&other.len());
    lengths.then_with(|| one.cmp(other))
}

/// The prefix of the framework's own methods. The service macro lets no service use it.
const RESERVED: &str = "rpc.";

/// The method that cancels a call.
pub(crate) const CANCEL: &str = "rpc.cancel";

/// Cancels a call of the same caller that is deferred, or whose reply waits until descriptors are read.
///
/// The cancelled call is replied to with a fault, so that a caller that waits for it all the same is told; other callers
/// drop it by its id. The cancellation itself is replied to if it has an id.
fn cancel(mut incoming: Incoming<'_, '_>) {
    let depth = incoming.envelope.depth();
    let params = incoming
        .envelope
        .decode(|text| envelope::front_id(text, depth));
    let id = match params.and_then(|id| id.map_err(Fault::from)) {
        Ok(id) => id,
        Err(fault) => return incoming.refuse(&fault),
    };
    let dispatch = &mut *incoming.dispatch;
    let route = dispatch.caller.route();
    if dispatch.context.pending.cancel(&route, &id) || dispatch.sink.withdraw(&id) {
        dispatch.note(EventKind::Cancelled);
        dispatch.send_fault(Some(&id), &Fault::new(Fault::CANCELLED, "cancelled"));
    }
    incoming.send(&(), None);
}

//! What changes between two documents mean for programs that were built with one and talk to the other.

use std::fmt;

use super::document::{Document, Failure, Method};
use super::relation::{Relation, Role, is_any, kinds, ranges, variants_of};
use super::types::{Member, Type};
use crate::fds::FdKind;

/// A difference between two documents, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// A method, and what of it: `example.files.open(path)` is an argument, `example.files.open -> len` a member of the result.
    pub place: String,
    /// What has changed, for people.
    pub what: String,
    /// What happens to a client of the old document that calls a server of the new one.
    pub clients: Verdict,
    /// What happens to a server of the old document that a client of the new one calls.
    pub servers: Verdict,
}

/// What a change means for one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing.
    Works,
    /// Calls that use what is new fail.
    FailsIfUsed,
    /// Calls fail that both documents have.
    Breaks,
}

use Verdict::{Breaks, FailsIfUsed, Works};

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Works => "works",
            FailsIfUsed => "fails if used",
            Breaks => "breaks",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            what,
            clients,
            servers,
        } = self;
        write!(
            f,
            "{place}: {what} (old clients: {clients}, old servers: {servers})"
        )
    }
}

/// Compares two documents of the same services. Returns the changes in the order of the old document, then what is new.
///
/// It judges what the types of a document say, as the programs of this library read and write them: arguments strictly, members of
/// structs inside them leniently. Documentation, versions and rules for callers are no changes. Where a document is silent, as
/// about the default of a member in a reply, it assumes the worse.
///
/// # Examples
///
/// ```
/// use jsoncomm::describe::Describe;
/// use jsoncomm::openrpc::{Document, Verdict, compare};
///
/// mod yesterday {
///     #[jsoncomm::service(name = "example.clock")]
///     pub trait Clock { fn now(&mut self) -> u64; }
/// }
///
/// #[jsoncomm::service(name = "example.clock")]
/// pub trait Clock {
///     fn now(&mut self, zone: Option<String>) -> u64;
/// }
///
/// let old = Document::parse(&<dyn yesterday::Clock as Describe>::DESCRIPTION.open_rpc())?;
/// let new = Document::parse(&<dyn Clock as Describe>::DESCRIPTION.open_rpc())?;
/// let [change] = &compare(&old, &new)[..] else { panic!() };
/// assert_eq!(change.place, "example.clock.now(zone)");
/// assert_eq!((change.clients, change.servers), (Verdict::Works, Verdict::FailsIfUsed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn compare(old: &Document, new: &Document) -> Vec<Change> {
    let mut comparison = Comparison {
        old,
        new,
        seen: Vec::new(),
        place: String::new(),
        depth: 0,
        changes: Vec::new(),
    };
    comparison.documents();
    comparison.changes
}

/// The deepest nesting of types that is compared.
const DEPTH_MAX: usize = 64;

struct Comparison<'d> {
    old: &'d Document,
    new: &'d Document,
    /// The pairs of named types that have been compared.
    seen: Vec<(&'d str, &'d str, Role)>,
    /// Where the comparison is.
    place: String,
    /// How many types it is in.
    depth: usize,
    changes: Vec<Change>,
}

impl<'d> Comparison<'d> {
    fn note(&mut self, what: impl Into<String>, clients: Verdict, servers: Verdict) {
        self.changes.push(Change {
            place: self.place.clone(),
            what: what.into(),
            clients,
            servers,
        });
    }

    /// Notes that a type has other values.
    fn note_values(&mut self, role: Role, relation: Relation, what: String) {
        let (clients, servers) = match (role, relation) {
            (Role::Argument, Relation::Wider) => (Works, FailsIfUsed),
            (Role::Argument, Relation::Narrower) => (Breaks, Works),
            (Role::Reply, Relation::Wider) => (Breaks, Works),
            (Role::Reply, Relation::Narrower) => (Works, Breaks),
            (_, Relation::Other) => (Breaks, Breaks),
        };
        self.note(what, clients, servers);
    }

    /// Compares what is inside a place.
    fn within(&mut self, more: &str, compare: impl FnOnce(&mut Self)) {
        let length = self.place.len();
        self.place.push_str(more);
        compare(self);
        self.place.truncate(length);
    }

    fn documents(&mut self) {
        let (old, new) = (self.old, self.new);
        for method in &old.methods {
            let same = new.methods.iter().find(|other| other.name == method.name);
            let renamed = || {
                let mut all = new.methods.iter();
                all.find(|other| other.aliases.contains(&method.name))
            };
            self.within(&method.name, |it| match same.or_else(renamed) {
                Some(other) => it.method(method, other),
                None => it.note("the method is gone", Breaks, Works),
            });
        }
        let known = |name: &String| old.methods.iter().any(|method| method.name == *name);
        for method in &new.methods {
            if !known(&method.name) && !method.aliases.iter().any(known) {
                self.within(&method.name, |it| {
                    it.note("a new method", Works, FailsIfUsed)
                });
            }
        }
    }

    fn method(&mut self, old: &'d Method, new: &'d Method) {
        if old.name != new.name {
            // New clients call it by its new name only.
            let servers = if old.aliases.contains(&new.name) {
                Works
            } else {
                Breaks
            };
            self.note(format!("is called {} now", new.name), Works, servers);
        }
        for alias in &old.aliases {
            if *alias != new.name && !new.aliases.contains(alias) {
                self.note(
                    format!("is no longer called {alias} as well"),
                    Breaks,
                    Works,
                );
            }
        }
        for alias in &new.aliases {
            if *alias != old.name && !old.aliases.contains(alias) {
                self.note(format!("is called {alias} as well"), Works, Works);
            }
        }
        if new.deprecated && !old.deprecated {
            self.note("is deprecated", Works, Works);
        }
        self.within("(", |it| {
            it.members(&old.params, &new.params, Role::Argument, true)
        });
        match (&old.result, &new.result) {
            (None, None) => {}
            // A server replies with null where a reply to a one-way call is asked for.
            (Some(result), None) => {
                let clients = may_be_null(self.old, result);
                self.note("has no reply any more", clients, Works);
            }
            (None, Some(result)) => {
                let servers = may_be_null(self.new, result);
                self.note("has a reply now", Works, servers);
            }
            (Some(result), Some(other)) => {
                // A reply without `more` is a stream of one item to those who expect a stream.
                match (old.stream, new.stream) {
                    (true, false) => self.note("a stream became a single reply", Works, Breaks),
                    (false, true) => self.note("a single reply became a stream", Breaks, Works),
                    _ => {}
                }
                self.within(" -> ", |it| it.types(result, other, Role::Reply));
            }
        }
        self.errors(old, new);
    }

    fn errors(&mut self, old: &'d Method, new: &'d Method) {
        for error in &old.errors {
            let found = new.errors.iter().find(|other| other.name == error.name);
            self.within(&format!(": {}", error.name), |it| match found {
                Some(other) => it.error(error, other),
                None if new.open_errors => it.note("the error is gone", Works, Works),
                None => it.note("the error is gone", Works, Breaks),
            });
        }
        for error in &new.errors {
            if !old.errors.iter().any(|other| other.name == error.name) {
                let clients = if old.open_errors { Works } else { Breaks };
                let place = format!(": {}", error.name);
                self.within(&place, |it| it.note("a new error", clients, Works));
            }
        }
    }

    fn error(&mut self, old: &'d Failure, new: &'d Failure) {
        if old.code != new.code {
            let what = format!("its code {} became {}", old.code, new.code);
            self.note(what, Breaks, Breaks);
        }
        self.types(&old.data, &new.data, Role::Reply);
    }

    /// Compares parameters, if `strict`, or members of an object.
    fn members(&mut self, old: &'d [Member], new: &'d [Member], role: Role, strict: bool) {
        let end = if strict { ")" } else { "" };
        for member in old {
            let same = new.iter().find(|other| other.name == member.name);
            let renamed = || {
                new.iter()
                    .find(|other| other.aliases.contains(&member.name))
            };
            let place = format!("{}{end}", member.name);
            self.within(&place, |it| match (same, same.or_else(renamed)) {
                (Some(other), _) => {
                    it.presence(member, other, role);
                    it.types(&member.ty, &other.ty, role);
                }
                (None, Some(other)) => {
                    let what = format!("is called {} now", other.name);
                    let (clients, servers) = match role {
                        // The new server reads the old name.
                        Role::Argument if strict || member.always => (Works, Breaks),
                        Role::Argument => (Works, Works),
                        Role::Reply => (it.missing_in_reply(it.old, member), Works),
                    };
                    it.note(what, clients, servers);
                    it.types(&member.ty, &other.ty, role);
                }
                (None, None) => {
                    let (clients, servers) = match role {
                        Role::Argument => (
                            if strict { Breaks } else { Works },
                            if member.always { Breaks } else { Works },
                        ),
                        Role::Reply => (it.missing_in_reply(it.old, member), Works),
                    };
                    it.note("is gone", clients, servers);
                }
            });
        }
        for member in new {
            let known = |name: &String| old.iter().any(|other| other.name == *name);
            if known(&member.name) || member.aliases.iter().any(known) {
                continue;
            }
            let (clients, servers) = match (role, member.always) {
                (Role::Argument, true) => (Breaks, if strict { Breaks } else { Works }),
                (Role::Argument, false) => (Works, if strict { FailsIfUsed } else { Works }),
                (Role::Reply, _) => (Works, self.missing_in_reply(self.new, member)),
            };
            let what = match (role, member.always) {
                (Role::Reply, _) => "is new",
                (Role::Argument, true) => "is new, and must be given",
                (Role::Argument, false) => "is new, and may be left out",
            };
            let place = format!("{}{end}", member.name);
            self.within(&place, |it| it.note(what, clients, servers));
        }
    }

    /// Returns what happens to a client that knows a member of a reply which the server does not send.
    fn missing_in_reply(&self, document: &Document, member: &Member) -> Verdict {
        if member.always {
            may_be_null(document, &member.ty)
        } else {
            Works
        }
    }

    fn presence(&mut self, old: &Member, new: &Member, role: Role) {
        match (role, old.always, new.always) {
            (_, true, true) | (_, false, false) => {}
            (Role::Argument, true, false) => {
                self.note("may be left out now", Works, FailsIfUsed);
            }
            (Role::Argument, false, true) => self.note("must be given now", Breaks, Works),
            (Role::Reply, true, false) => {
                let clients = self.missing_in_reply(self.old, old);
                self.note("may be absent now", clients, Works);
            }
            (Role::Reply, false, true) => {
                let servers = self.missing_in_reply(self.new, new);
                self.note("is always there now", Works, servers);
            }
        }
    }

    fn types(&mut self, old: &'d Type, new: &'d Type, role: Role) {
        if let (Type::Named(one), Type::Named(other)) = (old, new) {
            let pair = (one.as_str(), other.as_str(), role);
            if self.seen.contains(&pair) {
                return;
            }
            self.seen.push(pair);
        }
        match (self.old.meaning(old), self.new.meaning(new)) {
            // Types that contain themselves in different ways have no end.
            (Some(_), Some(_)) if self.depth > DEPTH_MAX => {
                let what = format!("{old} became {new}, nested too deeply to be compared");
                self.note_values(role, Relation::Other, what);
            }
            (Some(old), Some(new)) => {
                self.depth += 1;
                self.meanings(old, new, role);
                self.depth -= 1;
            }
            // Both refer to nothing.
            (None, None) => {}
            _ => self.note_values(role, Relation::Other, format!("{old} became {new}")),
        }
    }

    fn meanings(&mut self, old: &'d Type, new: &'d Type, role: Role) {
        match (old, new) {
            (Type::Nullable(old), Type::Nullable(new)) => self.types(old, new, role),
            (Type::Null, Type::Nullable(_)) | (Type::Nullable(_), Type::Null) => {
                self.other_type(old, new, role);
            }
            (old, Type::Nullable(new)) => {
                self.note_values(role, Relation::Wider, "may be null now".to_owned());
                self.types(old, new, role);
            }
            (Type::Nullable(old), new) => {
                self.note_values(
                    role,
                    Relation::Narrower,
                    "is never null any more".to_owned(),
                );
                self.types(old, new, role);
            }
            (Type::List(old, length), Type::List(new, other)) => {
                self.lengths(*length, *other, role);
                self.within("[]", |it| it.types(old, new, role));
            }
            (Type::Tuple(old), Type::Tuple(new)) if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    self.within(&format!("[{index}]"), |it| it.types(old, new, role));
                }
            }
            (Type::Map(old), Type::Map(new)) => {
                self.within("{}", |it| it.types(old, new, role));
            }
            (Type::Object(one), Type::Object(other)) => {
                let dot = if self.place.ends_with(' ') { "" } else { "." };
                self.within(dot, |it| it.members(one, other, role, false));
            }
            (Type::OneOf(_) | Type::Word(_), _) | (_, Type::OneOf(_) | Type::Word(_)) => {
                self.variants(old, new, role);
            }
            _ => self.other_type(old, new, role),
        }
    }

    fn lengths(&mut self, old: Option<i128>, new: Option<i128>, role: Role) {
        let (relation, what) = match (old, new) {
            (None, Some(new)) => (Relation::Narrower, format!("has {new} elements now")),
            (Some(old), None) => (
                Relation::Wider,
                format!("had {old} elements, and has any number now"),
            ),
            (Some(one), Some(other)) if one != other => (
                Relation::Other,
                format!("its {one} elements became {other}"),
            ),
            _ => return,
        };
        self.note_values(role, relation, what);
    }

    /// Compares types without types inside.
    fn other_type(&mut self, old: &Type, new: &Type, role: Role) {
        let relation = match (old, new) {
            (Type::Any(one), Type::Any(other)) if one == other => return,
            // What only its program knows.
            (Type::Any(rust), _) | (_, Type::Any(rust)) if !is_any(rust) => Relation::Other,
            (Type::Any(_), _) => Relation::Narrower,
            (_, Type::Any(_)) => Relation::Wider,
            // A whole number is written with a fraction, as 1.0, which is no integer.
            (Type::Integer { .. }, Type::Number) if role == Role::Argument => {
                return self.note(format!("{old} became {new}"), Works, Breaks);
            }
            (Type::Integer { .. }, Type::Number) => Relation::Wider,
            (Type::Number, Type::Integer { .. }) => Relation::Narrower,
            (
                Type::Integer { least, most },
                Type::Integer {
                    least: new_least,
                    most: new_most,
                },
            ) => {
                let bounds = [(*least, *most), (*new_least, *new_most)];
                let [old, new] = bounds
                    .map(|(least, most)| (least.unwrap_or(i128::MIN), most.unwrap_or(i128::MAX)));
                let Some(relation) = ranges(old, new) else {
                    return;
                };
                let text = |(least, most): (i128, i128)| format!("{least} to {most}");
                let what = format!(
                    "an integer from {} became one from {}",
                    text(old),
                    text(new)
                );
                return self.note_values(role, relation, what);
            }
            (Type::Descriptor(one), Type::Descriptor(other)) => match kinds(*one, *other) {
                Some(relation) => relation,
                None => return,
            },
            (Type::Descriptor(FdKind::ANY), Type::Endpoint(_)) => Relation::Narrower,
            (Type::Endpoint(_), Type::Descriptor(FdKind::ANY)) => Relation::Wider,
            (Type::Endpoint(one), Type::Endpoint(other)) => match (&**one, &**other) {
                (one, other) if one == other => return,
                ("", _) => Relation::Narrower,
                (_, "") => Relation::Wider,
                _ => Relation::Other,
            },
            (one, other) if one == other => return,
            _ => Relation::Other,
        };
        self.note_values(role, relation, format!("{old} became {new}"));
    }

    /// Compares enums, of which one may have a single variant.
    fn variants(&mut self, old: &'d Type, new: &'d Type, role: Role) {
        let (all_old, all_new) = (variants_of(self.old, old), variants_of(self.new, new));
        let words =
            |all: &[(Option<&str>, &Type)]| all.iter().all(|(_, ty)| matches!(ty, Type::Word(_)));
        match (old, new) {
            (Type::Text, _) if words(&all_new) => {
                return self.note_values(role, Relation::Narrower, format!("string became {new}"));
            }
            (_, Type::Text) if words(&all_old) => {
                return self.note_values(role, Relation::Wider, format!("{old} became string"));
            }
            _ => {}
        }
        // A variant for all that are not known.
        let takes_any =
            |all: &[(Option<&str>, &Type)]| all.iter().any(|(_, ty)| matches!(ty, Type::Any(_)));
        let find = |all: &[(Option<&'d str>, &'d Type)], one: &(Option<&str>, &Type)| {
            let same = |(key, ty): &&(Option<&'d str>, &'d Type)| match (key, one.0) {
                (Some(key), Some(other)) => *key == other,
                (None, None) => *ty == one.1,
                _ => false,
            };
            all.iter().find(same).map(|(_, ty)| *ty)
        };
        // In a reply that is what clients do, and no value that a server sends.
        let is_value = |one: &&(Option<&str>, &Type)| {
            role == Role::Argument || !matches!(one.1, Type::Any(rust) if rust.is_empty())
        };
        for one in all_old.iter().filter(is_value) {
            let name = one.0.map_or_else(|| one.1.to_string(), str::to_owned);
            match find(&all_new, one) {
                Some(other) => {
                    self.within(&format!("::{name}"), |it| it.variant(one.1, other, role))
                }
                None if role == Role::Reply && takes_any(&all_new) => {
                    self.note(format!("the variant {name} is gone"), Works, Works);
                }
                None => {
                    let what = format!("the variant {name} is gone");
                    self.note_values(role, Relation::Narrower, what);
                }
            }
        }
        for one in all_new.iter().filter(is_value) {
            if find(&all_old, one).is_none() {
                let name = one.0.map_or_else(|| one.1.to_string(), str::to_owned);
                let what = format!("a new variant {name}");
                if role == Role::Reply && takes_any(&all_old) {
                    self.note(what, Works, Works);
                } else {
                    self.note_values(role, Relation::Wider, what);
                }
            }
        }
    }

    /// Compares the contents of a variant.
    fn variant(&mut self, old: &'d Type, new: &'d Type, role: Role) {
        match (old, new) {
            (Type::Word(_), Type::Word(_)) | (Type::Any(_), Type::Any(_)) => {}
            // One without a name, which was found because it is the same.
            (one, other) if one == other => {}
            (Type::Object(one), Type::Object(other)) => {
                if let ([one], [other]) = (&one[..], &other[..]) {
                    return self.types(&one.ty, &other.ty, role);
                }
                self.within(".", |it| it.members(one, other, role, false));
            }
            _ => self.note_values(role, Relation::Other, format!("{old} became {new}")),
        }
    }
}

/// Returns what happens to who expects a type and gets null.
fn may_be_null(document: &Document, ty: &Type) -> Verdict {
    match document.meaning(ty) {
        Some(Type::Null | Type::Nullable(_)) => Works,
        _ => Breaks,
    }
}

//! Generated code triggers no lint, also where a program forbids it.

use std::fs::File;

use jsoncomm::Kind;
use jsoncomm::message::{Packer, encode};
use jsoncomm::server::Service;
use jsoncomm_tests::Running;

mod forbidden {
    #![forbid(
        clippy::all,
        clippy::pedantic,
        reason = "groups, of which a single lint could be allowed"
    )]
    #![forbid(
        absolute_paths_not_starting_with_crate,
        dead_code,
        deprecated,
        elided_lifetimes_in_paths,
        explicit_outlives_requirements,
        keyword_idents_2024,
        let_underscore_drop,
        meta_variable_misuse,
        missing_debug_implementations,
        missing_docs,
        non_camel_case_types,
        non_local_definitions,
        non_snake_case,
        non_upper_case_globals,
        noop_method_call,
        path_statements,
        private_bounds,
        private_interfaces,
        redundant_lifetimes,
        redundant_semicolons,
        single_use_lifetimes,
        suspicious_double_ref_op,
        trivial_bounds,
        trivial_casts,
        trivial_numeric_casts,
        unconditional_recursion,
        unit_bindings,
        unreachable_code,
        unreachable_patterns,
        unreachable_pub,
        unsafe_code,
        unused_allocation,
        unused_assignments,
        unused_attributes,
        unused_braces,
        unused_extern_crates,
        unused_import_braces,
        unused_imports,
        unused_lifetimes,
        unused_macros,
        unused_must_use,
        unused_mut,
        unused_parens,
        unused_qualifications,
        unused_results,
        unused_variables,
        useless_deprecated,
        variant_size_differences,
        clippy::absolute_paths,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::missing_errors_doc,
        clippy::missing_inline_in_public_items,
        clippy::new_ret_no_self,
        clippy::should_implement_trait,
        clippy::too_many_arguments,
        clippy::unwrap_used,
        clippy::wildcard_imports,
        clippy::wrong_self_convention,
        reason = "each alone"
    )]

    use jsoncomm::{Call, Deferred, Message, Stream};
    use std::fmt::{self, Debug, Display, Formatter};
    use std::os::fd::OwnedFd;
    use std::path::Path;

    #[derive(Debug, Message)]
    #[serde(tag = "kind", content = "of", deny_unknown_fields)]
    pub(crate) enum Entry {
        File {
            name: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            size: Option<u64>,
        },
        Folder(Vec<Entry>),
    }

    #[derive(Message)]
    pub(crate) struct Opened<'a, T> {
        #[fd]
        pub(crate) file: OwnedFd,
        #[sensitive]
        pub(crate) word: &'a str,
        pub(crate) of: T,
    }

    #[derive(Debug, Message)]
    pub(crate) struct Refused;

    impl Display for Refused {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            f.write_str("refused")
        }
    }

    #[derive(Debug, Message)]
    #[message(service = "example.ask", reply = Entry, error = Refused)]
    pub(crate) enum Ask {
        Run { program: String },
    }

    /// A public trait whose stub may be unused.
    #[jsoncomm::service(name = "example.forbidden")]
    pub(crate) trait Forbidden {
        fn open(&mut self, path: &str, entries: &[Entry]) -> Result<u8, Refused>;
        fn put(&mut self, call: &mut Call, #[fd] file: OwnedFd, #[fd] all: Vec<OwnedFd>) -> u64;
        fn later(&mut self, call: &mut Call, #[sensitive] path: &Path) -> Deferred<Entry, Refused>;
        fn follow(&mut self, call: &mut Call, from: Option<&str>) -> Stream<u8>;
        #[oneway]
        fn log(&mut self, line: String);
        fn count(&self, #[serde(default)] from: u32) -> u64;
    }
}

/// Code that violates lints.
mod allowed {
    use jsoncomm::Message;

    #[deprecated = "it is old"]
    #[derive(Debug)]
    pub(crate) struct Old;

    #[allow(deprecated, reason = "of what is still sent")]
    mod of_old {
        impl serde::Serialize for super::Old {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_unit()
            }
        }

        impl<'de> serde::Deserialize<'de> for super::Old {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                <()>::deserialize(from).map(|()| Self)
            }
        }
    }

    #[derive(Message)]
    pub(crate) struct OnField {
        #[expect(deprecated, reason = "it is still sent")]
        pub(crate) old: Old,
    }

    #[jsoncomm::service(name = "example.allowed")]
    pub(crate) trait OnMethod {
        #[cfg_attr(unix, expect(deprecated, reason = "it is still sent"))]
        fn take(&mut self, old: &Old) -> u8;
    }

    #[jsoncomm::service(name = "example.allowed")]
    #[expect(deprecated, reason = "it is still sent")]
    pub(crate) trait OnTrait {
        fn take(&mut self, old: &[Old]) -> u8;
    }
}

struct Daemon;

impl forbidden::Forbidden for Daemon {
    fn open(&mut self, path: &str, entries: &[forbidden::Entry]) -> Result<u8, forbidden::Refused> {
        let length = path.len() + entries.len();
        length.try_into().map_err(|_| forbidden::Refused)
    }

    fn put(
        &mut self,
        _: &mut jsoncomm::Call,
        _: std::os::fd::OwnedFd,
        all: Vec<std::os::fd::OwnedFd>,
    ) -> u64 {
        all.len() as u64
    }

    fn later(
        &mut self,
        call: &mut jsoncomm::Call,
        path: &std::path::Path,
    ) -> jsoncomm::Deferred<forbidden::Entry, forbidden::Refused> {
        let name = path.display().to_string();
        call.defer(|reply| reply.send(forbidden::Entry::File { name, size: None }))
    }

    fn follow(&mut self, call: &mut jsoncomm::Call, _: Option<&str>) -> jsoncomm::Stream<u8> {
        call.stream(drop)
    }

    fn log(&mut self, _: String) {}

    fn count(&self, from: u32) -> u64 {
        from.into()
    }
}

#[test]
fn a_program_may_forbid_every_lint() {
    let server = Running::start(Kind::Seqpacket, Daemon, |endpoint| {
        endpoint.serve::<dyn forbidden::Forbidden>()
    });
    let client = forbidden::ForbiddenClient::new(server.connect());
    assert_eq!(
        client
            .open("abc", &[forbidden::Entry::Folder(vec![])])
            .unwrap(),
        4
    );
    let later = client.later(std::path::Path::new("/a")).unwrap();
    assert!(matches!(later, forbidden::Entry::File { name, .. } if name == "/a"));
    let opened = forbidden::Opened {
        file: File::open("/dev/null").unwrap().into(),
        word: "secret",
        of: 1,
    };
    assert!(format!("{opened:?}").contains("<sensitive>"));
    let forbidden::Ask::Run { program } = forbidden::Ask::Run {
        program: "ls".into(),
    };
    assert_eq!(program, "ls");
}

#[test]
#[expect(deprecated, reason = "it is still sent")]
fn lints_allowed_by_the_user_are_allowed_in_generated_code() {
    struct Nothing;
    impl allowed::OnMethod for Nothing {
        fn take(&mut self, _: &allowed::Old) -> u8 {
            0
        }
    }
    impl allowed::OnTrait for Nothing {
        fn take(&mut self, _: &[allowed::Old]) -> u8 {
            0
        }
    }
    for names in [
        <dyn allowed::OnMethod as Service<Nothing>>::METHODS,
        <dyn allowed::OnTrait as Service<Nothing>>::METHODS,
    ] {
        assert_eq!(names, ["take"]);
    }
    let mut text = Vec::new();
    let old = allowed::OnField { old: allowed::Old };
    encode(&old, &mut text, &Packer::new()).unwrap();
    assert_eq!(text, br#"{"old":null}"#);
}

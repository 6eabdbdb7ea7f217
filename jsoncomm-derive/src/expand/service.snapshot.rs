// What `#[jsoncomm::service]` generates for the README's service. Written by the test in service.rs.

trait Files {
    /// Opens `path` for reading; the descriptor travels in the reply.
    fn open(&mut self, path: &str) -> Result<Opened, FilesError>;
    /// Returns how many files have been opened.
    fn count(&mut self) -> u64;
}
/**Calls the methods of [`Files`] on a server. Each waits for its reply until the connection's deadline.

# Errors

A call ends in the service's own error, or in another variant of `CallError`; a `#[oneway]` method returns when the kernel has the call.*/
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct FilesClient<M = ::jsoncomm::private::Blocking>(::jsoncomm::private::Stub<M>);
#[doc(hidden)]
const _: () = {
    use ::jsoncomm::private as __p;
    use ::jsoncomm::private::shapes::*;
    struct __open_sent<'__lent> {
        path: &'__lent ::core::primitive::str,
    }
    #[automatically_derived]
    impl<'__lent> __p::Pack for __open_sent<'__lent> {
        fn pack<'__a, __S: __s::Serializer>(
            &'__a self,
            __fds: &__p::Packer<'__a>,
            __out: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            let &Self { path: &ref __f0, .. } = self;
            let mut __state = __s::Serializer::serialize_struct(__out, "open", 1usize)?;
            __s::ser::SerializeStruct::serialize_field(
                &mut __state,
                "path",
                &(&&&__p::probe::<::core::primitive::str>()).write_field(__f0, __fds),
            )?;
            __s::ser::SerializeStruct::end(__state)
        }
    }
    struct __open_received<'__de> {
        __f0: ::core::option::Option<__p::Text<'__de>>,
    }
    #[automatically_derived]
    impl<'__de> __p::Members<'__de> for __open_received<'__de> {
        type Value = (__p::Text<'__de>,);
        const RULES: __p::MemberRules = __p::MemberRules {
            expecting: "open",
            names: &["path"],
            ..__p::MemberRules::ARGUMENTS
        };
        fn new() -> Self {
            Self {
                __f0: ::core::option::Option::None,
            }
        }
        fn find(__name: &str) -> ::core::option::Option<usize> {
            match __name {
                "path" => ::core::option::Option::Some(0usize),
                _ => ::core::option::Option::None,
            }
        }
        fn is_read(&self, __index: usize) -> bool {
            match __index {
                0usize => ::core::option::Option::is_some(&self.__f0),
                _ => false,
            }
        }
        fn read<__D: __s::Deserializer<'__de>>(
            &mut self,
            __index: usize,
            __fds: &__p::Unpacker,
            __from: __D,
        ) -> ::core::result::Result<(), __D::Error> {
            match __index {
                0usize => {
                    self.__f0 = ::core::option::Option::Some(
                        (&&&__p::probe::<__p::Text<'__de>>()).read_field(__fds, __from)?,
                    );
                }
                _ => {}
            }
            ::core::result::Result::Ok(())
        }
        fn finish<__E: __s::de::Error>(
            self,
            __absence: __p::Absence,
        ) -> ::core::result::Result<Self::Value, __E> {
            ::core::result::Result::Ok((
                __absence
                    .or(
                        self.__f0,
                        || (&&&__p::probe::<__p::Text<'__de>>()).absent_field(),
                        "path",
                    )?,
            ))
        }
    }
    const _: () = {
        fn connection() {}
        fn path() {}
        impl FilesClient {
            /// Returns a stub that calls through `connection` and waits for each reply.
            fn new(connection: __p::Connection) -> Self {
                ::core::convert::From::from(connection)
            }
        }
        impl<__M: __p::CallMode> FilesClient<__M> {
            /// Returns a stub whose methods only start their calls, and return a `PendingCall` to wait for.
            fn start(&self) -> FilesClient<__p::Started> {
                FilesClient(self.0.start())
            }
            /// Opens `path` for reading; the descriptor travels in the reply.
            fn open(
                &self,
                path: &str,
            ) -> <__M as __p::CallMode>::Output<Opened, FilesError> {
                <Result<
                    Opened,
                    FilesError,
                > as __p::MethodReturn>::call(
                    &self.0,
                    "example.files.open",
                    &__open_sent { path: path },
                )
            }
            /// Returns how many files have been opened.
            fn count(&self) -> <u64 as __p::MethodReturn>::Stub<__M> {
                <u64 as __p::MethodReturn>::call(
                    &self.0,
                    "example.files.count",
                    &__p::NoArguments,
                )
            }
        }
        #[automatically_derived]
        impl<__M> ::core::convert::From<__p::Connection> for FilesClient<__M> {
            fn from(connection: __p::Connection) -> Self {
                Self(::core::convert::From::from(connection))
            }
        }
        #[automatically_derived]
        impl<__M> ::core::convert::AsRef<__p::Connection> for FilesClient<__M> {
            fn as_ref(&self) -> &__p::Connection {
                &self.0
            }
        }
    };
    #[automatically_derived]
    impl<__M: __p::PassedMode> __p::Pack for FilesClient<__M> {
        fn pack<'__a, __S: __s::Serializer>(
            &'__a self,
            __fds: &__p::Packer<'__a>,
            __to: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            __p::Pack::pack(&self.0, __fds, __to)
        }
        fn shape() -> __p::Shape {
            __p::Shape::Endpoint("example.files")
        }
    }
    #[automatically_derived]
    impl<'__de, __M: __p::PassedMode> __p::Unpack<'__de> for FilesClient<__M> {
        fn unpack<__D: __s::Deserializer<'__de>>(
            __fds: &__p::Unpacker,
            __from: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            __p::Unpack::unpack(__fds, __from).map(Self)
        }
    }
    #[automatically_derived]
    impl<__S: Files> __p::Service<__S> for dyn Files {
        const NAME: &'static str = "example.files";
        const METHODS: &'static [&'static str] = &["open", "count"];
        fn call(__state: &mut __S, __method: usize, __incoming: __p::Incoming<'_, '_>) {
            match __method {
                0usize => {
                    <Result<
                        Opened,
                        FilesError,
                    > as __p::MethodReturn>::answer::<
                        __open_received<'_>,
                    >(
                        __incoming,
                        |__params| { <__S as Files>::open(__state, &*__params.0) },
                    )
                }
                1usize => {
                    <u64 as __p::MethodReturn>::answer::<
                        __p::NoArguments,
                    >(__incoming, |__params| { <__S as Files>::count(__state) })
                }
                _ => {}
            }
        }
    }
    #[automatically_derived]
    impl __p::Describe for dyn Files {
        const DESCRIPTION: __p::Description = __p::Description::new(
            "example.files",
            "",
            ::core::option_env!("CARGO_PKG_VERSION"),
            &[
                __p::Method::new(
                        "open",
                        "Opens `path` for reading; the descriptor travels in the reply.",
                        &[
                            __p::Field::new(
                                __p::Item::new("path", ""),
                                __p::Type::new(|| (&&&__p::probe::<str>()).probed()),
                            ),
                        ],
                    )
                    .replying(
                        <Result<Opened, FilesError> as __p::MethodReturn>::KIND,
                        __p::Type::new(|| {
                            (&&&__p::probe::<
                                <Result<Opened, FilesError> as __p::MethodReturn>::Value,
                            >())
                                .probed()
                        }),
                        __p::Type::new(|| {
                            (&&&__p::probe::<
                                <Result<Opened, FilesError> as __p::MethodReturn>::Error,
                            >())
                                .probed()
                        }),
                    ),
                __p::Method::new(
                        "count",
                        "Returns how many files have been opened.",
                        &[],
                    )
                    .replying(
                        <u64 as __p::MethodReturn>::KIND,
                        __p::Type::new(|| {
                            (&&&__p::probe::<<u64 as __p::MethodReturn>::Value>())
                                .probed()
                        }),
                        __p::Type::new(|| {
                            (&&&__p::probe::<<u64 as __p::MethodReturn>::Error>())
                                .probed()
                        }),
                    ),
            ],
        );
    }
};

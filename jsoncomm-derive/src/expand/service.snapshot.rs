// What `#[jsoncomm::service]` makes of the README's service. Written by the test in service.rs.

trait Files {
    /// Opens `path` for reading; the descriptor travels in the reply.
    fn open(&mut self, path: &str) -> Result<Opened, FilesError>;
    /// Returns how many files have been opened.
    fn count(&mut self) -> u64;
}
/**Calls the methods of [`Files`] on a server. Each waits for its answer until the connection's deadline.

# Errors

A call ends in the service's own error, or in another variant of `CallError`; a `#[oneway]` method returns when the kernel has the call.*/
struct FilesClient<M = ::jsoncomm::private::Blocking> {
    connection: ::jsoncomm::private::Connection,
    mode: ::core::marker::PhantomData<fn() -> M>,
}
#[doc(hidden)]
const _: () = {
    struct __open_sent<'__lent> {
        path: &'__lent str,
    }
    struct __open_received<'__text> {
        path: ::jsoncomm::private::Text<'__text>,
    }
    #[doc(hidden)]
    const _: () = {
        use ::jsoncomm::private::select::*;
        #[automatically_derived]
        impl<'__lent> ::jsoncomm::private::Pack for __open_sent<'__lent> {
            fn pack<'__a, __S: ::jsoncomm::private::serde::Serializer>(
                &'__a self,
                __fds: &::jsoncomm::private::Packer<'__a>,
                __out: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                match self {
                    __open_sent { path: __f0, .. } => {
                        let mut __state = ::jsoncomm::private::serde::Serializer::serialize_struct(
                            __out,
                            "__open_sent",
                            1usize,
                        )?;
                        ::jsoncomm::private::serde::ser::SerializeStruct::serialize_field(
                            &mut __state,
                            "path",
                            &*(&&&::jsoncomm::private::Probe::<&'__lent str>::new())
                                .write_field(__f0, __fds),
                        )?;
                        ::jsoncomm::private::serde::ser::SerializeStruct::end(__state)
                    }
                }
            }
        }
    };
    #[doc(hidden)]
    const _: () = {
        use ::jsoncomm::private::select::*;
        #[automatically_derived]
        impl<'__de: '__text, '__text> ::jsoncomm::private::Unpack<'__de>
        for __open_received<'__text> {
            fn unpack<__D: ::jsoncomm::private::serde::Deserializer<'__de>>(
                __fds: &::jsoncomm::private::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                ::jsoncomm::private::members::<
                    __Members<'__de, '__text>,
                    __D,
                >(__fds, __from)
            }
        }
        struct __Members<'__de: '__text, '__text> {
            __f0: ::core::option::Option<::jsoncomm::private::Text<'__text>>,
            __of: ::core::marker::PhantomData<(&'__de (), __open_received<'__text>)>,
        }
        #[automatically_derived]
        impl<'__de: '__text, '__text> ::jsoncomm::private::Members<'__de>
        for __Members<'__de, '__text> {
            type Value = __open_received<'__text>;
            const EXPECTING: &'static str = "the arguments of open";
            const NAMES: &'static [&'static str] = &["path"];
            const KNOWN: &'static [&'static str] = &["path"];
            const NAMED: bool = true;
            const STRICT: bool = true;
            const ARGUMENTS: bool = true;
            fn new() -> Self {
                Self {
                    __f0: ::core::option::Option::None,
                    __of: ::core::marker::PhantomData,
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
            fn read<__D: ::jsoncomm::private::serde::Deserializer<'__de>>(
                &mut self,
                __index: usize,
                __fds: &::jsoncomm::private::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<(), __D::Error> {
                match __index {
                    0usize => {
                        self.__f0 = ::core::option::Option::Some(
                            (&&&::jsoncomm::private::Probe::<
                                ::jsoncomm::private::Text<'__text>,
                            >::new())
                                .read_field(__fds, __from)?,
                        );
                    }
                    _ => {}
                }
                ::core::result::Result::Ok(())
            }
            fn finish<__E: ::jsoncomm::private::serde::de::Error>(
                self,
                __absence: ::jsoncomm::private::Absence<'_>,
            ) -> ::core::result::Result<Self::Value, __E> {
                ::core::result::Result::Ok(__open_received {
                    path: match self.__f0 {
                        ::core::option::Option::Some(__value) => __value,
                        ::core::option::Option::None => {
                            (&&&::jsoncomm::private::Probe::<
                                ::jsoncomm::private::Text<'__text>,
                            >::new())
                                .absent_field::<__E>(__absence, "path")?
                        }
                    },
                })
            }
        }
    };
    struct __count_sent {}
    struct __count_received {}
    #[doc(hidden)]
    const _: () = {
        use ::jsoncomm::private::select::*;
        #[automatically_derived]
        impl ::jsoncomm::private::Pack for __count_sent {
            fn pack<'__a, __S: ::jsoncomm::private::serde::Serializer>(
                &'__a self,
                __fds: &::jsoncomm::private::Packer<'__a>,
                __out: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                match self {
                    __count_sent { .. } => {
                        let __state = ::jsoncomm::private::serde::Serializer::serialize_struct(
                            __out,
                            "__count_sent",
                            0usize,
                        )?;
                        ::jsoncomm::private::serde::ser::SerializeStruct::end(__state)
                    }
                }
            }
        }
    };
    #[doc(hidden)]
    const _: () = {
        use ::jsoncomm::private::select::*;
        #[automatically_derived]
        impl<'__de> ::jsoncomm::private::Unpack<'__de> for __count_received {
            fn unpack<__D: ::jsoncomm::private::serde::Deserializer<'__de>>(
                __fds: &::jsoncomm::private::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                ::jsoncomm::private::members::<__Members<'__de>, __D>(__fds, __from)
            }
        }
        struct __Members<'__de> {
            __of: ::core::marker::PhantomData<(&'__de (), __count_received)>,
        }
        #[automatically_derived]
        impl<'__de> ::jsoncomm::private::Members<'__de> for __Members<'__de> {
            type Value = __count_received;
            const EXPECTING: &'static str = "the arguments of count";
            const NAMES: &'static [&'static str] = &[];
            const KNOWN: &'static [&'static str] = &[];
            const NAMED: bool = true;
            const STRICT: bool = true;
            const ARGUMENTS: bool = true;
            fn new() -> Self {
                Self {
                    __of: ::core::marker::PhantomData,
                }
            }
            fn find(__name: &str) -> ::core::option::Option<usize> {
                match __name {
                    _ => ::core::option::Option::None,
                }
            }
            fn is_read(&self, __index: usize) -> bool {
                match __index {
                    _ => false,
                }
            }
            fn read<__D: ::jsoncomm::private::serde::Deserializer<'__de>>(
                &mut self,
                __index: usize,
                __fds: &::jsoncomm::private::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<(), __D::Error> {
                match __index {
                    _ => {}
                }
                ::core::result::Result::Ok(())
            }
            fn finish<__E: ::jsoncomm::private::serde::de::Error>(
                self,
                __absence: ::jsoncomm::private::Absence<'_>,
            ) -> ::core::result::Result<Self::Value, __E> {
                ::core::result::Result::Ok(__count_received {})
            }
        }
    };
    const _: () = {
        fn connection() {}
        fn path() {}
        #[automatically_derived]
        impl FilesClient {
            /// Makes a stub that calls through `connection` and waits for each answer.
            fn new(connection: ::jsoncomm::private::Connection) -> Self {
                ::core::convert::From::from(connection)
            }
        }
        #[automatically_derived]
        impl<__M: ::jsoncomm::private::CallMode> FilesClient<__M> {
            /// The same stub, but its methods only start their calls and return a `PendingCall` to wait for.
            fn start(&self) -> FilesClient<::jsoncomm::private::Started> {
                ::core::convert::From::from(
                    ::core::clone::Clone::clone(&self.connection),
                )
            }
            /// Opens `path` for reading; the descriptor travels in the reply.
            fn open(
                &self,
                path: &str,
            ) -> <__M as ::jsoncomm::private::CallMode>::Output<Opened, FilesError> {
                <Result<
                    Opened,
                    FilesError,
                > as ::jsoncomm::private::MethodReturn>::call::<
                    __M,
                >(&self.connection, "example.files.open", &__open_sent { path: path })
            }
            /// Returns how many files have been opened.
            fn count(&self) -> <u64 as ::jsoncomm::private::MethodReturn>::Stub<__M> {
                <u64 as ::jsoncomm::private::MethodReturn>::call::<
                    __M,
                >(&self.connection, "example.files.count", &__count_sent {})
            }
        }
        #[automatically_derived]
        impl<__M> ::core::convert::From<::jsoncomm::private::Connection>
        for FilesClient<__M> {
            fn from(connection: ::jsoncomm::private::Connection) -> Self {
                Self {
                    connection,
                    mode: ::core::marker::PhantomData,
                }
            }
        }
        #[automatically_derived]
        impl<__M> ::core::clone::Clone for FilesClient<__M> {
            fn clone(&self) -> Self {
                ::core::convert::From::from(
                    ::core::clone::Clone::clone(&self.connection),
                )
            }
        }
        #[automatically_derived]
        impl<__M> ::core::fmt::Debug for FilesClient<__M> {
            fn fmt(
                &self,
                __out: &mut ::core::fmt::Formatter<'_>,
            ) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.connection, __out)
            }
        }
    };
    #[automatically_derived]
    impl<__S: Files> ::jsoncomm::private::Service<__S> for dyn Files {
        const NAME: &'static str = "example.files";
        const METHODS: &'static [&'static str] = &["open", "count"];
        const NUMBERS: &'static [(usize, &'static [&'static str])] = &[
            (0usize, &["open"]),
            (1usize, &["count"]),
        ];
        fn call(
            __state: &mut __S,
            __method: usize,
            __incoming: ::jsoncomm::private::Incoming<'_, '_>,
        ) {
            match __method {
                0usize => {
                    <Result<
                        Opened,
                        FilesError,
                    > as ::jsoncomm::private::MethodReturn>::answer(
                        __incoming,
                        |__params: __open_received<'_>| {
                            <__S as Files>::open(__state, &*__params.path)
                        },
                    )
                }
                1usize => {
                    <u64 as ::jsoncomm::private::MethodReturn>::answer(
                        __incoming,
                        |__params: __count_received| { <__S as Files>::count(__state) },
                    )
                }
                _ => {}
            }
        }
    }
    #[automatically_derived]
    impl ::jsoncomm::private::Describe for dyn Files {
        const DESCRIPTION: ::jsoncomm::private::Description = ::jsoncomm::private::Description::new(
            "example.files",
            "",
            ::core::option_env!("CARGO_PKG_VERSION"),
            &[
                ::jsoncomm::private::Method::new(
                        "open",
                        "Opens `path` for reading; the descriptor travels in the reply.",
                        &[
                            ::jsoncomm::private::Field::new(
                                "path",
                                "",
                                ::jsoncomm::private::Type::new(|| {
                                    use ::jsoncomm::private::shapes::*;
                                    (&&&::jsoncomm::private::Probe::<
                                        ::std::string::String,
                                    >::new())
                                        .probed_shape()
                                }),
                                [
                                    ::jsoncomm::private::Presence::Always,
                                    ::jsoncomm::private::Presence::Always,
                                ],
                            ),
                        ],
                    )
                    .answering(
                        <Result<
                            Opened,
                            FilesError,
                        > as ::jsoncomm::private::MethodReturn>::STREAM,
                        ::jsoncomm::private::Type::new(|| {
                            use ::jsoncomm::private::shapes::*;
                            (&&&::jsoncomm::private::Probe::<
                                <Result<
                                    Opened,
                                    FilesError,
                                > as ::jsoncomm::private::MethodReturn>::Value,
                            >::new())
                                .probed_shape()
                        }),
                        ::jsoncomm::private::Type::new(|| {
                            use ::jsoncomm::private::shapes::*;
                            (&&&::jsoncomm::private::Probe::<
                                <Result<
                                    Opened,
                                    FilesError,
                                > as ::jsoncomm::private::MethodReturn>::Error,
                            >::new())
                                .probed_shape()
                        }),
                        <<Result<
                            Opened,
                            FilesError,
                        > as ::jsoncomm::private::MethodReturn>::Error as ::jsoncomm::private::Pack>::CODES,
                    ),
                ::jsoncomm::private::Method::new(
                        "count",
                        "Returns how many files have been opened.",
                        &[],
                    )
                    .answering(
                        <u64 as ::jsoncomm::private::MethodReturn>::STREAM,
                        ::jsoncomm::private::Type::new(|| {
                            use ::jsoncomm::private::shapes::*;
                            (&&&::jsoncomm::private::Probe::<
                                <u64 as ::jsoncomm::private::MethodReturn>::Value,
                            >::new())
                                .probed_shape()
                        }),
                        ::jsoncomm::private::Type::new(|| {
                            use ::jsoncomm::private::shapes::*;
                            (&&&::jsoncomm::private::Probe::<
                                <u64 as ::jsoncomm::private::MethodReturn>::Error,
                            >::new())
                                .probed_shape()
                        }),
                        <<u64 as ::jsoncomm::private::MethodReturn>::Error as ::jsoncomm::private::Pack>::CODES,
                    ),
            ],
        );
    }
};

//! Enums whose variants are methods.

use super::variants::{Content, Variants};
use super::{Message, Pack, PackContent, Packer, Unpack, Unpacker};
use serde::{Deserializer, Serializer};
use std::borrow::Cow;

/// Is an enum of requests, whose variants are methods.
///
/// `#[derive(Message)]` implements it for an enum with `#[message(reply = Reply)]`, and with
/// `service = "name"` and `error = Error` where they apply. A method's name on the wire is the
/// variant's in snake case, unless serde's `rename` or `rename_all` says otherwise.
///
/// # Examples
///
/// ```
/// use jsoncomm::Message;
/// use jsoncomm::message::Request;
///
/// #[derive(Debug, Message)]
/// #[message(service = "example.jobs", reply = u32)]
/// enum Ask { RunNow { program: String }, Wait { job: u32 } }
///
/// assert_eq!(Ask::SERVICE, "example.jobs");
/// assert_eq!(Ask::METHODS, ["run_now", "wait"]);
/// assert_eq!(Ask::Wait { job: 1 }.method(), 1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request",
    note = "write `#[message(reply = ...)]`, or `#[message(service = \"...\", reply = ...)]`, on the enum"
)]
pub trait Request:
    Pack + for<'de> Unpack<'de> + PackContent + for<'de> Variants<'de> + Sized
{
    /// The type of the reply.
    type Reply: Message;
    /// The type of the error that the service returns instead of a reply; [`Infallible`](std::convert::Infallible)
    /// unless given.
    type Error: Message;
    /// The service's name; empty for an enum that is only used without envelope.
    const SERVICE: &'static str;
    /// The methods' names by variant, without the service's.
    const METHODS: &'static [&'static str];

    /// Returns the variant's index, counted from 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Message;
    /// use jsoncomm::message::Request;
    ///
    /// #[derive(Debug, Message)]
    /// #[message(reply = u32)]
    /// enum Ask { Run { program: String }, Wait }
    ///
    /// assert_eq!((Ask::Run { program: "ls".into() }.method(), Ask::Wait.method()), (0, 1));
    /// ```
    fn method(&self) -> usize;

    /// The method's name with the service's, as a call says it.
    #[doc(hidden)]
    fn full_name(&self) -> Cow<'static, str> {
        let method = Self::METHODS.get(self.method()).copied();
        format!("{}.{}", Self::SERVICE, method.unwrap_or_default()).into()
    }

    /// Writes what the variant holds: an object, `{}` for a unit variant.
    ///
    /// # Errors
    ///
    /// As for [`Pack::pack`].
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Message;
    /// use jsoncomm::message::{Packer, Request};
    ///
    /// #[derive(Debug, Message)]
    /// #[message(reply = u32)]
    /// enum Ask { Wait { job: u32 } }
    ///
    /// let params = Ask::Wait { job: 7 }.pack_params(&Packer::new(), serde_json::value::Serializer)?;
    /// assert_eq!(params.to_string(), r#"{"job":7}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    fn pack_params<'a, S: Serializer>(
        &'a self,
        fds: &Packer<'a>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        self.pack_content(fds, serializer)
    }

    /// Reads what variant `method` holds: an object, or an array by position. Members that the
    /// variant does not have are refused.
    ///
    /// # Errors
    ///
    /// As for [`Unpack::unpack`].
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Message;
    /// use jsoncomm::message::{Request, Unpacker};
    /// use serde_json::Deserializer;
    ///
    /// #[derive(Debug, Message)]
    /// #[message(reply = u32)]
    /// enum Ask { Wait { job: u32 } }
    ///
    /// let read = |params| {
    ///     Ask::unpack_params(0, &Unpacker::default(), &mut Deserializer::from_str(params))
    /// };
    /// assert!(matches!(read(r#"{"job":7}"#), Ok(Ask::Wait { job: 7 })));
    /// assert!(matches!(read("[7]"), Ok(Ask::Wait { job: 7 })));
    /// assert!(read(r#"{"job":7,"then":8}"#).is_err());
    /// ```
    fn unpack_params<'de, D: Deserializer<'de>>(
        method: usize,
        fds: &Unpacker,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        Self::variant(method, Content::Params(deserializer), fds)
    }
}

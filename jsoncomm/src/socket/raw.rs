//! Datagrams as bytes, for programs that forward or inspect them.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Received, Socket};
use crate::address::Address;
use crate::error::Error;
use crate::fds::Fds;
use crate::peer::Peer;
use crate::transport::{Datagram, Kind, SendStatus};

/// One datagram as bytes, which need not be JSON, with its descriptors.
///
/// A text that travelled in a memfd is in `bytes` like any other, and is sent in one again if it is too large for a
/// datagram.
///
/// | field | received | sent |
/// |---|---|---|
/// | `bytes` | the text | the text |
/// | `fds` | owned, close-on-exec | duplicated by the kernel |
/// | `peer` | the sender, if the kernel reports it | ignored |
///
/// # Examples
///
/// ```
/// use jsoncomm::socket::{Received, Socket};
/// use jsoncomm::Kind;
///
/// let (mut client, mut front) = Socket::pair(Kind::Seqpacket)?;
/// let (mut back, mut server) = Socket::pair(Kind::Seqpacket)?;
/// client.send(&("hello", 7))?;
/// if let Received::Message(raw, _sender) = front.try_receive_raw()? {
///     assert_eq!(raw.bytes, br#"["hello",7]"#);
///     let _ = back.try_send_raw(&raw, None)?; // forwarded
/// }
/// assert_eq!(server.receive::<(String, u32)>()?.0.1, 7);
/// # Ok::<(), jsoncomm::Error>(())
/// ```
#[derive(Default)]
pub struct RawDatagram {
    /// The text, which is not checked to be JSON.
    pub bytes: Vec<u8>,
    /// The descriptors, in the order sent.
    pub fds: Fds,
    /// The sender, on a socket that asks the kernel to report it with each message (`SO_PASSCRED`, [unix(7)]).
    ///
    /// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
    pub peer: Option<Peer>,
}

/// Prints the number of bytes only: some of them may be `#[sensitive]`, which only their type knows.
impl fmt::Debug for RawDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawDatagram")
            .field("bytes", &format_args!("{} bytes", self.bytes.len()))
            .field("fds", &self.fds)
            .field("peer", &self.peer)
            .finish()
    }
}

impl Socket {
    /// Receives one datagram of any content if one is queued. Never waits.
    ///
    /// # Errors
    ///
    /// Those of [`try_receive`](Socket::try_receive). [`Error::is_bad_message`] is true for a datagram that was truncated,
    /// exceeds the limit, or is nested too deep.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::{Received, Socket};
    /// use jsoncomm::Kind;
    /// use std::os::unix::net::UnixDatagram;
    ///
    /// let (near, far) = UnixDatagram::pair()?;
    /// let mut socket = Socket::from_fd(far.into())?;
    /// assert!(matches!(socket.try_receive_raw()?, Received::Pending));
    /// near.send(b"no JSON")?;
    /// match socket.try_receive_raw()? {
    ///     Received::Message(raw, _) => assert_eq!(raw.bytes, b"no JSON"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_receive_raw(&mut self) -> Result<Received<RawDatagram>, Error> {
        self.try_receive_as(Self::to_raw)
    }

    /// Waits for one datagram of any content up to the [timeout](Socket::set_timeout). Returns it with the address of its
    /// sender, if the sender has one.
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Socket::receive). [`Error::is_bad_message`] is true for a datagram that was truncated, exceeds
    /// the limit, or is nested too deep.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::Kind;
    ///
    /// let (mut near, mut far) = Socket::pair(Kind::Seqpacket)?;
    /// near.send(&[1, 2])?;
    /// let (raw, sender) = far.receive_raw()?;
    /// assert_eq!(raw.bytes, b"[1,2]");
    /// assert!(sender.is_none());
    /// # Ok::<(), jsoncomm::Error>(())
    /// ```
    pub fn receive_raw(&mut self) -> Result<(RawDatagram, Option<Address>), Error> {
        let datagram = self.wait_for_datagram()?;
        self.to_raw(datagram)
    }

    /// Sends one datagram of any content, to the connected peer or to an address, if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// Those of [`try_send`](Socket::try_send) and [`try_send_to`](Socket::try_send_to). The bytes are not checked to be
    /// JSON.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::fds::Fds;
    /// use jsoncomm::socket::{RawDatagram, SendStatus, Socket};
    /// use jsoncomm::Kind;
    /// use std::fs::File;
    ///
    /// let (mut near, mut far) = Socket::pair(Kind::Seqpacket)?;
    /// let mut raw = RawDatagram::default();
    /// raw.bytes = b"0".to_vec();
    /// raw.fds.push(File::open("/dev/null")?.into())?;
    /// assert!(matches!(near.try_send_raw(&raw, None)?, SendStatus::Done));
    /// let (_file, _): (File, _) = far.receive()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_send_raw(
        &mut self,
        raw: &RawDatagram,
        to: Option<&Address>,
    ) -> Result<SendStatus, Error> {
        let fds: Vec<BorrowedFd<'_>> = raw.fds.iter().map(|(_, fd)| fd).collect();
        self.send_bytes_if_room(&raw.bytes, &fds, to)
    }

    /// Returns the identity of the peer of a connection, as reported by the kernel.
    ///
    /// | socket | peer |
    /// |---|---|
    /// | accepted by a listener | the process that called connect(2) |
    /// | connected to a listener | the process that called listen(2) |
    /// | one of a [pair](Socket::pair) made by another process | the process that made it |
    /// | one of a pair made by this process | `None`: the other end may have been passed to any process |
    /// | [`Kind::Datagram`] | `None`: only messages have a sender ([`RawDatagram::peer`]) |
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::{Listener, Socket};
    /// use jsoncomm::Kind;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("peer.sock");
    ///
    /// let _listener = Listener::bind(&path)?;
    /// let client = Socket::connect(&path, Kind::Seqpacket)?;
    /// assert_eq!(client.peer().and_then(|peer| peer.pid()), Some(std::process::id()));
    /// let (near, _far) = Socket::pair(Kind::Seqpacket)?;
    /// assert_eq!(near.peer(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peer(&self) -> Option<Peer> {
        match self.kind() {
            Kind::Seqpacket => Peer::of_connection(self.as_fd(), None),
            Kind::Datagram => None,
        }
    }

    /// Returns the datagram whose text is in the inbox as bytes.
    fn to_raw(&self, datagram: Datagram) -> Result<(RawDatagram, Option<Address>), Error> {
        let bytes = self.inbox.text(&datagram).to_vec();
        let depth = self.transport.bounds.depth;
        depth.check(&bytes).map_err(Error::Decode)?;
        let raw = RawDatagram {
            bytes,
            fds: datagram.fds,
            peer: Peer::of_message(datagram.credentials, datagram.pidfd),
        };
        Ok((raw, self.sender()))
    }
}

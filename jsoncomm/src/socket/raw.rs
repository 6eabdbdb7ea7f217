//! Datagrams as they are, for programs that pass them on or look at them.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::{Received, Socket, status};
use crate::address::Address;
use crate::error::Error;
use crate::fds::Fds;
use crate::peer::Peer;
use crate::sys::control::Wait;
use crate::transport::{Datagram, Kind, ReceiveOutcome, SendStatus};

/// One datagram as it came: its bytes, which need be no JSON, and its descriptors.
///
/// A text that travelled in a memfd is here as if it had not, and goes on in one if it has to.
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
///     let _ = back.try_send_raw(&raw, None)?; // passed on
/// }
/// assert_eq!(server.receive::<(String, u32)>()?.0.1, 7);
/// # Ok::<(), jsoncomm::Error>(())
/// ```
#[derive(Default)]
pub struct RawDatagram {
    /// What should be a JSON text.
    pub bytes: Vec<u8>,
    /// The descriptors, in their order.
    pub fds: Fds,
    /// Who sent it, on a socket that has the kernel say so with each message (`SO_PASSCRED`, [unix(7)]). It does not
    /// matter when it is sent.
    ///
    /// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
    pub peer: Option<Peer>,
}

/// Prints how many bytes there are and none of them: which are `#[sensitive]`, only their type would know.
impl fmt::Debug for RawDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("bytes", &format_args!("{} bytes", self.bytes.len()))
            .field("fds", &self.fds)
            .field("peer", &self.peer)
            .finish()
    }
}

impl Socket {
    /// Receives one datagram if one is queued, whatever it says; never waits.
    ///
    /// # Errors
    ///
    /// As [`try_receive`](Socket::try_receive); [`Error::is_bad_message`] holds when it was cut short or is larger
    /// than the limit.
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
        match self.line.receive(&mut self.inbox, Wait::Never)? {
            ReceiveOutcome::Datagram(datagram) => {
                let (raw, sender) = self.taken(datagram)?;
                Ok(Received::Message(raw, sender))
            }
            ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => Ok(Received::Pending),
            ReceiveOutcome::Closed => Ok(Received::Closed),
        }
    }

    /// Waits for one datagram, whatever it says; says where it came from if the sender has an address.
    ///
    /// # Errors
    ///
    /// As [`receive`](Socket::receive), likewise.
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
        let deadline = self.deadline();
        let received = self
            .line
            .receive_by(&mut self.inbox, deadline, Instant::now())?;
        self.taken(received.into_datagram()?)
    }

    /// Sends one datagram as it is, to the connected peer or to an address, if there is room; never waits.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Socket::try_send) and [`try_send_to`](Socket::try_send_to), but that it need be no JSON.
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
        let to = to.map(Address::resolve).transpose()?;
        let fds: Vec<BorrowedFd<'_>> = raw.fds.iter().map(|(_, fd)| fd).collect();
        let to = to.as_ref().map(|to| &to.name);
        status(self.line.send(&raw.bytes, &fds, to, Wait::Never)?)
    }

    /// Who is at the other end of a connection, as the kernel says: the process that called connect(2), or, at a
    /// client's end, listen(2); of a [pair](Socket::pair), the process that made it. `None` for a pair that this
    /// process has made itself, whose other end may be anybody's by now, and on [`Kind::Datagram`], where only messages
    /// tell ([`RawDatagram::peer`]).
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

    /// Takes a datagram that is in the inbox as it is.
    fn taken(&self, datagram: Datagram) -> Result<(RawDatagram, Option<Address>), Error> {
        let bytes = self.inbox.text(&datagram).to_vec();
        if let Some(damage) = datagram.damage {
            return Err(damage);
        }
        let depth = self.line.bounds().depth;
        depth.check(&bytes).map_err(Error::Decode)?;
        let raw = RawDatagram {
            bytes,
            fds: datagram.fds,
            peer: Peer::of_message(datagram.credentials, datagram.pidfd),
        };
        Ok((raw, self.inbox.sender().copied().map(Address::from_name)))
    }
}

//! A batch, sent as by a program that does not use this library.

use super::*;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The calls of the batch: more than a turn handles.
const CALLS: usize = 40;

impl World {
    /// Sends a batch. Returns true if each of its calls was replied to.
    pub(super) fn batch(&mut self) -> bool {
        let kind = match self.kind {
            Kind::Seqpacket => SocketType::SEQPACKET,
            Kind::Datagram => SocketType::DGRAM,
        };
        let client = persist(|| {
            let (unix, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
            let (ours, theirs) = rustix::net::socketpair(unix, kind, flags, None).unwrap();
            self.server.adopt(ours)?.serve::<dyn Pairs>();
            Ok(theirs)
        });
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"faults.double","params":[2]}"#;
        let text = format!("[{}]", vec![call; CALLS].join(","));
        rustix::net::send(&client, text.as_bytes(), SendFlags::NOSIGNAL).unwrap();
        let (mut replies, mut over) = (0, false);
        let lost = self.server.counts().undelivered;
        self.turn_until("the replies to a batch", |world| {
            over |= world.server.counts().undelivered > lost;
            loop {
                let mut buffer = [0; 4096];
                match rustix::net::recv(&client, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Err(Errno::AGAIN) => break,
                    Ok((1.., length)) => {
                        let text = String::from_utf8_lossy(buffer.get(..length).unwrap());
                        replies += text.matches("\"result\":4").count();
                        // An array that the kernel calls too long travels in a memfd, which is not looked into.
                        over |= text == "<args-via-fd>";
                    }
                    _ => {
                        over = true;
                        break;
                    }
                }
            }
            over || replies == CALLS
        });
        replies == CALLS
    }
}

#[test]
fn an_array_that_cannot_be_sent_is_sent_as_single_replies() {
    let directory = tempfile::tempdir().unwrap();
    for kind in [Kind::Seqpacket, Kind::Datagram] {
        let mut world = World::new(kind, &directory.path().join(format!("{kind:?}")));
        inject::begin(None);
        assert!(world.batch());
        assert_eq!(inject::counts()["sendto"], 2, "an array for each turn");
        for errno in [Errno::AGAIN, Errno::NOBUFS] {
            fail("sendto", errno);
            assert!(world.batch(), "{errno}");
            assert_eq!(inject::failed(), 1);
            assert_eq!(inject::counts()["sendto"], 1 + 32 + 1);
        }
        inject::end();
        assert_eq!(world.server.counts().undelivered, 0);
    }
}

//! Connections that cannot be kept are closed by another thread.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;

use super::{State, fail_at, null};
use crate::limits::Limits;
use crate::server::Server;
use crate::sys::control::Wait;
use crate::sys::inject;
use crate::sys::name::Name;
use crate::sys::socket::{Kind, connect, sendmsg, socket};

#[test]
fn a_connection_that_cannot_be_watched_is_closed_by_another_thread() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("faults.sock");
    let mut server = Server::<State>::new(Limits::default()).unwrap();
    server.bind(&path, Kind::Seqpacket).unwrap();
    let client = socket(Kind::Seqpacket).unwrap();
    connect(client.as_fd(), &Name::from_path(path.as_os_str()).unwrap()).unwrap();
    let null = null();
    sendmsg(client.as_fd(), b"{}", &[null.as_fd()], None, Wait::Never).unwrap();
    fail_at("epoll_ctl", 0, Errno::NOMEM);
    let soon = Some(Duration::from_secs(20));
    let _ = server.run_once(&mut State::default(), soon).unwrap();
    assert_eq!(inject::failed(), 1);
    // Shut down first, then closed by another thread, as a descriptor in it is unread.
    assert_eq!(inject::counts()["shutdown"], 1);
    assert_eq!(server.counts().rejected, 1);
    assert_eq!(server.stats().connections, 0);
}

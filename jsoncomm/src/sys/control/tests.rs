//! What the kernel really does, and what is made of it.

use super::*;
use crate::sys::socket;
use std::os::fd::AsFd;

fn pair() -> (OwnedFd, OwnedFd) {
    socket::socketpair(socket::Type::Seqpacket).unwrap()
}

#[test]
fn descriptors_are_owned_and_the_true_length_is_told() {
    let (left, right) = pair();
    let sent = [left.as_fd(), right.as_fd(), left.as_fd()];
    socket::sendmsg(right.as_fd(), b"0123456789", &sent, None, Wait::Never).unwrap();
    let mut buffer = [0; 4];
    let arrived = recvmsg(left.as_fd(), &mut buffer, Wait::Never).unwrap();
    assert_eq!(arrived.length, 10);
    assert_eq!(&buffer, b"0123");
    assert_eq!(arrived.fds.len(), 3);
    assert!(!arrived.control_truncated);
    for fd in &arrived.fds {
        let flags = rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn all_253_descriptors_and_credentials_fit() {
    let (left, right) = pair();
    socket::set_passcred(left.as_fd()).unwrap();
    let sent = vec![right.as_fd(); 253];
    socket::sendmsg(right.as_fd(), b"x", &sent, None, Wait::Never).unwrap();
    let arrived = recvmsg(left.as_fd(), &mut [0; 8], Wait::Never).unwrap();
    assert_eq!(arrived.fds.len(), 253);
    assert!(!arrived.control_truncated);
    let me = arrived.credentials.unwrap();
    assert_eq!(me.pid, i32::try_from(std::process::id()).unwrap());
    assert_eq!(me, peer_credentials(left.as_fd()).unwrap());
}

#[test]
fn the_groups_of_who_connected_are_told_on_a_connection_only() {
    let (left, _right) = pair();
    let own = rustix::process::getgroups().unwrap();
    let own: Vec<u32> = own.into_iter().map(|group| group.as_raw()).collect();
    let told = peer_groups(left.as_fd(), <[u32]>::to_vec);
    match own.len() {
        0..=GROUPS_MAX => assert_eq!(told.unwrap(), own),
        _ => assert_eq!(told.unwrap_err().raw_os_error(), Some(libc::ERANGE)),
    }
    let alone = socket::socket(socket::Type::Dgram).unwrap();
    let error = peer_groups(alone.as_fd(), <[u32]>::len).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODATA));
}

#[test]
fn a_descriptor_number_can_refer_to_another_socket() {
    let ((left, right), (other, far)) = (pair(), pair());
    dup3(other.as_fd(), &left).unwrap();
    drop(other);
    socket::sendmsg(far.as_fd(), b"x", &[], None, Wait::Never).unwrap();
    let arrived = recvmsg(left.as_fd(), &mut [0; 8], Wait::Never).unwrap();
    assert_eq!(arrived.length, 1);
    let arrived = recvmsg(right.as_fd(), &mut [0; 8], Wait::Never).unwrap();
    assert_eq!(arrived.length, 0, "what it referred to is closed");
    let flags = rustix::io::fcntl_getfd(&left).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn an_empty_queue_would_block_and_a_closed_peer_reads_zero() {
    let (left, right) = pair();
    let error = recvmsg(left.as_fd(), &mut [0; 8], Wait::Never).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(right);
    let arrived = recvmsg(left.as_fd(), &mut [0; 8], Wait::Never).unwrap();
    assert_eq!(arrived.length, 0);
}

#[test]
fn a_sender_with_a_108_byte_path_has_no_name_that_can_be_handled() {
    let mut address = libc::sockaddr_un {
        sun_family: 1,
        sun_path: [libc::c_char::from_ne_bytes([b'p']); 108],
    };
    assert!(sender(&address, 111).is_none());
    assert!(sender(&address, 110).is_none());
    assert!(sender(&address, 2).is_none());
    assert!(sender(&address, 0).is_none());
    address.sun_path[107] = 0;
    assert_eq!(sender(&address, 110).unwrap().sun_path().len(), 107);
}

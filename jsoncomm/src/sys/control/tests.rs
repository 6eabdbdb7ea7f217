//! Tests of [`control`](super) and of the kernel's behaviour that it relies on.

use super::*;
use crate::sys::socket;
use std::os::fd::AsFd;
use std::process::Command;

fn pair() -> (OwnedFd, OwnedFd) {
    socket::socketpair(socket::Kind::Seqpacket).unwrap()
}

#[test]
fn descriptors_are_owned_and_the_true_length_is_reported() {
    let (left, right) = pair();
    let sent = [left.as_fd(), right.as_fd(), left.as_fd()];
    socket::sendmsg(right.as_fd(), b"0123456789", &sent, None, Wait::Never).unwrap();
    let mut buffer = [0; 4];
    let mut fds = Vec::new();
    let arrived = recvmsg(left.as_fd(), &mut buffer, None, Wait::Never, |fd| {
        fds.push(fd)
    });
    let arrived = arrived.unwrap();
    assert_eq!(arrived.length, 10);
    assert_eq!(&buffer, b"0123");
    assert_eq!(fds.len(), 3);
    assert!(!arrived.control_truncated);
    for fd in &fds {
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
    let mut count = 0;
    let arrived = recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, |_| count += 1).unwrap();
    assert_eq!(count, 253);
    assert!(!arrived.control_truncated);
    let me = arrived.credentials.unwrap();
    assert_eq!(me.pid, i32::try_from(std::process::id()).unwrap());
    assert_eq!(me, peer_credentials(left.as_fd()).unwrap());
}

/// Returns the process that a pidfd refers to, from /proc.
fn process_of(pidfd: &OwnedFd) -> u32 {
    let flags = rustix::io::fcntl_getfd(pidfd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.unwrap().trim().parse().unwrap()
}

/// Returns true if the kernel supports pidfds of peers, as it must since Linux 6.5.
fn has_pidfds() -> bool {
    #[cfg(repository)]
    if !jsoncomm_watchdog::has_proc() {
        return false;
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    let (left, _right) = pair();
    let known = pass_pidfds(left.as_fd()).unwrap();
    assert!(known || version < (6, 5));
    known
}

#[test]
fn groups_of_the_peer_are_reported_on_a_connection_only() {
    let (left, _right) = pair();
    let own = rustix::process::getgroups().unwrap();
    let own: Vec<u32> = own.into_iter().map(|group| group.as_raw()).collect();
    let groups = peer_groups(left.as_fd(), <[u32]>::to_vec);
    match own.len() {
        0..=GROUPS_MAX => assert_eq!(groups.unwrap(), own),
        _ => assert_eq!(groups, None),
    }
    let alone = socket::socket(socket::Kind::Datagram).unwrap();
    assert_eq!(peer_groups(alone.as_fd(), <[u32]>::len), None);
    assert!(peer_groups(left.as_fd(), <[u32]>::len).is_some());
}

#[test]
fn the_process_of_the_peer_is_reported_on_a_connection_only() {
    if !has_pidfds() {
        return;
    }
    let (left, _right) = pair();
    let pidfd = peer_pidfd(left.as_fd()).unwrap();
    assert_eq!(process_of(&pidfd), std::process::id());
    let alone = socket::socket(socket::Kind::Datagram).unwrap();
    assert!(peer_pidfd(alone.as_fd()).is_none());
    assert!(
        peer_pidfd(left.as_fd()).is_some(),
        "it is not taken for missing"
    );
}

#[test]
fn each_message_carries_a_pidfd_on_request_beside_all_253_descriptors() {
    if !has_pidfds() {
        return;
    }
    let (left, right) = socket::socketpair(socket::Kind::Datagram).unwrap();
    socket::set_passcred(left.as_fd()).unwrap();
    let send = |fds: &[BorrowedFd<'_>]| {
        socket::sendmsg(right.as_fd(), b"x", fds, None, Wait::Never).unwrap();
    };
    let receive = || {
        let mut count = 0;
        let keep = |_| count += 1;
        let arrived = recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, keep).unwrap();
        (arrived, count)
    };
    send(&[]);
    assert!(receive().0.pidfd.is_none());
    // Queued before the option is set.
    send(&[]);
    assert!(pass_pidfds(left.as_fd()).unwrap());
    send(&[right.as_fd(); 253]);
    for count in [0, 253] {
        let (arrived, received) = receive();
        assert_eq!(process_of(&arrived.pidfd.unwrap()), std::process::id());
        assert_eq!(received, count);
        assert!(!arrived.control_truncated && arrived.credentials.is_some());
    }
}

#[test]
fn a_sender_that_has_ended_is_no_error_and_not_taken_for_another_process() {
    if !has_pidfds() {
        return;
    }
    let (left, right) = socket::socketpair(socket::Kind::Datagram).unwrap();
    socket::set_passcred(left.as_fd()).unwrap();
    assert!(pass_pidfds(left.as_fd()).unwrap());
    let echo = Command::new("echo").arg("hello").stdout(right).status();
    assert!(echo.unwrap().success());
    let arrived = recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
    assert_eq!(arrived.length, 6);
    assert!(arrived.credentials.is_some() && !arrived.control_truncated);
    // /proc reports -1 for a process that has ended.
    if let Some(pidfd) = arrived.pidfd {
        let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        assert!(std::fs::read_to_string(info).unwrap().contains("Pid:\t-1"));
    }
}

/// Passes control messages (type and numbers) to [`take_control`] as the kernel would. Returns the number of descriptors
/// that it took, and whether it took a pidfd.
fn take(messages: &[(libc::c_int, &[libc::c_int])]) -> (usize, bool) {
    let mut bytes = Vec::new();
    for (of, numbers) in messages {
        // struct cmsghdr: its whole length, the level, the type.
        let length = size_of::<libc::cmsghdr>() + size_of_val(*numbers);
        bytes.extend(length.to_ne_bytes());
        for number in [libc::SOL_SOCKET, *of].iter().chain(*numbers) {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
    }
    let mut control = Control([MaybeUninit::new(0); CONTROL_BYTES as usize]);
    for (to, byte) in control.0.iter_mut().zip(&bytes) {
        to.write(*byte);
    }
    let mut header = header_for(&mut control);
    header.msg_controllen = u16::try_from(bytes.len()).unwrap().into();
    let mut fds = 0;
    let (_, pidfd) = take_control(&header, |_| fds += 1);
    (fds, pidfd.is_some())
}

#[test]
fn an_error_in_place_of_a_pidfd_is_never_owned() {
    assert_eq!(take(&[(SCM_PIDFD, &[-libc::EMFILE])]), (0, false));
    assert_eq!(take(&[(SCM_PIDFD, &[-libc::ESRCH]), (9, &[0])]), (0, false));
    assert_eq!(take(&[(SCM_PIDFD, &[])]), (0, false));
    let own = || {
        let (left, _right) = pair();
        // `take_control` owns it from now on.
        std::mem::ManuallyDrop::new(left).as_raw_fd()
    };
    assert_eq!(take(&[(SCM_PIDFD, &[own()])]), (0, true));
    let rights = (libc::SCM_RIGHTS, &[own(), own()][..]);
    assert_eq!(take(&[rights, (SCM_PIDFD, &[-libc::EINVAL])]), (2, false));
}

#[test]
fn an_option_unknown_to_the_kernel_is_no_error() {
    let (left, _right) = pair();
    let option = Optional::new("an unknown option");
    let set = option.call(|| set_flag(left.as_fd(), 30_000, 1));
    assert_eq!(set, Ok(None));
}

#[test]
fn dup3_replaces_the_socket_under_a_descriptor_number() {
    let ((left, right), (other, far)) = (pair(), pair());
    dup3(other.as_fd(), &left).unwrap();
    drop(other);
    socket::sendmsg(far.as_fd(), b"x", &[], None, Wait::Never).unwrap();
    let arrived = recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
    assert_eq!(arrived.length, 1);
    let arrived = recvmsg(right.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
    assert_eq!(arrived.length, 0, "the replaced socket is closed");
    let flags = rustix::io::fcntl_getfd(&left).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn an_empty_queue_would_block_and_a_closed_peer_reads_zero() {
    let (left, right) = pair();
    let error = recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap_err();
    assert_eq!(error.errno, Errno::WOULDBLOCK);
    drop(right);
    let arrived = recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
    assert_eq!(arrived.length, 0);
}

#[test]
fn unread_messages_are_counted_and_take_at_least_the_assumed_size() {
    let (left, right) = pair();
    let null = std::fs::File::open("/dev/null").unwrap();
    for count in 1..=9 {
        let fds = [null.as_fd()];
        socket::sendmsg(left.as_fd(), b"x", &fds[..count % 2], None, Wait::Never).unwrap();
        let bytes = unread(left.as_fd()).unwrap();
        assert!(bytes >= unread_min() * count, "{bytes}");
    }
    for _ in 0..9 {
        assert_ne!(unread(left.as_fd()).unwrap(), 0);
        recvmsg(right.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
    }
    assert_eq!(unread(left.as_fd()).unwrap(), 0);
    // Messages that are lost with their reader no longer count.
    socket::sendmsg(left.as_fd(), b"x", &[null.as_fd()], None, Wait::Never).unwrap();
    drop(right);
    assert_eq!(unread(left.as_fd()).unwrap(), 0);
}

#[cfg(repository)]
#[test]
fn a_descriptor_at_the_number_of_a_standard_stream_is_inherited_above_them() {
    // This process runs only this test, which does not use standard input.
    jsoncomm_watchdog::alone!();
    let Ok(Numbered::Inherited(stdin)) = take_number(0, |_| true) else {
        panic!("standard input is close-on-exec, or closed");
    };
    let mut command = Command::new("true");
    assert!(crate::fds::inherit(&mut command, stdin).unwrap() > 2);
}

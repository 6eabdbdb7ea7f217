//! Descriptors at fixed numbers in a program that is started: from 3 on, as in sd_listen_fds(3).
//!
//! The numbers are reserved early by descriptors that a program does not inherit. A descriptor can then be moved to its
//! number, which no other can have.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;

use jsoncomm::child::PARENT_FD;
use jsoncomm::fds::inherit;
use rustix::io::{DupFlags, FdFlags, dup2, dup3, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Resource, getrlimit};

use crate::problem::Problem;

/// The first number, `SD_LISTEN_FDS_START`.
const FIRST: i32 = 3;

/// Reserved numbers from 3 on.
#[derive(Debug)]
pub(crate) struct Places {
    null: File,
    held: Vec<OwnedFd>,
}

impl Places {
    /// Reserves `count` numbers, but at most half of what the limit of open files leaves, and only those before the first
    /// inherited descriptor.
    pub(crate) fn reserve(count: usize) -> Result<Self, Problem> {
        let no_null = Problem::file("/dev/null");
        let null = File::open("/dev/null").map_err(no_null)?;
        let mut places = Self {
            null,
            held: Vec::new(),
        };
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let half = usize::try_from(limit / 2).unwrap_or(usize::MAX);
        for number in (FIRST..).take(count.min(half)) {
            // It may stand where they begin.
            let held = fcntl_dupfd_cloexec(&places.null, number).map_err(Problem::here("dup"))?;
            if held.as_raw_fd() == number {
                places.held.push(held);
            } else if places.null.as_raw_fd() == number {
                let null = std::mem::replace(&mut places.null, held.into());
                places.held.push(null.into());
            } else {
                break;
            }
        }
        Ok(places)
    }

    /// Checks that this many numbers are reserved.
    pub(crate) fn check(&self, count: usize) -> Result<(), Problem> {
        if count <= self.held.len() {
            return Ok(());
        }
        let number = self.held.len() + 3;
        let taken = format!(
            "descriptor {number} is already open, or too high for the limit of open files: start it with {number}<&-"
        );
        Err(Problem::Usage(taken))
    }

    /// Makes `command` inherit the descriptors, from 3 on, with the variables of sd_listen_fds(3).
    /// [`release`](Self::release) undoes it.
    ///
    /// `names` are for people. Characters that a name must not contain are replaced.
    pub(crate) fn fill(
        &mut self,
        command: &mut Command,
        fds: &[(BorrowedFd<'_>, String)],
    ) -> Result<(), Problem> {
        self.check(fds.len())?;
        for ((fd, _), place) in fds.iter().zip(&mut self.held) {
            dup2(fd, place).map_err(Problem::here("dup2"))?;
        }
        let clean = |c: char| if c == ':' || c.is_control() { '_' } else { c };
        let names: Vec<String> = fds
            .iter()
            .map(|(_, name)| name.chars().take(255).map(clean).collect())
            .collect();
        command
            .env("LISTEN_FDS", fds.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        Ok(())
    }

    /// Makes the program that `command` starts inherit one socket as descriptor 3, named as by sd_listen_fds(3) and as its
    /// connection to its parent. Nothing else that this process starts inherits it.
    pub(crate) fn pass(mut self, command: &mut Command, socket: &OwnedFd) -> Result<(), Problem> {
        self.check(1)?;
        if let Some(mut place) = self.held.pop() {
            dup3(socket, &mut place, DupFlags::CLOEXEC).map_err(Problem::here("dup3"))?;
            let number = inherit(command, place).map_err(Problem::here("fcntl"))?;
            command
                .env("LISTEN_FDS", "1")
                .env("LISTEN_FDNAMES", "connection")
                .env(PARENT_FD, number.to_string());
        }
        Ok(())
    }

    /// Reserves the numbers again.
    pub(crate) fn release(&mut self) -> Result<(), Problem> {
        for place in &mut self.held {
            let inherited = rustix::io::fcntl_getfd(place.as_fd());
            if inherited.is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
                dup2(&self.null, place).map_err(Problem::here("dup2"))?;
                fcntl_setfd(place.as_fd(), FdFlags::CLOEXEC).map_err(Problem::here("fcntl"))?;
            }
        }
        Ok(())
    }
}

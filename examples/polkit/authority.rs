//! Asks polkit about processes: by `pkcheck`, a few questions of one user at a time, each answer for a bounded time.

use std::collections::{HashMap, VecDeque};
use std::fs::read_to_string;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jsoncomm::Peer;
use jsoncomm::server::{Access, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Questions of one user that are asked at the same time. Others wait for these.
const AT_ONCE: usize = 2;

/// How long a grant is remembered.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Grants that are remembered. While there are so many, others are asked for again.
const GRANTS_MAX: usize = 1000;

/// How long `pkcheck` may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process, as polkit knows it. The start time tells it from a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    pid: u32,
    start: u64,
    uid: u32,
}

impl Process {
    /// Finds out which process the peer is; `None` if that is not known for sure.
    fn of(peer: &Peer) -> Option<Self> {
        let pidfd = peer.pidfd()?;
        let number = pidfd.as_raw_fd();
        let about = read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        // It is -1 if the process has ended, and 0 if it is not in this pid namespace.
        let pid = about.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        let pid = pid.trim().parse().ok().filter(|pid| *pid > 0)?;
        let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain anything. Behind it, the start time is the 20th word: proc_pid_stat(5).
        let (_, behind) = stat.rsplit_once(')')?;
        let start = behind.split_whitespace().nth(19)?.parse().ok()?;
        let uid = peer.uid();
        // What was read is that of this process only if it still lives: its id cannot have been reused then.
        is_alive(pidfd).then_some(Self { pid, start, uid })
    }
}

/// Waits until a process has ended, at most so long. Returns true if it lives on.
fn is_alive_after(pidfd: BorrowedFd<'_>, time: Duration) -> bool {
    let time = Timespec::try_from(time).unwrap_or_default();
    // A pidfd is readable once its process has ended. A failure tells nothing, so nothing is granted.
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&time)) == Ok(0)
}

fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    is_alive_after(pidfd, Duration::ZERO)
}

/// What is asked, and who waits for the answer.
struct Question {
    action: &'static str,
    process: Process,
    verdict: Verdict,
}

#[derive(Default)]
struct State {
    grants: HashMap<(&'static str, Process), Instant>,
    users: HashMap<u32, Questions>,
}

/// The questions of one user.
#[derive(Default)]
struct Questions {
    /// They are bounded by the server's limits: each has its call.
    waiting: VecDeque<Question>,
    threads: usize,
}

pub(crate) struct Authority {
    program: PathBuf,
    state: Mutex<State>,
}

impl Authority {
    pub(crate) fn new(program: PathBuf) -> Self {
        let state = Mutex::default();
        Self { program, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rule: the process has been granted the action a short while ago, or polkit grants it. Does not wait.
    pub(crate) fn check(self: &Arc<Self>, action: &'static str, peer: &Peer) -> Access {
        let Some(process) = Process::of(peer) else {
            return Access::Refuse;
        };
        if self.remembers(action, process) {
            return Access::Allow;
        }
        let authority = Arc::clone(self);
        Access::ask(move |verdict| {
            authority.begin(Question {
                action,
                process,
                verdict,
            });
        })
    }

    fn remembers(&self, action: &'static str, process: Process) -> bool {
        let granted = self.lock().grants.get(&(action, process)).copied();
        granted.is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn remember(&self, action: &'static str, process: Process) {
        let grants = &mut self.lock().grants;
        grants.retain(|_, at| at.elapsed() < REMEMBERED);
        if grants.len() < GRANTS_MAX {
            grants.insert((action, process), Instant::now());
        }
    }

    /// Has a question asked. A verdict that is dropped refuses its call.
    fn begin(self: &Arc<Self>, question: Question) {
        let uid = question.process.uid;
        let mut state = self.lock();
        let user = state.users.entry(uid).or_default();
        user.waiting.push_back(question);
        if user.threads == AT_ONCE {
            return;
        }
        user.threads += 1;
        drop(state);
        let authority = Arc::clone(self);
        let asking = move || {
            while let Some(question) = authority.next(uid) {
                authority.ask(question);
            }
        };
        if thread::Builder::new().spawn(asking).is_err() {
            // If no other thread is left to ask, the calls of this user are refused.
            drop(self.end_thread(uid));
        }
    }

    /// Counts a thread less. If it was the user's last, returns the questions that wait.
    fn end_thread(&self, uid: u32) -> Option<Questions> {
        let users = &mut self.lock().users;
        let user = users.get_mut(&uid)?;
        user.threads -= 1;
        (user.threads == 0).then(|| users.remove(&uid))?
    }

    /// The user's next question. A thread that gets none ends.
    fn next(&self, uid: u32) -> Option<Question> {
        let mut state = self.lock();
        let user = state.users.get_mut(&uid)?;
        let question = user.waiting.pop_front();
        if question.is_none() {
            user.threads -= 1;
            if user.threads == 0 {
                state.users.remove(&uid);
            }
        }
        question
    }

    /// Asks, unless the answer is known by now or nobody waits for it.
    fn ask(&self, question: Question) {
        let Question {
            action,
            process,
            verdict,
        } = question;
        let known = self.remembers(action, process);
        if known || (verdict.is_wanted() && self.is_granted(action, process, &verdict)) {
            if !known {
                self.remember(action, process);
            }
            verdict.allow();
        }
    }

    /// Runs `pkcheck`. It is killed when its time is over, or when nobody waits for it any more.
    fn is_granted(&self, action: &str, process: Process, verdict: &Verdict) -> bool {
        let Process { pid, start, uid } = process;
        let child = Command::new(&self.program)
            .args(["--action-id", action, "--process"])
            .arg(format!("{pid},{start},{uid}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            return false;
        };
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = id.and_then(|id| pidfd_open(id, PidfdFlags::empty()).ok());
        if let Some(pidfd) = pidfd.map(Arc::new) {
            let kill = |pidfd: &OwnedFd| {
                // It fails if the process has ended.
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
            };
            let cancelled = Arc::clone(&pidfd);
            verdict.on_cancel(move || kill(&cancelled));
            if is_alive_after(pidfd.as_fd(), PATIENCE) {
                kill(&pidfd);
            }
        }
        // Only this status grants: 1 is no, 2 and 3 mean that somebody would have to authenticate.
        child.wait().is_ok_and(|status| status.code() == Some(0))
    }
}

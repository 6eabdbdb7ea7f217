//! Filters of system calls (seccomp(2)): older kernels and sandboxes, simulated. A filter holds for the thread that installs
//! it and for the threads and processes that this one starts from then on.

use std::collections::BTreeMap;

use jsoncomm_tests::skip;
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Returns true if filters can be installed. If not, says that the test is skipped.
pub(super) fn permitted() -> bool {
    if TargetArch::try_from(std::env::consts::ARCH).is_err() {
        skip("seccompiler makes no filter for this machine");
        return false;
    }
    let none = || install(&Vec::new(), SeccompAction::Allow, error(Errno::PERM)).is_ok();
    let permitted = std::thread::spawn(none).join().unwrap();
    if !permitted {
        skip("a sandbox forbids seccomp(2)");
    }
    permitted
}

/// A comparison of one argument of a system call.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    /// Counted from 0.
    pub(super) at: u8,
    pub(super) is: SeccompCmpOp,
    pub(super) value: i64,
}

/// The argument has this value.
pub(super) fn is(at: u8, value: impl Into<i64>) -> Argument {
    let (is, value) = (SeccompCmpOp::Eq, value.into());
    Argument { at, is, value }
}

/// System calls, each with the values of arguments that it must have to be meant.
pub(super) type Calls = Vec<(i64, Vec<Argument>)>;

/// Makes these calls fail from now on.
pub(super) fn refuse(calls: &Calls, errno: Errno) {
    install(calls, SeccompAction::Allow, error(errno)).unwrap();
}

/// Makes all calls but these fail from now on.
pub(super) fn refuse_all_but(calls: &Calls, errno: Errno) {
    install(calls, error(errno), SeccompAction::Allow).unwrap();
}

fn error(errno: Errno) -> SeccompAction {
    SeccompAction::Errno(errno.raw_os_error().unsigned_abs())
}

fn install(
    calls: &Calls,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<(), seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (number, arguments) in calls {
        let of = rules.entry(*number).or_default();
        let conditions: Vec<_> = arguments
            .iter()
            .map(|argument| {
                let value = u64::from(u32::try_from(argument.value).unwrap());
                let (at, length) = (argument.at, SeccompCmpArgLen::Dword);
                SeccompCondition::new(at, length, argument.is.clone(), value).unwrap()
            })
            .collect();
        if !conditions.is_empty() {
            of.push(SeccompRule::new(conditions).unwrap());
        }
    }
    let machine = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, others, these, machine).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap())
}

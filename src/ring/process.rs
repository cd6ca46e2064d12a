//! The process's cores and file descriptors.
#![allow(unsafe_code)]

use std::io;

/// The cores that this thread may use, lowest first.
pub fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: a `cpu_set_t` is a bit field, for which all zeros are a value.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is valid for its size; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = libc::CPU_SETSIZE as usize;
    // SAFETY: `core` is below CPU_SETSIZE, the count of bits of a set.
    Ok((0..count).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Keeps the calling thread on one core.
pub fn pin(core: usize) -> io::Result<()> {
    assert!(core < libc::CPU_SETSIZE as usize, "a core is one of `cores`");
    // SAFETY: as in `cores`.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: `core` is below CPU_SETSIZE, as just asserted.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is valid for its size; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the soft limit of open files to the hard one, as servers of many connections do, and
/// returns it.
pub fn raise_descriptors() -> u32 {
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `value` is a valid place for one rlimit, which is all that the call writes.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut value) };
    assert_eq!(result, 0, "a limit that exists can be read");
    let raised = libc::rlimit { rlim_cur: value.rlim_max, ..value };
    // SAFETY: `raised` is a valid rlimit, which the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        value = raised;
    }
    u32::try_from(value.rlim_cur).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_its_core_only() {
        let all = cores().expect("the set can be read");
        let last = *all.last().expect("this thread runs somewhere");
        let pinned = std::thread::spawn(move || {
            pin(last).expect("a thread can be pinned to a usable core");
            cores().expect("the set can be read")
        });
        assert_eq!(pinned.join().expect("no panic"), [last]);
        assert_eq!(cores().expect("the set can be read"), all);
    }

    #[test]
    fn raising_the_limit_twice_gives_the_same() {
        let limit = raise_descriptors();
        assert!(limit > 0);
        assert_eq!(raise_descriptors(), limit);
    }
}

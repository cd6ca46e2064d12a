//! Start-up: makes a ring of the best kind that the kernel supports, or says clearly why it cannot.
#![allow(unsafe_code)]

use core::fmt;
use io_uring::{IoUring, Probe, opcode, types};
use socket2::{Domain, Socket, Type};
use std::io;
use std::os::fd::AsRawFd;

/// The smallest queues to try before start-up gives up because locked memory is short.
const SUBMISSION_FLOOR: u32 = 64;
const COMPLETION_FLOOR: u32 = 512;

/// Kinds of ring, best first. All are for a single thread and submit all they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// Completions run when we ask (DEFER_TASKRUN), no submission array: Linux 6.6.
    Full,
    /// Completions run when we ask (DEFER_TASKRUN): Linux 6.1.
    WithArray,
    /// Completions run with any system call (COOP_TASKRUN): Linux 6.0.
    Cooperative,
}

impl Flavor {
    const ALL: [Flavor; 3] = [Flavor::Full, Flavor::WithArray, Flavor::Cooperative];

    /// Name for the start log.
    pub fn label(self) -> &'static str {
        match self {
            Flavor::Full => "deferred",
            Flavor::WithArray => "deferred, with array",
            Flavor::Cooperative => "cooperative",
        }
    }

    fn build(self, submission: u32, completion: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_taskrun_flag().setup_submit_all();
        builder.setup_clamp().setup_cqsize(completion).dontfork();
        match self {
            Flavor::Full => builder.setup_defer_taskrun().setup_no_sqarray(),
            Flavor::WithArray => builder.setup_defer_taskrun(),
            Flavor::Cooperative => builder.setup_coop_taskrun(),
        };
        builder.build(submission)
    }
}

/// Why a ring could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// EPERM; the value of kernel.io_uring_disabled, if there is one.
    NotPermitted(Option<u8>),
    /// ENOSYS.
    NotSupported,
    /// The kernel lacks something; its name, and the version that has it.
    TooOld(&'static str, &'static str),
    /// ENOMEM.
    LockedMemory {
        /// Bytes that the smallest queues need.
        needed: u64,
        /// RLIMIT_MEMLOCK in bytes.
        limit: u64,
    },
    /// EMFILE or ENFILE; RLIMIT_NOFILE.
    Descriptors(u64),
    /// Anything else: the step and the errno.
    System(&'static str, i32),
}

impl StartError {
    /// Exit code of the process (as in sysexits.h).
    pub fn exit_code(self) -> u8 {
        match self {
            StartError::NotSupported | StartError::TooOld(..) => 69,
            StartError::LockedMemory { .. } => 71,
            StartError::Descriptors(_) | StartError::System(..) => 71,
            StartError::NotPermitted(_) => 77,
        }
    }

    /// From an errno at a step.
    pub(super) fn at(step: &'static str, error: &io::Error) -> StartError {
        match error.raw_os_error().unwrap_or(0) {
            libc::EMFILE | libc::ENFILE => StartError::Descriptors(limit(libc::RLIMIT_NOFILE)),
            errno => StartError::System(step, errno),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            StartError::NotPermitted(Some(value)) if value > 0 => write!(
                f,
                "io_uring is switched off on this machine: kernel.io_uring_disabled is {value}; \
                 set it to 0"
            ),
            StartError::NotPermitted(_) => f.write_str(
                "io_uring is not permitted here: a seccomp filter, such as a container runtime's, \
                 refuses it; allow io_uring_setup, io_uring_enter and io_uring_register",
            ),
            StartError::NotSupported => f.write_str(
                "this kernel has no io_uring, or a seccomp filter hides it; Linux 6.7 or newer is \
                 needed",
            ),
            StartError::TooOld(lacks, since) => {
                write!(f, "this kernel is too old: it lacks {lacks}, which Linux {since} has")
            }
            StartError::LockedMemory { needed, limit } => write!(
                f,
                "not enough locked memory: even the smallest queues of a shard need {} KiB, and \
                 RLIMIT_MEMLOCK allows this user {} KiB for all its rings; raise it (LimitMEMLOCK= \
                 in systemd, ulimit -l in a shell) or run fewer shards",
                needed / 1024,
                limit / 1024
            ),
            StartError::Descriptors(limit) => write!(
                f,
                "out of file descriptors: RLIMIT_NOFILE is {limit}; raise it (LimitNOFILE= in \
                 systemd, ulimit -n in a shell)"
            ),
            StartError::System(step, errno) => {
                write!(f, "cannot {step}: {}", io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl std::error::Error for StartError {}

/// A ring of the requested kind, or else of the best, and its kind. Halves the queues while the
/// kernel refuses the memory.
pub(super) fn ring(
    wanted: Option<Flavor>,
    submission: u32,
    completion: u32,
) -> Result<(IoUring, Flavor), StartError> {
    for flavor in Flavor::ALL {
        if wanted.is_some_and(|wanted| wanted != flavor) {
            continue;
        }
        match sized(flavor, submission, completion) {
            Ok(ring) => return check(ring).map(|ring| (ring, flavor)),
            // EINVAL: a flag is unknown.
            Err(StartError::System(_, libc::EINVAL)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StartError::TooOld("IORING_SETUP_SINGLE_ISSUER", "6.0"))
}

fn sized(flavor: Flavor, submission: u32, completion: u32) -> Result<IoUring, StartError> {
    let (mut submission, mut completion) = (submission, completion.max(submission));
    loop {
        let error = match flavor.build(submission, completion) {
            Ok(ring) => return Ok(ring),
            Err(error) => error,
        };
        match error.raw_os_error().unwrap_or(0) {
            libc::ENOMEM if completion > COMPLETION_FLOOR || submission > SUBMISSION_FLOOR => {
                completion = (completion / 2).max(COMPLETION_FLOOR.min(completion));
                submission = (submission / 2).max(SUBMISSION_FLOOR.min(submission));
            }
            libc::ENOMEM => {
                let needed = u64::from(submission) * 68 + u64::from(completion) * 16 + 8192;
                return Err(StartError::LockedMemory {
                    needed,
                    limit: limit(libc::RLIMIT_MEMLOCK),
                });
            }
            libc::EPERM | libc::EACCES => return Err(StartError::NotPermitted(disabled())),
            libc::ENOSYS => return Err(StartError::NotSupported),
            _ => return Err(StartError::at("set up io_uring", &error)),
        }
    }
}

/// Checks what the ring can do.
fn check(mut ring: IoUring) -> Result<IoUring, StartError> {
    let features = ring.params();
    if !features.is_feature_nodrop() || !features.is_feature_ext_arg() {
        return Err(StartError::TooOld("lossless completions and timed waits", "5.11"));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|e| StartError::at("probe io_uring", &e))?;
    let needed = [
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD", "5.1"),
        (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT", "5.5"),
        (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL", "5.5"),
        (opcode::Close::CODE, "IORING_OP_CLOSE", "5.6"),
        (opcode::Write::CODE, "IORING_OP_WRITE", "5.6"),
        (opcode::Send::CODE, "IORING_OP_SEND", "5.6"),
        (opcode::RecvMulti::CODE, "IORING_OP_RECV", "5.6"),
        (opcode::Shutdown::CODE, "IORING_OP_SHUTDOWN", "5.11"),
        (opcode::MsgRingData::CODE, "IORING_OP_MSG_RING", "5.18"),
        (opcode::GetSockOpt::CODE, "IORING_OP_URING_CMD", "5.19"),
    ];
    for (code, name, since) in needed {
        if !probe.is_supported(code) {
            return Err(StartError::TooOld(name, since));
        }
    }
    check_socket_option(&mut ring)?;
    Ok(ring)
}

/// Whether connections can be moved between rings: Linux 6.8 has the newer of the two operations.
pub(super) fn can_move(ring: &IoUring) -> bool {
    let mut probe = Probe::new();
    let is_probed = ring.submitter().register_probe(&mut probe).is_ok();
    let needed = [opcode::FixedFdInstall::CODE, opcode::FilesUpdate::CODE];
    is_probed && needed.iter().all(|code| probe.is_supported(*code))
}

/// Tries to read a socket option by the ring, as peers' addresses are read: no probe reports it.
fn check_socket_option(ring: &mut IoUring) -> Result<(), StartError> {
    let at = |e: io::Error| StartError::at("try a socket", &e);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(at)?;
    let mut kind = [0u8; 4];
    let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_TYPE as u32);
    let place = kind.as_mut_ptr().cast();
    let entry = opcode::GetSockOpt::new(types::Fd(socket.as_raw_fd()), level, name, place, 4);
    // SAFETY: `kind` and `socket` live until the completion, which is awaited here: on the error
    // path nothing was submitted.
    unsafe { ring.submission().push(&entry.build()) }.expect("the queue of a new ring is empty");
    let completion = loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(at(error)),
            _ => {}
        }
        if let Some(completion) = ring.completion().next() {
            break completion;
        }
    };
    if completion.result() == 4 && i32::from_ne_bytes(kind) == libc::SOCK_STREAM {
        return Ok(());
    }
    Err(StartError::TooOld("SOCKET_URING_OP_GETSOCKOPT", "6.7"))
}

/// A resource limit of this process: its soft value.
pub(super) fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `value` is a valid place for one rlimit, which is all that the call writes.
    let result = unsafe { libc::getrlimit(resource, &mut value) };
    assert_eq!(result, 0, "limits that exist can be read");
    value.rlim_cur
}

/// The value of kernel.io_uring_disabled.
fn disabled() -> Option<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a thread of its own whose calls of io_uring_setup fail with `errno`, as they do in
    /// containers. Needs no privilege.
    fn refused(errno: i32) -> StartError {
        let thread = std::thread::spawn(move || {
            let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
                code: code as u16,
                jt,
                jf,
                k,
            };
            let number = libc::SYS_io_uring_setup as u32;
            let program = [
                // The call's number is the first word of what the filter sees.
                instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
                instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1),
                instruction(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
                instruction(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
            ];
            let filter = program.as_ptr().cast_mut();
            let filter = libc::sock_fprog { len: program.len() as u16, filter };
            // SAFETY: `filter` and its program are valid for the calls, which only read them; they
            // bind this thread alone.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                let (mode, place) = (libc::SECCOMP_SET_MODE_FILTER, core::ptr::from_ref(&filter));
                assert_eq!(libc::syscall(libc::SYS_seccomp, mode, 0, place), 0);
            }
            ring(None, 8, 32).err().expect("the filter refuses")
        });
        thread.join().expect("no panic")
    }

    #[test]
    fn a_refusal_names_its_cause() {
        let error = refused(libc::EPERM);
        assert!(matches!(error, StartError::NotPermitted(_)), "{error:?}");
        assert!(error.to_string().contains("seccomp"), "{error}");
        assert_eq!(error.exit_code(), 77);
        let switched_off = StartError::NotPermitted(Some(2)).to_string();
        assert!(switched_off.contains("kernel.io_uring_disabled is 2"), "{switched_off}");
        let error = refused(libc::ENOSYS);
        assert_eq!((error, error.exit_code()), (StartError::NotSupported, 69));
        assert!(error.to_string().contains("no io_uring"), "{error}");
        let error = refused(libc::EMFILE);
        assert!(error.to_string().contains("RLIMIT_NOFILE is "), "{error}");
        // A kernel that supports none of the kinds.
        let error = refused(libc::EINVAL);
        assert_eq!(error, StartError::TooOld("IORING_SETUP_SINGLE_ISSUER", "6.0"));
    }

    #[test]
    fn a_refusal_without_memory_names_the_limit() {
        let error = refused(libc::ENOMEM);
        let StartError::LockedMemory { needed, .. } = error else { panic!("{error:?}") };
        assert!(needed < 64 * 1024, "the smallest queues are small: {needed}");
        assert!(error.to_string().contains("RLIMIT_MEMLOCK allows"), "{error}");
    }

    /// Root has no limit on locked memory, so the thread becomes the user nobody; another user
    /// needs no privilege for this test.
    #[test]
    fn queues_shrink_to_the_memory_there_is() {
        if limit(libc::RLIMIT_MEMLOCK) > 64 << 20 {
            return; // Memory is not limited on this machine.
        }
        let thread = std::thread::spawn(|| {
            // SAFETY: takes no memory; as a plain system call it changes this thread alone.
            unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
            let mut rings = Vec::new();
            let mut is_shrunk = false;
            loop {
                match ring(None, 32_768, 65_536) {
                    Ok((ring, _)) => {
                        is_shrunk |= ring.params().sq_entries() < 32_768;
                        rings.push(ring);
                        assert!(rings.len() < 10_000, "memory is never short");
                    }
                    Err(error) => return (is_shrunk, rings.len(), error),
                }
            }
        });
        let (is_shrunk, count, error) = thread.join().expect("no panic");
        assert!(is_shrunk && count > 2, "{count} rings");
        assert!(matches!(error, StartError::LockedMemory { .. }), "{error}");
    }

    #[test]
    fn the_best_kind_is_chosen_and_each_can_be_made() {
        let (ring, best) = ring(None, 8, 32).expect("this kernel has io_uring");
        assert_eq!(best, Flavor::Full);
        assert_eq!((ring.params().sq_entries(), ring.params().cq_entries()), (8, 32));
        for flavor in Flavor::ALL {
            let (_, got) = super::ring(Some(flavor), 8, 32).expect("this kernel has all");
            assert_eq!(got, flavor);
            assert!(!flavor.label().is_empty());
        }
    }
}

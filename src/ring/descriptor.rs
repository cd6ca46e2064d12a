#![forbid(unsafe_code)]
//! A socket between two rings: released by one, not yet adopted by the other.

use core::fmt;
use socket2::SockRef;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Numbers that are not the kernel's: those of a simulated machine.
pub trait Numbers: Send + Sync {
    /// Releases a number.
    fn close(&self, number: i32);
    /// Sends these bytes, as many as there is room for.
    fn send(&self, number: i32, bytes: &[u8]);
}

/// The owner of a socket that is in no ring's table. Dropping it closes the socket: an entry that
/// is thrown away leaves nothing open.
pub struct Descriptor(Owner);

enum Owner {
    Kernel(OwnedFd),
    Other(i32, Arc<dyn Numbers>),
}

impl Descriptor {
    /// The owner of a number of a simulated machine.
    pub fn other(number: i32, numbers: Arc<dyn Numbers>) -> Descriptor {
        Descriptor(Owner::Other(number, numbers))
    }

    /// Its number, for `Op::Adopt`. It has to be kept until `Done::Adopted`.
    pub fn number(&self) -> i32 {
        match &self.0 {
            Owner::Kernel(fd) => fd.as_raw_fd(),
            Owner::Other(number, _) => *number,
        }
    }

    /// Sends a last answer, as far as the socket takes it without waiting, and closes the socket.
    pub fn refuse(self, answer: &[u8]) {
        match &self.0 {
            Owner::Kernel(fd) => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // A client that has gone, or reads nothing, is not told.
                let _ = SockRef::from(fd).send_with_flags(answer, flags);
            }
            Owner::Other(number, numbers) => numbers.send(*number, answer),
        }
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Descriptor {
        Descriptor(Owner::Kernel(fd))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Owner::Other(number, numbers) = self {
            numbers.close(*number);
        }
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({})", self.number())
    }
}

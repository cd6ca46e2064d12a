//! Counts the allocations of a test. A test with this module uses its allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations of this thread: the test harness has threads of its own.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Their bytes, with the overhead of the system's allocator (glibc: 16 bytes each).
    static HELD: Cell<i64> = const { Cell::new(0) };
}

const OVERHEAD: i64 = 16;

fn hold(bytes: i64) {
    HELD.set(HELD.get() + bytes);
}

/// The system's allocator, with counters.
struct Counting;

// SAFETY: every call is passed unchanged to the system's allocator.
#[expect(unsafe_code, reason = "an allocator cannot be made otherwise")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        hold(layout.size() as i64 + OVERHEAD);
        // SAFETY: the caller's promise on `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64 + OVERHEAD));
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        hold(size as i64 - layout.size() as i64);
        // SAFETY: as for `dealloc`; the caller's promise on `size` is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations while `work` runs.
pub fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = COUNT.get();
    let answer = work();
    (COUNT.get() - before, answer)
}

/// Bytes that this thread has allocated and not freed; only differences have a meaning.
#[allow(dead_code, reason = "not every test with this module asks")]
pub fn held() -> i64 {
    HELD.get()
}

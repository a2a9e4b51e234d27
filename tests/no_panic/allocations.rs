//! What each thread takes from the allocator: the tests run side by side.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Watching;

/// Bytes since [`begin`], on this thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// The largest single allocation.
    pub largest: usize,
    /// The most that was held at one time.
    pub most: isize,
    /// What is held now. Below zero where something older was given back.
    held: isize,
}

thread_local! {
    static TAKEN: Cell<Taken> = const { Cell::new(Taken { largest: 0, most: 0, held: 0 }) };
}

/// Counts anew.
pub fn begin() {
    TAKEN.set(Taken::default());
}

/// What was taken since.
pub fn taken() -> Taken {
    TAKEN.get()
}

fn change(bytes: isize) {
    // A thread that ends allocates after its variables are gone.
    let _ = TAKEN.try_with(|taken| {
        let mut now = taken.get();
        now.held += bytes;
        now.most = now.most.max(now.held);
        now.largest = now.largest.max(usize::try_from(bytes).unwrap_or(0));
        taken.set(now);
    });
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        change(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        change(-(layout.size() as isize));
        // SAFETY: the pointer came from `System` by `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

//! The program's allocator: mimalloc, and an end with a message where it has no memory left.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

/// Exit code of a program without memory.
const OUT_OF_MEMORY: i32 = 31;

/// mimalloc; a failed request ends the process with code 31, where Rust would abort it with the code of a crash.
pub(crate) struct Allocator;

// SAFETY: every call goes to `MiMalloc` with the arguments it came with, so its guarantees are this allocator's; what is
// added runs only after a request has failed, never returns, and allocates nothing.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        some_or_exit(unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        some_or_exit(unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        some_or_exit(unsafe { MiMalloc.realloc(pointer, layout, new_size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; every pointer given out here is mimalloc's.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

fn some_or_exit(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        use std::io::Write;
        // Standard error has no buffer, and the text is constant.
        let _ = std::io::stderr().write_all(
            b"error: out of memory; checkpoints that there are stay intact: train with `--auto-batch`, or a smaller `--batch-size` or `--width` \
              (`cargo xtask summary` shows the memory of a step)\n",
        );
        std::process::exit(OUT_OF_MEMORY);
    }
    pointer
}

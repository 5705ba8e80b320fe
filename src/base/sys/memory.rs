//! Gives memory back that a process which mostly waits does not need.

use std::ffi::c_void;

const PAGE: usize = 4096;

/// Returns what was only needed for a start: free heap, and the pages of this program that have been mapped. Those of
/// its code and constants are clean and come back by page faults where they are used again; its data stay.
pub fn trim() {
    // SAFETY: returns free memory of the allocator to the kernel.
    unsafe { libc::malloc_trim(0) };
    forget_stack();
    // SAFETY: calls `forget_program` for this program's headers, which stay mapped for its life.
    unsafe { libc::dl_iterate_phdr(Some(forget_program), std::ptr::null_mut()) };
}

/// Frees the part of the stack that deeper calls have used before.
fn forget_stack() {
    const KEPT: usize = 16 * 1024;
    const DEPTH: usize = 512 * 1024;
    let here = std::ptr::from_ref(&KEPT.to_ne_bytes()).addr();
    let end = (here - KEPT) / PAGE * PAGE;
    // SAFETY: below what is in use the stack holds nothing; where it was never as deep there is nothing mapped, which
    // the kernel passes over.
    unsafe { libc::madvise((end - DEPTH) as *mut c_void, DEPTH, libc::MADV_DONTNEED) };
}

/// # Safety
/// To be called by `dl_iterate_phdr` only, whose `info` is valid during the call.
unsafe extern "C" fn forget_program(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> libc::c_int {
    // SAFETY: by contract.
    let info = unsafe { &*info };
    // SAFETY: the loader says that there are so many headers there.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        // What is never written is as the file has it. Relocated constants are in a writable segment.
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (info.dlpi_addr + header.p_vaddr) as usize;
        let end = start + header.p_memsz as usize;
        let (start, end) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        if start < end {
            // SAFETY: whole pages of a private, read-only mapping of a file: their content is read from it again.
            unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    // The first object is the program; there may be shared libraries after it.
    1
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_runs_on_after_its_pages_are_gone() {
        let text = format!("{:?}", std::env::args().next());
        super::trim();
        assert_eq!(text, format!("{:?}", std::env::args().next()));
    }
}

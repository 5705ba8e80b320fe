//! Inflating gzip with ISA-L's igzip behind a safe, pointer-free step function.
//!
//! The crate's own reader is not used: it keeps pointers into itself between calls, takes a truncated stream for a
//! finished one and looks at 16 KiB at a time. igzip's parser of the header is not used either: it forgets the flags
//! when the header comes in pieces.

use isal::isal_sys::igzip_lib as ffi;

/// Why a stream cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// The deflate data breaks the rules of RFC 1951.
    #[error("gzip: invalid deflate data")]
    Data,
    /// CRC-32 or length in the trailer differ from those of the data.
    #[error("gzip: invalid checksum")]
    Checksum,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes taken from the input.
    pub consumed: usize,
    /// Bytes written to the output.
    pub produced: usize,
    /// True when the member's trailer has been read and verified.
    pub finished: bool,
}

/// The state of one gzip member after its header: about 90 KiB, of fixed size whatever the input says.
pub struct Inflater(Box<ffi::inflate_state>);

// SAFETY: the state's two raw pointers are set at each step and not looked at outside of it.
unsafe impl Send for Inflater {}

impl Default for Inflater {
    fn default() -> Self {
        // SAFETY: the state is a C structure of integers, arrays and pointers: all zeroes are a value of it.
        let mut state: Box<ffi::inflate_state> = unsafe { Box::new_zeroed().assume_init() };
        // SAFETY: a valid, exclusively borrowed state.
        unsafe { ffi::isal_inflate_init(&mut *state) };
        // No header; the trailer is read and verified.
        state.crc_flag = ffi::ISAL_GZIP_NO_HDR_VER;
        Self(state)
    }
}

impl Inflater {
    /// Inflates until the input is used up, the output is full or the member ends.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Corrupt> {
        let (offered, room) = (clamp(input.len()), clamp(output.len()));
        let state = &mut *self.0;
        // igzip's field is not const; it never writes through it.
        state.next_in = input.as_ptr().cast_mut();
        state.avail_in = offered;
        state.next_out = output.as_mut_ptr();
        state.avail_out = room;
        // SAFETY: both pointers are valid for the lengths beside them during this call, the output exclusively so.
        let code = unsafe { ffi::isal_inflate(state) };
        let step = Step {
            consumed: (offered - state.avail_in) as usize,
            produced: (room - state.avail_out) as usize,
            finished: state.block_state == ffi::isal_block_state_ISAL_BLOCK_FINISH,
        };
        state.next_in = std::ptr::null_mut();
        state.next_out = std::ptr::null_mut();
        match code {
            0 => Ok(step),
            _ if code == ffi::ISAL_INCORRECT_CHECKSUM => Err(Corrupt::Checksum),
            _ => Err(Corrupt::Data),
        }
    }

    /// Makes ready for another member.
    pub fn reset(&mut self) {
        // SAFETY: an initialised, exclusively borrowed state; `crc_flag` is kept.
        unsafe { ffi::isal_inflate_reset(&mut *self.0) };
    }
}

fn clamp(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

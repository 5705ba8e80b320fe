//! Finds the keys by which a user leaves a terminal without ending what runs in it.

/// Watches a client's input for its detach keys.
#[derive(Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    /// How many of the keys have been typed in a row; they are held back.
    matched: usize,
}

/// What becomes of a piece of input.
#[derive(PartialEq, Eq, Debug)]
pub enum Typed {
    /// Goes to the process.
    Forward(Vec<u8>),
    /// Goes to the process, and then the client leaves.
    Leave(Vec<u8>),
}

impl DetachKeys {
    /// Watches for `keys`; empty ones never match.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Sorts out a piece of input. A beginning of the keys that goes on otherwise is forwarded in full.
    pub fn sift(&mut self, input: &[u8]) -> Typed {
        let mut forward = Vec::with_capacity(input.len() + self.matched);
        for &byte in input {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Typed::Leave(forward);
                }
                continue;
            }
            forward.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.len() > 1 && self.keys.first() == Some(&byte));
            if self.matched == 0 {
                forward.push(byte);
            }
        }
        Typed::Forward(forward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = DetachKeys::new(keys.to_vec());
        let mut all = Vec::new();
        for piece in pieces {
            match detach.sift(piece) {
                Typed::Forward(bytes) => all.extend(bytes),
                Typed::Leave(bytes) => {
                    all.extend(bytes);
                    return (all, true);
                }
            }
        }
        (all, false)
    }

    #[test]
    fn only_the_keys_in_a_row_detach() {
        for (keys, pieces, forwarded, left) in [
            (&b"\x10\x11"[..], &[&b"ab\x10\x11cd"[..]][..], &b"ab"[..], true),
            (b"\x10\x11", &[b"\x10", b"\x11"], b"", true),
            (b"\x10\x11", &[b"\x10", b"x\x11"], b"\x10x\x11", false),
            (b"\x10\x11", &[b"\x10\x10\x11"], b"\x10", true),
            (b"\x10\x11", &[b"\x10"], b"", false),
            (b"q", &[b"abqc"], b"ab", true),
            (b"", &[b"\x10\x11"], b"\x10\x11", false),
        ] {
            assert_eq!(typed(keys, pieces), (forwarded.to_vec(), left), "{keys:?} {pieces:?}");
        }
    }
}

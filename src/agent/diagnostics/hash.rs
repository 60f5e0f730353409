//! A fast hash that is the same in every version: FNV-1a with 64 bits (the IETF's draft-eastlake-fnv).
//!
//! It tells kinds of entries and units apart. Nothing secret or hostile hangs on it: who could make two kinds collide
//! could as well write the same text twice.

#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn new() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    pub(super) fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
        // Ends the text: no byte of UTF-8 is this one.
        self.byte(0xff);
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }

    pub(super) fn of(text: &str) -> u64 {
        let mut hash = Hash::new();
        hash.text(text);
        hash.value()
    }
}

//! Request ids: UUIDs from a seed and a counter, so that a run can be repeated.

use sha2::{Digest, Sha256};

use crate::protocol::ReqId;

/// A generator of request ids.
#[derive(Debug)]
pub(super) struct Ids {
    seed: [u8; 32],
    counter: u64,
}

impl Ids {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Ids { seed, counter: 0 }
    }

    /// The next UUID, version 4 in form.
    pub(super) fn next(&mut self) -> String {
        self.counter += 1;
        let digest = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.counter.to_be_bytes())
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    pub(super) fn next_req_id(&mut self) -> ReqId {
        ReqId::new(self.next()).expect("a UUID is neither empty nor too long")
    }
}

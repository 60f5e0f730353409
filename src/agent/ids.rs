//! Request ids and jitter out of one seed: a run with the same seed and the same events is the same run.

use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Builder;

use crate::protocol::ReqId;

#[derive(Debug, Clone, Default)]
pub(super) struct Ids {
    seed: [u8; 16],
    drawn: u64,
    /// Publishes, operations and the like: unique within a run.
    last: u64,
}

impl Ids {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        Ids {
            seed,
            drawn: 0,
            last: 0,
        }
    }

    fn draw(&mut self) -> [u8; 16] {
        self.drawn += 1;
        let digest = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.drawn.to_be_bytes())
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes
    }

    /// A new request id: a UUID, version 4.
    pub(super) fn req_id(&mut self) -> ReqId {
        let text = Builder::from_random_bytes(self.draw()).into_uuid().to_string();
        ReqId::new(text).expect("a UUID is neither empty nor long")
    }

    /// A number that no other call of this run gets.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Evenly between nothing and `limit`.
    pub(super) fn jitter(&mut self, limit: Duration) -> Duration {
        let bytes = self.draw();
        let fraction = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        limit.mul_f64(f64::from(fraction) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn env_03_own_request_ids_are_unique_uuids() {
        let mut seen = BTreeSet::new();
        for seed in 0..4 {
            let mut ids = Ids::new([seed; 16]);
            for _ in 0..500 {
                let id = ids.req_id();
                let uuid = uuid::Uuid::parse_str(id.as_str()).expect("a UUID");
                assert_eq!(uuid.get_version_num(), 4);
                assert!(seen.insert(id));
            }
        }
    }

    #[test]
    fn jitter_stays_within_its_limit() {
        let mut ids = Ids::new([7; 16]);
        let drawn: Vec<_> = (0..200).map(|_| ids.jitter(Duration::from_secs(10))).collect();
        assert!(drawn.iter().all(|jitter| *jitter <= Duration::from_secs(10)));
        assert!(
            drawn.iter().min() < Some(&Duration::from_secs(2)) && drawn.iter().max() > Some(&Duration::from_secs(8))
        );
    }
}

//! Return codes (device management protocol, "return codes").

use std::fmt;

/// The `rc` of a response. The constants are the protocol's own; any other number that a peer sends is kept as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Rc(pub u16);

impl Rc {
    /// Done.
    pub const OK: Rc = Rc(200);
    /// An initiated action starts now.
    pub const ACCEPTED: Rc = Rc(202);
    /// Attributes changed.
    pub const CHANGED: Rc = Rc(204);
    /// Malformed, out of range, or the device is not in the right state for it.
    pub const BAD_REQUEST: Rc = Rc(400);
    /// Manage claims actions that the service does not know.
    pub const FORBIDDEN: Rc = Rc(403);
    /// Attribute, field or device not found.
    pub const NOT_FOUND: Rc = Rc(404);
    /// A conflict: try again later.
    pub const CONFLICT: Rc = Rc(409);
    /// The attempt failed.
    pub const INTERNAL: Rc = Rc(500);
    /// The operation is not implemented here.
    pub const NOT_IMPLEMENTED: Rc = Rc(501);

    /// True for 200 to 299.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }
}

impl fmt::Display for Rc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

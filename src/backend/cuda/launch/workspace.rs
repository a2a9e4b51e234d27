//! Scratch memory that launches share, one after the other.

/// What a launch needs besides its inputs and outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Workspace {
    /// Bytes of f32 partial results; contents undefined before and after.
    pub partial_bytes: u64,
    /// Number of u32 counters, zero before and after.
    pub arrivals: u64,
}

impl Workspace {
    /// Enough for either.
    #[must_use]
    pub fn larger(self, other: Workspace) -> Workspace {
        Workspace {
            partial_bytes: self.partial_bytes.max(other.partial_bytes),
            arrivals: self.arrivals.max(other.arrivals),
        }
    }
}

//! Where the spaces lie among generic addresses.

use crate::parse::ast::Space;

/// Bytes of each window.
const WINDOW: u64 = 1 << 32;
/// Shared memory.
pub const SHARED_WINDOW: u64 = 0x0100_0000_0000;
/// Local memory; every thread finds its own there.
pub const LOCAL_WINDOW: u64 = 0x0200_0000_0000;
/// Kernel parameters.
pub const PARAM_WINDOW: u64 = 0x0300_0000_0000;
/// First address of an allocation.
pub const GLOBAL_START: u64 = 0x7000_0000_0000;

/// Space of a generic address, and the address in that space.
#[inline]
pub fn split(address: u64) -> (Space, u64) {
    for (start, space) in
        [(SHARED_WINDOW, Space::Shared), (LOCAL_WINDOW, Space::Local), (PARAM_WINDOW, Space::Param)]
    {
        if address.wrapping_sub(start) < WINDOW {
            return (space, address - start);
        }
    }
    (Space::Global, address)
}

//! Shared memory's 32 banks of four bytes.

/// Passes over the banks that accesses need which are made at once, a list of the words that they touch; words that
/// several lanes touch count once.
pub fn passes(words: &[u32]) -> u64 {
    // Distinct words so far, by bank: most often one.
    let mut first = [u32::MAX; 32];
    let mut count = [0u8; 32];
    let mut more: [u32; 128] = [0; 128];
    let mut extra = 0;
    for &word in words {
        let bank = word as usize % 32;
        if first[bank] == word {
            continue;
        }
        if count[bank] == 0 {
            first[bank] = word;
        } else if more[..extra].contains(&word) {
            continue;
        } else {
            more[extra] = word;
            extra += 1;
        }
        count[bank] += 1;
    }
    u64::from(count.iter().copied().max().unwrap_or(0))
}

/// Whether the lanes of a group, at most 32 / words of them, each touch words of their own in banks of their own.
#[inline]
fn apart(addresses: &[u64], mask: u32, width: u32) -> bool {
    let shift = width.max(4).trailing_zeros();
    let slots = addresses.len() as u64 - 1;
    let mut bits = 0u32;
    for (lane, address) in addresses.iter().enumerate() {
        bits |= (mask >> lane & 1) << (address >> shift & slots);
    }
    bits.count_ones() == mask.count_ones()
}

/// Passes of one warp instruction, and how many there would be without conflicts. Accesses of up to 4 bytes are made
/// at once, those of 8 bytes by half warps, those of 16 bytes by quarters.
pub fn warp_passes(addresses: &[u64; 32], mask: u32, width: u32) -> (u64, u64) {
    let lanes_at_once = match width {
        8 => 16,
        16 => 8,
        _ => 32,
    };
    let (mut total, mut least) = (0, 0);
    let mut words = [0; 64];
    for group in (0..32).step_by(lanes_at_once) {
        let here = (mask >> group) & (!0 >> (32 - lanes_at_once));
        if here == 0 {
            continue;
        }
        least += 1;
        if apart(&addresses[group..group + lanes_at_once], here, width) {
            total += 1;
            continue;
        }
        let mut count = 0;
        for (lane, address) in addresses.iter().enumerate().skip(group).take(lanes_at_once) {
            if mask >> lane & 1 != 0 {
                let first = (address / 4) as u32;
                for word in 0..width.div_ceil(4) {
                    words[count] = first + word;
                    count += 1;
                }
            }
        }
        total += passes(&words[..count]);
    }
    (total, least)
}

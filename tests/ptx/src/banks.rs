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
        let mut count = 0;
        for lane in group..group + lanes_at_once {
            if mask >> lane & 1 != 0 {
                let first = (addresses[lane] / 4) as u32;
                for word in 0..width.div_ceil(4) {
                    words[count] = first + word;
                    count += 1;
                }
            }
        }
        if count > 0 {
            total += passes(&words[..count]);
            least += 1;
        }
    }
    (total, least)
}

//! Shared memory's 32 banks of four bytes.

/// Passes over the banks that accesses need which are made at once, a list of the words that they touch; words that
/// several lanes touch count once.
pub fn passes(words: &[u32]) -> u64 {
    // Distinct words so far, by bank: most often one.
    let mut first = [u32::MAX; 32];
    let mut count = [0u8; 32];
    let mut more = [0; 32];
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

/// Whether all lanes of a group of `N` are active and in banks of their own, `32 / N` banks each.
#[inline]
fn apart<const N: usize>(addresses: &[u64], active: u32) -> bool {
    let Ok(addresses) = <&[u64; N]>::try_from(addresses) else {
        return false;
    };
    let shift = 7 - N.trailing_zeros();
    let taken =
        addresses.iter().fold(0u64, |taken, address| taken | 1 << (address >> shift & (N as u64 - 1)));
    taken.count_ones() == N as u32 && active.count_ones() == N as u32
}

/// Passes of one warp instruction, and how many there would be without conflicts. Accesses of up to 4 bytes are made
/// at once, those of 8 bytes by half warps, those of 16 bytes by quarters.
pub fn warp_passes(addresses: &[u64; 32], mask: u32, width: u32) -> (u64, u64) {
    match width {
        8 => by_groups::<16>(addresses, mask, width),
        16 => by_groups::<8>(addresses, mask, width),
        _ => by_groups::<32>(addresses, mask, width),
    }
}

#[inline]
fn by_groups<const N: usize>(addresses: &[u64; 32], mask: u32, width: u32) -> (u64, u64) {
    let (mut total, mut least) = (0, 0);
    for (group, addresses) in addresses.chunks_exact(N).enumerate() {
        let active = mask >> (N * group) & (!0 >> (32 - N));
        if active == 0 {
            continue;
        }
        least += 1;
        if apart::<N>(addresses, active) {
            total += 1;
            continue;
        }
        let mut words = [0; 32];
        let mut count = 0;
        for (_, address) in addresses.iter().enumerate().filter(|(lane, _)| active >> lane & 1 != 0) {
            for word in 0..width.div_ceil(4) {
                words[count] = (address / 4) as u32 + word;
                count += 1;
            }
        }
        total += passes(&words[..count]);
    }
    (total, least)
}

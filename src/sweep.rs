//! The sweep grammar of the command line: `1,8,32` and `1-256*2`, freely mixed.

use std::str::FromStr;

/// Most values one sweep may have.
const MOST: usize = 64;

/// Values in ascending order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep(pub Vec<u32>);

impl FromStr for Sweep {
    type Err = String;

    /// `N`, `FIRST-LAST` (steps of one), `FIRST-LAST*FACTOR`, `FIRST-LAST+STEP`, joined by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut values = Vec::new();
        for part in text.split(',') {
            expand(part.trim(), &mut values)?;
            if values.len() > MOST {
                return Err(format!("more than {MOST} values: use a factor, as in 1-256*2"));
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(Sweep(values))
    }
}

/// The value after one, until it overflows.
type Next = Box<dyn Fn(u32) -> Option<u32>>;

fn expand(part: &str, values: &mut Vec<u32>) -> Result<(), String> {
    let number = |text: &str| match text.trim().parse::<u32>() {
        Ok(0) => Err("0 is not allowed: values begin at 1".to_string()),
        Ok(value) => Ok(value),
        Err(_) => Err(format!("\"{}\" is no number: write 1,8,32 or 1-256*2", text.trim().escape_debug())),
    };
    let Some((first, rest)) = part.split_once('-') else {
        values.push(number(part)?);
        return Ok(());
    };
    let shown = part.escape_debug();
    let (last, next): (&str, Next) = if let Some((last, factor)) = rest.split_once('*') {
        let factor = number(factor)?;
        if factor < 2 {
            return Err(format!("\"{shown}\" never ends: the factor must be 2 or more"));
        }
        (last, Box::new(move |x| x.checked_mul(factor)))
    } else if let Some((last, step)) = rest.split_once('+') {
        let step = number(step)?;
        (last, Box::new(move |x| x.checked_add(step)))
    } else {
        (rest, Box::new(|x| x.checked_add(1)))
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("\"{shown}\" is empty: {first} is above {last}"));
    }
    let mut value = Some(first);
    while let Some(x) = value.filter(|&x| x <= last) {
        if values.len() >= MOST {
            return Err(format!("\"{shown}\" gives more than {MOST} values: use a factor, as in 1-256*2"));
        }
        values.push(x);
        value = next(x);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sweep_has_more_than_64_values() {
        assert_eq!("51-112,1,8".parse::<Sweep>().map(|sweep| sweep.0.len()), Ok(64));
        // What the fuzzer found: single values after a range were not counted.
        for long in ["51-112,1,2,211,2", "1-65", "1-40,100-140"] {
            assert!(long.parse::<Sweep>().is_err_and(|message| message.contains("more than 64")), "{long}");
        }
    }
}

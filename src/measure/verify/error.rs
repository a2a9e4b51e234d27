//! Relative errors of rows, and the largest of them.

use super::Row;
use crate::model::Precision;

/// ||out - ref|| / ||ref||; infinite for lengths that differ and for what is no number.
pub(super) fn of_row(out: &[f32], reference: &[f64]) -> f64 {
    if out.len() != reference.len() {
        return f64::INFINITY;
    }
    let square = |sum: f64, x: f64| sum + x * x;
    let difference = out.iter().zip(reference).map(|(o, r)| f64::from(*o) - r).fold(0.0, square).sqrt();
    ratio(difference, reference.iter().copied().fold(0.0, square).sqrt())
}

/// Largest |out - ref| relative to the larger of |ref| and the row's root mean square.
fn of_element(out: &[f32], reference: &[f64]) -> f64 {
    let mean = reference.iter().map(|r| r * r).sum::<f64>() / reference.len().max(1) as f64;
    let errors =
        out.iter().zip(reference).map(|(o, r)| ratio((f64::from(*o) - r).abs(), mean.sqrt().max(r.abs())));
    errors.fold(0.0, f64::max)
}

fn ratio(difference: f64, size: f64) -> f64 {
    match difference / size {
        x if x.is_finite() => x,
        // 0 of 0: nothing was to come out, and nothing did.
        _ if difference == 0.0 => 0.0,
        _ => f64::INFINITY,
    }
}

/// The largest errors of one check so far.
#[derive(Debug, Default)]
pub(super) struct Largest {
    error: f64,
    element: f64,
    /// What `at` was taken at.
    taken: f64,
    rows: u64,
    at: String,
}

impl Largest {
    /// Compares `[row][width]`; `place` names a row by its number.
    pub fn compare(&mut self, out: &[f32], reference: &[f64], width: usize, place: impl Fn(usize) -> String) {
        if out.len() != reference.len() {
            *self = Largest {
                error: f64::INFINITY,
                element: f64::INFINITY,
                taken: f64::INFINITY,
                rows: self.rows,
                at: format!("{}: {} values instead of {}", place(0), out.len(), reference.len()),
            };
            return;
        }
        for (i, (out, reference)) in out.chunks(width).zip(reference.chunks(width)).enumerate() {
            let (error, element) = (of_row(out, reference), of_element(out, reference));
            self.rows += 1;
            self.error = self.error.max(error);
            self.element = self.element.max(element);
            if error.max(element) > self.taken {
                self.taken = error.max(element);
                self.at = place(i);
            }
        }
    }

    /// The row of this check.
    pub fn row(self, precision: Precision, check: &str, bound: f64, element_bound: f64) -> Row {
        Row {
            precision,
            unquantised_error: None,
            check: check.into(),
            error: self.error,
            bound,
            element_error: Some(self.element),
            element_bound: Some(element_bound),
            rows: self.rows,
            at: self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_element_is_seen() {
        let reference = vec![1.0; 264];
        let mut out = vec![1.0f32; 264];
        out[7] = 1.05;
        assert!(of_row(&out, &reference) < 0.01);
        assert!(of_element(&out, &reference) > 0.049);
    }

    #[test]
    fn what_is_no_number_is_an_infinite_error() {
        for wrong in [f32::NAN, f32::INFINITY] {
            assert_eq!(of_row(&[1.0, wrong], &[1.0, 1.0]), f64::INFINITY);
            assert_eq!(of_element(&[1.0, wrong], &[1.0, 1.0]), f64::INFINITY);
        }
        assert_eq!(of_row(&[1.0], &[1.0, 1.0]), f64::INFINITY);
        assert_eq!(of_row(&[0.0], &[0.0]), 0.0);
        assert_eq!(of_row(&[0.1], &[0.0]), f64::INFINITY);
    }
}

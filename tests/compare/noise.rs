//! Public noise models: how much each trial of each point takes, over what it would take without noise.
//!
//! A model's CV is the standard deviation of a trial over its mean (of the normal part alone for what drifts), so that the
//! models are equally noisy and differ only in kind.

use llmroof::stats::random::Random;

/// A kind of noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// Normal.
    Normal,
    /// Log-normal: skewed, more so the noisier.
    LogNormal,
    /// Normal, but a tenth of the trials are interrupted: slower by up to ten times what the others scatter.
    Outliers,
    /// Two states of the machine, each half of the time, 1.8 CV apart.
    TwoHumped,
    /// Normal around a line that rises by two CV from the first trial of both sides to the last.
    Drift,
    /// Each trial remembers half of the trial before it (in time, whichever side it is of).
    Ar1,
}

/// Whether points share their noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Among {
    /// Each point has its own.
    Own,
    /// All points of a trial have the same.
    Shared,
    /// Half of the variance is the trial's, half the point's.
    Half,
}

impl Noise {
    /// Factors of one point in the order of time, one for each trial: 1 is no noise.
    pub fn factors(self, cv: f64, trials: usize, random: &mut Random) -> Vec<f64> {
        self.scores(trials, random)
            .into_iter()
            .map(|score| match self {
                // Exactly the CV that is asked for.
                Noise::LogNormal => ((1.0 + cv * cv).ln().sqrt() * score).exp(),
                // A time cannot be negative, at a CV of 10% one in 10^23 would be.
                _ => (1.0 + cv * score).max(0.01),
            })
            .collect()
    }

    /// Deviations of variance 1.
    fn scores(self, trials: usize, random: &mut Random) -> Vec<f64> {
        let mut last = random.normal();
        (0..trials)
            .map(|_| match self {
                Noise::Normal | Noise::LogNormal | Noise::Drift => random.normal(),
                Noise::Outliers => {
                    let late = if random.uniform() < 0.1 { 10.0 * random.uniform() } else { 0.0 };
                    // Variance of the lateness: 0.1 x 100/3 - 0.5^2.
                    (random.normal() + late - 0.5) / (1.0f64 + 0.1 * 100.0 / 3.0 - 0.25).sqrt()
                }
                Noise::TwoHumped => {
                    let state = if random.uniform() < 0.5 { -0.9 } else { 0.9 };
                    state + (1.0f64 - 0.81).sqrt() * random.normal()
                }
                Noise::Ar1 => {
                    let now = last;
                    last = 0.5 * last + 0.75f64.sqrt() * random.normal();
                    now
                }
            })
            .collect()
    }

    /// Factors of several points: `[point][trial]`.
    pub fn of_points(
        self,
        among: Among,
        cv: f64,
        (points, trials): (usize, usize),
        random: &mut Random,
    ) -> Vec<Vec<f64>> {
        // The drift is the machine's: all points have it.
        let line = |at: usize| match self {
            Noise::Drift => 1.0 + cv * 2.0 * at as f64 / (trials - 1) as f64,
            _ => 1.0,
        };
        let (of_trial, of_point) = match among {
            Among::Own => (0.0, cv),
            Among::Shared => (cv, 0.0),
            Among::Half => (cv * 0.5f64.sqrt(), cv * 0.5f64.sqrt()),
        };
        let shared: Vec<f64> =
            self.factors(of_trial, trials, random).iter().enumerate().map(|(at, x)| x * line(at)).collect();
        (0..points)
            .map(|_| {
                let own = self.factors(of_point, trials, random);
                own.iter().zip(&shared).map(|(own, shared)| own * shared).collect()
            })
            .collect()
    }
}

#[test]
fn every_noise_has_the_cv_that_it_says() {
    for noise in [Noise::Normal, Noise::LogNormal, Noise::Outliers, Noise::TwoHumped, Noise::Ar1] {
        for cv in [0.01, 0.1] {
            let factors = noise.factors(cv, 200_000, &mut Random::new(3));
            let count = factors.len() as f64;
            let mean = factors.iter().sum::<f64>() / count;
            let variance = factors.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            assert!((variance.sqrt() / mean / cv - 1.0).abs() < 0.03, "{noise:?} at {cv}");
        }
    }
}

//! What a quarter of an hour will be: by the same quarter of the day before, and by Holt-Winters.
//!
//! Promises: constant memory. Seasonal naive is the floor: the newest value of the same quarter of the day. Additive
//! Holt-Winters with a damped trend (Gardner 1985, `DA-A`) begins when a day is known. Each candidate keeps its running
//! errors, Holt-Winters one step ahead and four hours ahead, and the one that errs less over the horizon answers.

use super::SEASON;

/// Steps after which the further error of Holt-Winters is measured: four hours.
pub(crate) const FAR: usize = 16;
/// Weights of the newest value in level, trend and season, and what is left of a trend after a step: slow enough that
/// a bad hour does not become the forecast of the next day.
const LEVEL: f64 = 0.2;
const TREND: f64 = 0.02;
const SEASONAL: f64 = 0.2;
const DAMPING: f64 = 0.9;
/// Weight of the newest error: some two days speak.
const ERROR: f64 = 1.0 / 192.0;
/// Quarters of the first day that have to be known.
const KNOWN_MIN: u32 = 72;
/// Errors that have to be known before anything is compared with them.
pub(crate) const ERRORS_MIN: u32 = 16;
/// There is no value.
const NONE: f32 = f32::INFINITY;

/// A running mean of squared errors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Errors {
    pub(crate) squares: f32,
    pub(crate) count: u32,
}

impl Errors {
    fn add(&mut self, error: f64) {
        self.count = self.count.saturating_add(1);
        // The first ones all weigh the same.
        let weight = (1.0 / f64::from(self.count)).max(ERROR);
        let squares = f64::from(self.squares);
        self.squares = (squares + weight * (error * error - squares)).min(f64::from(f32::MAX)) as f32;
    }

    pub(crate) fn squares(&self) -> Option<f64> {
        (self.count >= ERRORS_MIN).then(|| f64::from(self.squares))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    /// The newest value of each quarter of the day.
    pub(crate) newest: Box<[f32; SEASON]>,
    pub(crate) season: Box<[f32; SEASON]>,
    pub(crate) level: f64,
    pub(crate) trend: f64,
    /// The quarter learnt last, and the first one.
    pub(crate) last_slot: i64,
    pub(crate) first_slot: i64,
    pub(crate) known: u32,
    pub(crate) is_seasonal: bool,
    /// What Holt-Winters said four hours ago, by the quarter it said it of.
    pub(crate) far: [f32; FAR],
    pub(crate) naive_errors: Errors,
    pub(crate) near_errors: Errors,
    pub(crate) far_errors: Errors,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            newest: Box::new([NONE; SEASON]),
            season: Box::new([0.0; SEASON]),
            level: 0.0,
            trend: 0.0,
            last_slot: 0,
            first_slot: 0,
            known: 0,
            is_seasonal: false,
            far: [NONE; FAR],
            naive_errors: Errors::default(),
            near_errors: Errors::default(),
            far_errors: Errors::default(),
        }
    }
}

/// Which candidate answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    SeasonalNaive,
    HoltWinters,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SeasonalNaive => "seasonal_naive",
            Self::HoltWinters => "holt_winters",
        }
    }
}

/// A forecast of one quarter: its value, and the standard deviation of such forecasts so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expected {
    pub(crate) value: f64,
    pub(crate) deviation: f64,
}

fn phase(slot: i64) -> usize {
    slot.rem_euclid(SEASON as i64) as usize
}

fn known(value: f32) -> Option<f64> {
    value.is_finite().then_some(f64::from(value))
}

impl Model {
    pub(crate) const HEAP_BYTES: usize = 2 * SEASON * size_of::<f32>();

    fn naive(&self, slot: i64) -> Option<f64> {
        known(self.newest[phase(slot)])
    }

    fn holt_winters(&self, slot: i64) -> Option<f64> {
        if !self.is_seasonal {
            return None;
        }
        let steps = slot.saturating_sub(self.last_slot).clamp(1, 10_000);
        // The sum of the damped steps of the trend.
        let damped = DAMPING * (1.0 - DAMPING.powi(steps as i32)) / (1.0 - DAMPING);
        Some(self.level + self.trend * damped + f64::from(self.season[phase(slot)]))
    }

    /// The squared error of Holt-Winters some steps ahead: measured at one and at sixteen, between them in a line.
    fn holt_winters_squares(&self, steps: i64) -> Option<f64> {
        let (near, far) = (self.near_errors.squares()?, self.far_errors.squares()?);
        let share = (steps - 1).max(0) as f64 / (FAR - 1) as f64;
        Some((near + (far - near) * share).max(near.min(far)))
    }

    /// What the next quarter was expected to be, by the better candidate; `None` while too little is known to say.
    pub(crate) fn expected(&self, slot: i64) -> Option<Expected> {
        let method = self.method(1)?;
        self.forecast(slot, method)
    }

    /// The candidate that errs less so many steps ahead.
    pub(crate) fn method(&self, steps: i64) -> Option<Method> {
        match (self.naive_errors.squares(), self.holt_winters_squares(steps)) {
            (Some(naive), Some(holt_winters)) if holt_winters < naive => Some(Method::HoltWinters),
            (Some(_), _) => Some(Method::SeasonalNaive),
            (None, Some(_)) => Some(Method::HoltWinters),
            (None, None) => None,
        }
    }

    pub(crate) fn forecast(&self, slot: i64, method: Method) -> Option<Expected> {
        let steps = slot.saturating_sub(self.last_slot).max(1);
        let (value, squares) = match method {
            Method::SeasonalNaive => (self.naive(slot)?, self.naive_errors.squares()?),
            Method::HoltWinters => (self.holt_winters(slot)?, self.holt_winters_squares(steps)?),
        };
        Some(Expected {
            value,
            deviation: squares.sqrt(),
        })
    }

    /// A quarter is over.
    pub(crate) fn learn(&mut self, slot: i64, value: f64) {
        if !(value as f32).is_finite() {
            return;
        }
        if self.known == 0 {
            self.first_slot = slot;
        }
        if let Some(naive) = self.naive(slot) {
            self.naive_errors.add(value - naive);
        }
        if let Some(holt_winters) = self.holt_winters(slot) {
            self.near_errors.add(value - holt_winters);
            self.settle_far(slot, value);
            self.update(slot, value);
        } else if slot.saturating_sub(self.first_slot) >= SEASON as i64 {
            self.begin_season(slot);
        }
        self.newest[phase(slot)] = value as f32;
        self.known = self.known.saturating_add(1);
        self.last_slot = slot;
        if let Some(far) = self.holt_winters(slot + FAR as i64) {
            self.far[slot.rem_euclid(FAR as i64) as usize] = far as f32;
        }
    }

    /// Compares what was said four hours ago; after a gap that is of another quarter and is not looked at.
    fn settle_far(&mut self, slot: i64, value: f64) {
        if slot.saturating_sub(self.last_slot) > 1 {
            self.far = [NONE; FAR];
        }
        let said = &mut self.far[slot.rem_euclid(FAR as i64) as usize];
        if let Some(said) = known(std::mem::replace(said, NONE)) {
            self.far_errors.add(value - said);
        }
    }

    fn update(&mut self, slot: i64, value: f64) {
        let season = f64::from(self.season[phase(slot)]);
        let damped = DAMPING * self.trend;
        let level = LEVEL * (value - season) + (1.0 - LEVEL) * (self.level + damped);
        self.trend = TREND * (level - self.level) + (1.0 - TREND) * damped;
        self.season[phase(slot)] = (SEASONAL * (value - level) + (1.0 - SEASONAL) * season) as f32;
        self.level = level;
    }

    /// A day is over: its mean is the level, and what its quarters differ by is the season.
    fn begin_season(&mut self, slot: i64) {
        let of_day = || self.newest.iter().filter_map(|value| known(*value));
        let count = of_day().count() as u32;
        if count < KNOWN_MIN {
            // Too many gaps: another day is waited for.
            self.first_slot = slot;
            return;
        }
        let mean = of_day().sum::<f64>() / f64::from(count);
        for (season, newest) in self.season.iter_mut().zip(self.newest.iter()) {
            *season = known(*newest).map_or(0.0, |value| (value - mean) as f32);
        }
        (self.level, self.trend, self.is_seasonal) = (mean, 0.0, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day's shape with noise: a works that runs from six to ten, with a dip at noon.
    fn load(slot: i64, noise: &mut u64) -> f64 {
        *noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let jitter = (*noise >> 40) as f64 / f64::from(1 << 24) - 0.5;
        let quarter = slot.rem_euclid(96);
        let base = match quarter {
            24..48 | 52..88 => 40.0,
            48..52 => 25.0,
            _ => 5.0,
        };
        base + 4.0 * jitter + 0.01 * slot as f64
    }

    /// Damped additive Holt-Winters as the book has it, over whole arrays in doubles: each season's states one after
    /// the other, nothing overwritten.
    fn reference(values: &[f64]) -> Vec<Option<f64>> {
        let day = &values[..96];
        let mean = day.iter().sum::<f64>() / 96.0;
        let mut seasons: Vec<f64> = day.iter().map(|value| value - mean).collect();
        let (mut levels, mut trends) = (vec![mean], vec![0.0]);
        let mut forecasts = vec![None; 97];
        // The first value of the second day begins the season; the one after it is the first that is forecast.
        seasons.push(seasons[0]);
        for (t, value) in values.iter().enumerate().skip(97) {
            let (level, trend, season) = (
                levels[levels.len() - 1],
                trends[trends.len() - 1],
                seasons[t - 96],
            );
            forecasts.push(Some(level + 0.9 * trend + season));
            let next = 0.2 * (value - season) + 0.8 * (level + 0.9 * trend);
            trends.push(0.02 * (next - level) + 0.98 * 0.9 * trend);
            seasons.push(0.2 * (value - next) + 0.8 * season);
            levels.push(next);
        }
        forecasts
    }

    #[test]
    fn holt_winters_agrees_with_the_book() {
        let mut noise = 7;
        let values: Vec<f64> = (0..96 * 9).map(|slot| load(slot, &mut noise)).collect();
        let wanted = reference(&values);
        let mut model = Model::default();
        let mut compared = 0;
        for (slot, (value, wanted)) in (0_i64..).zip(values.iter().zip(&wanted)) {
            let said = model.holt_winters(slot);
            assert_eq!(said.is_some(), wanted.is_some(), "quarter {slot}");
            if let (Some(said), Some(wanted)) = (said, wanted) {
                assert!(
                    (said - wanted).abs() < 1e-4,
                    "quarter {slot}: {said}, the book says {wanted}"
                );
                compared += 1;
            }
            model.learn(slot, *value);
        }
        assert!(compared > 700);
    }

    #[test]
    fn a_forecast_is_nearer_than_the_mean_and_its_interval_holds() {
        let mut noise = 11;
        let mut model = Model::default();
        let learnt = 96 * 7;
        (0..learnt).for_each(|slot| model.learn(slot, load(slot, &mut noise)));
        let mean = 26.0 + 0.01 * learnt as f64;
        let method = model.method(8).expect("a week is enough");
        let (mut error, mut of_mean, mut within) = (0.0, 0.0, 0);
        for slot in learnt..learnt + 16 {
            let (actual, said) = (
                load(slot, &mut noise),
                model.forecast(slot, method).expect("a forecast"),
            );
            error += (actual - said.value).abs();
            of_mean += (actual - mean).abs();
            within += u32::from((actual - said.value).abs() < 1.96 * said.deviation);
        }
        assert!(error < of_mean / 5.0, "{error} against {of_mean} of the mean");
        assert!(within >= 13, "{within} of 16 within the interval");
    }

    #[test]
    fn little_data_and_gaps_give_no_forecast_rather_than_a_guess() {
        let mut model = Model::default();
        (0..96).for_each(|slot| model.learn(slot, 1.0));
        assert_eq!(model.expected(96), None, "a day, but no error is known yet");
        let mut gappy = Model::default();
        (0..400).step_by(2).for_each(|slot| gappy.learn(slot, 1.0));
        assert!(!gappy.is_seasonal, "half of each day is missing");
        assert_eq!(gappy.method(1), Some(Method::SeasonalNaive));
        assert_eq!(
            gappy.forecast(401, Method::SeasonalNaive),
            None,
            "this quarter was never known"
        );
        assert!(gappy.forecast(402, Method::SeasonalNaive).is_some());
    }
}

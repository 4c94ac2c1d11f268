//! Measured values of one thing: the median to quote, the spread to judge it by.

/// At least one value.
#[derive(Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Takes the values in any order.
    #[must_use]
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The middle value; the mean of the middle two of an even number.
    #[must_use]
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    /// `median (min–max)`, or the one value.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.0.as_slice() {
            [only] => format!("{only:.1}"),
            [min, .., max] => format!("{:.1} ({min:.1}–{max:.1})", self.median()),
            [] => "none".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn median_of_odd_and_even_numbers() {
        assert!((Samples::new(vec![3.0, 1.0, 2.0]).median() - 2.0).abs() < f64::EPSILON);
        assert!((Samples::new(vec![4.0, 1.0, 2.0, 3.0]).median() - 2.5).abs() < f64::EPSILON);
    }
}

//! When the guest is asked for a sign of life: when somebody turns to it, and until it has answered.
//!
//! A guest that nobody needs is left to sleep: a question would wake the machine. One that stopped working is found by
//! the next client of the engine, or by the rare question that is asked all the same: whoever waits on a connection that
//! is there already, and clients of published ports, wait for that one. Used by the conversation with the agent.

use std::time::Duration;

use lighter_machine::Accelerator;
use tokio::time::Instant;

/// Time between two looks at what is due; none of them reaches the machine by itself.
pub const LOOK: Duration = Duration::from_secs(5);
/// A guest that does not answer for this long is given up. Long, because an emulated guest under load is slow, and giving
/// up ends every container.
pub const SILENCE: Duration = Duration::from_secs(120);
/// A guest that does not answer for this long may be on a machine that stands still.
const QUIET: Duration = Duration::from_secs(10);
/// Time between questions where nobody turns to the guest, and between two settings of its clock.
const RARELY: Duration = Duration::from_secs(300);
/// The same of a guest that is emulated, whose clock runs at its own pace.
const EMULATED: Duration = Duration::from_secs(60);

/// What was asked and answered.
#[derive(Debug)]
pub struct Pulse {
    rarely: Duration,
    asked: Instant,
    /// The first question since the last answer.
    unanswered: Option<Instant>,
    /// Somebody turned to it since it was asked.
    used: bool,
    /// Whether it is asked at every look.
    watched: bool,
    clock_set: Instant,
}

impl Pulse {
    /// Of a guest that just said something.
    pub fn new(accelerator: Option<Accelerator>, now: Instant) -> Self {
        Self {
            rarely: match accelerator {
                Some(Accelerator::Tcg) => EMULATED,
                _ => RARELY,
            },
            asked: now,
            unanswered: None,
            used: false,
            watched: false,
            clock_set: now,
        }
    }

    /// From now on it is asked at every look: its end is waited for.
    pub fn watch(&mut self) {
        self.watched = true;
    }

    /// The guest said something.
    pub fn heard(&mut self) {
        self.unanswered = None;
    }

    /// It was asked.
    pub fn asked(&mut self, now: Instant) {
        (self.asked, self.used) = (now, false);
        self.unanswered.get_or_insert(now);
    }

    /// It could not answer until now, as its machine stood still.
    pub fn excused(&mut self, now: Instant) {
        if self.unanswered.is_some() {
            self.unanswered = Some(now);
        }
    }

    /// Somebody turns to it. Whether to ask at once; otherwise the next look does.
    pub fn used(&mut self, now: Instant) -> bool {
        self.used = true;
        self.unanswered.is_none() && now.duration_since(self.asked) >= LOOK
    }

    /// Whether to ask at this look.
    pub fn is_due(&self, now: Instant) -> bool {
        let asks = self.watched || self.used || self.unanswered.is_some();
        asks || now.duration_since(self.asked) >= self.rarely
    }

    /// Whether it is time to look if its machine stands still.
    pub fn is_quiet(&self, now: Instant) -> bool {
        self.has_waited(now, QUIET)
    }

    /// Whether it is given up.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.has_waited(now, SILENCE)
    }

    fn has_waited(&self, now: Instant, limit: Duration) -> bool {
        self.unanswered
            .is_some_and(|since| now.duration_since(since) > limit)
    }

    /// Whether its clock is to be set whatever it shows, which counts as done.
    pub fn takes_clock(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.clock_set) >= self.rarely;
        if due {
            self.clock_set = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks for so long and answers or not; how often it was asked.
    fn looks(pulse: &mut Pulse, now: &mut Instant, long: Duration, answers: bool) -> usize {
        let (mut asked, end) = (0, *now + long);
        while *now < end {
            *now += LOOK;
            if pulse.is_due(*now) {
                pulse.asked(*now);
                asked += 1;
            }
            if answers {
                pulse.heard();
            }
        }
        asked
    }

    #[test]
    fn a_guest_that_nobody_needs_is_left_alone() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(Some(Accelerator::Kvm), now);
        assert_eq!(looks(&mut pulse, &mut now, RARELY - LOOK, true), 0);
        assert_eq!(looks(&mut pulse, &mut now, 10 * RARELY, true), 10);
        let mut emulated = Pulse::new(Some(Accelerator::Tcg), now);
        assert_eq!(looks(&mut emulated, &mut now, 10 * EMULATED, true), 10);
    }

    #[test]
    fn a_guest_that_is_turned_to_answers_or_is_given_up() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(None, now);
        assert!(!pulse.is_due(now));
        // It has just said something; the next look asks.
        assert!(!pulse.used(now) && pulse.is_due(now));
        now += LOOK;
        assert!(pulse.used(now));
        pulse.asked(now);
        // One question at a time; the next looks repeat it.
        assert!(!pulse.used(now + SILENCE));
        assert_eq!(looks(&mut pulse, &mut now, QUIET, false), 2);
        assert!(!pulse.is_quiet(now) && pulse.is_quiet(now + SECOND));
        looks(&mut pulse, &mut now, SILENCE - QUIET, false);
        assert!(!pulse.is_silent(now) && pulse.is_silent(now + SECOND));
        // Time in which its machine stood still does not count.
        pulse.excused(now);
        assert!(!pulse.is_silent(now + SILENCE));
        pulse.heard();
        assert!(!pulse.is_silent(now + 10 * SILENCE));
        assert!(!pulse.is_due(now + SECOND));
        pulse.watch();
        assert!(pulse.is_due(now + SECOND));
    }

    #[test]
    fn a_clock_is_set_now_and_then() {
        let now = Instant::now();
        let mut pulse = Pulse::new(Some(Accelerator::Tcg), now);
        assert!(!pulse.takes_clock(now + EMULATED - SECOND));
        assert!(pulse.takes_clock(now + EMULATED));
        assert!(!pulse.takes_clock(now + EMULATED));
    }
}

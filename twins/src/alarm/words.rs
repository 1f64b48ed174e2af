//! The states of an alarm and what may happen to it, in the words of ISA-18.2.
//!
//! Promises: numbers are on disk and words are in the API; neither ever changes. Knows no transitions.

/// The state of an alarm as it is shown. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum AlarmState {
    /// Nothing is wrong.
    Normal = 1,
    /// Active, and nobody has acknowledged it.
    UnacknowledgedActive = 2,
    /// Active and acknowledged.
    AcknowledgedActive = 3,
    /// Returned to normal before anybody acknowledged it.
    RtnUnacknowledged = 4,
    /// Returned to normal, latched, not acknowledged.
    LatchedUnacknowledged = 5,
    /// Returned to normal, latched, acknowledged: waits for a reset.
    LatchedAcknowledged = 6,
    /// Put away by a person for a time.
    Shelved = 7,
    /// Suppressed by design: its rule says so.
    Suppressed = 8,
    /// Out of service.
    OutOfService = 9,
}

impl AlarmState {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Normal,
        Self::UnacknowledgedActive,
        Self::AcknowledgedActive,
        Self::RtnUnacknowledged,
        Self::LatchedUnacknowledged,
        Self::LatchedAcknowledged,
        Self::Shelved,
        Self::Suppressed,
        Self::OutOfService,
    ];

    /// The state as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::UnacknowledgedActive => "unacknowledged_active",
            Self::AcknowledgedActive => "acknowledged_active",
            Self::RtnUnacknowledged => "rtn_unacknowledged",
            Self::LatchedUnacknowledged => "latched_unacknowledged",
            Self::LatchedAcknowledged => "latched_acknowledged",
            Self::Shelved => "shelved",
            Self::Suppressed => "suppressed",
            Self::OutOfService => "out_of_service",
        }
    }

    /// Whether it is active and shown as such.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::UnacknowledgedActive | Self::AcknowledgedActive)
    }

    /// Whether it waits for an acknowledgement.
    #[must_use]
    pub fn is_unacknowledged(self) -> bool {
        matches!(
            self,
            Self::UnacknowledgedActive | Self::RtnUnacknowledged | Self::LatchedUnacknowledged
        )
    }
}

/// What happened to an alarm. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AlarmWhat {
    /// It became active and was announced.
    Raised = 1,
    /// Its cause is gone.
    Returned = 2,
    /// A person acknowledged it.
    Acknowledged = 3,
    /// A person put it on the shelf.
    Shelved = 4,
    /// A person took it back.
    Unshelved = 5,
    /// Its time on the shelf is over.
    ShelfExpired = 6,
    /// Its rule suppresses it now.
    Suppressed = 7,
    /// Its rule no longer suppresses it.
    Unsuppressed = 8,
    /// A person took it out of service.
    TakenOut = 9,
    /// A person put it back into service.
    PutBack = 10,
    /// A person made a remark.
    Commented = 11,
    /// A person let go a latched alarm.
    Reset = 12,
    /// Its rule is gone from the plant model.
    Removed = 13,
}

impl AlarmWhat {
    const ALL: [Self; 13] = [
        Self::Raised,
        Self::Returned,
        Self::Acknowledged,
        Self::Shelved,
        Self::Unshelved,
        Self::ShelfExpired,
        Self::Suppressed,
        Self::Unsuppressed,
        Self::TakenOut,
        Self::PutBack,
        Self::Commented,
        Self::Reset,
        Self::Removed,
    ];

    /// What an on-disk number says.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|what| *what as u32 == number)
    }

    /// What happened, as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Returned => "returned",
            Self::Acknowledged => "acknowledged",
            Self::Shelved => "shelved",
            Self::Unshelved => "unshelved",
            Self::ShelfExpired => "shelf_expired",
            Self::Suppressed => "suppressed",
            Self::Unsuppressed => "unsuppressed",
            Self::TakenOut => "taken_out_of_service",
            Self::PutBack => "returned_to_service",
            Self::Commented => "commented",
            Self::Reset => "reset",
            Self::Removed => "removed",
        }
    }
}

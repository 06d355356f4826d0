//! What a keyword's values are.

/// What stands behind a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Nothing,
    /// `on`, `true`, `yes` or their opposites.
    Boolean,
    /// A time, with fractions.
    Seconds,
    /// A whole number between these.
    Number {
        /// Smallest.
        min: i64,
        /// Largest; `i64::MAX` when only the machine limits it.
        max: i64,
    },
    /// A number whose unit is this.
    Quantity(&'static str),
    /// A change of priority or weight of at most so much, and whether it is turned round.
    Weight(i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IP address.
    Address,
    /// An IP address and a port.
    Endpoint,
    /// A port.
    Port,
    /// A network interface.
    Device,
    /// A file or a folder.
    Path,
    /// A name the author chooses, or a host's.
    Name,
    /// A command line.
    Command,
    /// An IPv4 netmask, or the length of an IPv6 prefix.
    Netmask,
    /// Bytes in hexadecimal.
    Hex,
    /// A user, and a group.
    User,
    /// Anything else, in the words of the documentation.
    Words(&'static str),
}

/// Any whole number that is not negative.
pub(super) const ANY: Kind = number(0, i64::MAX);

/// A number between `min` and `max`.
pub(super) const fn number(min: i64, max: i64) -> Kind {
    Kind::Number { min, max }
}

impl Kind {
    /// How documentation and messages write one of it.
    pub fn syntax(self) -> String {
        let fixed = match self {
            Self::Number { max: i64::MAX, .. } => "NUMBER",
            Self::Number { min, max } if min < 0 => return format!("{min}..{max}"),
            Self::Number { min, max } => return format!("{min}-{max}"),
            Self::Weight(most) => return format!("-{most}..{most} [reverse]"),
            Self::OneOf(words) => return words.join("|"),
            Self::Nothing => "",
            Self::Boolean => "BOOLEAN",
            Self::Seconds => "SECONDS",
            Self::Quantity(words) | Self::Words(words) => words,
            Self::Address => "ADDRESS",
            Self::Endpoint => "ADDRESS [PORT]",
            Self::Port => "PORT",
            Self::Device => "DEVICE",
            Self::Path => "PATH",
            Self::Name => "NAME",
            Self::Command => "COMMAND",
            Self::Netmask => "NETMASK",
            Self::Hex => "HEX",
            Self::User => "USER [GROUP]",
        };
        fixed.to_owned()
    }

    /// Whether its syntax says itself how often its parts may stand.
    pub(super) const fn says_how_many(self) -> bool {
        match self {
            Self::Nothing
            | Self::Weight(_)
            | Self::Endpoint
            | Self::User
            | Self::Command
            | Self::Hex
            | Self::Words(_) => true,
            Self::Boolean
            | Self::Seconds
            | Self::Number { .. }
            | Self::Quantity(_)
            | Self::OneOf(_)
            | Self::Address
            | Self::Port
            | Self::Device
            | Self::Path
            | Self::Name
            | Self::Netmask => false,
        }
    }
}

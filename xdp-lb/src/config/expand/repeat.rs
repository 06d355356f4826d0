//! Lines that repeat: `~SEQ(VAR, START, STEP, END)`, `~SEQx`, `~LST(VAR, VALUE, …)`.
//!
//! In: what stands between the parentheses. Out: the variables and, one after the other, their
//! values. Numbers are read the way C does: decimal, `0x…` or octal with a leading `0`.

/// What a line is repeated for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// A variable that counts.
    Sequence {
        /// Its name.
        name: String,
        /// Its next value; `None` at the end.
        next: Option<i64>,
        /// What is added.
        step: i64,
        /// The last value it can have.
        end: i64,
        /// It is written in hexadecimal.
        hex: bool,
    },
    /// Variables with lists of values.
    List {
        /// Their names.
        names: Vec<String>,
        /// Their values, the next ones last.
        values: Vec<Vec<String>>,
    },
}

/// The kinds of repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `~SEQ`
    Sequence,
    /// `~SEQx`
    HexSequence,
    /// `~LST`
    List,
}

/// The head of a line that repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// What it is.
    pub(super) kind: Kind,
    /// What stands between the parentheses: from byte to byte. `None` without them.
    pub(super) inside: Option<(usize, usize)>,
}

impl Head {
    /// The head of the line, if it has one.
    pub(super) fn of(line: &str) -> Option<Self> {
        let heads = [
            ("~SEQx", Kind::HexSequence),
            ("~SEQ", Kind::Sequence),
            ("~LST", Kind::List),
        ];
        let (start, kind) = heads
            .into_iter()
            .find(|(start, _)| line.starts_with(start))?;
        let behind = line.get(start.len()..).unwrap_or("");
        let blanks = behind.len() - behind.trim_start().len();
        let open = start.len() + blanks + 1;
        let inside = behind.trim_start().strip_prefix('(');
        let inside = inside.and_then(|inside| Some((open, open + inside.find(')')?)));
        Some(Self { kind, inside })
    }
}

/// Reads what stands between the parentheses; on failure, what is wrong with it.
pub(super) fn read(kind: Kind, inside: &str) -> Result<Repeat, &'static str> {
    match kind {
        Kind::Sequence => sequence(inside, false),
        Kind::HexSequence => sequence(inside, true),
        Kind::List => list(inside),
    }
}

fn sequence(inside: &str, hex: bool) -> Result<Repeat, &'static str> {
    const SHAPE: &str = "write '~SEQ(VAR, START, STEP, END)', where START and STEP may be missing";
    let mut parts = inside.split(',').map(str::trim);
    let name = parts.next().unwrap_or("").to_owned();
    let numbers: Option<Vec<i64>> = parts.map(number).collect();
    let (start, step, end) = match numbers.ok_or(SHAPE)?.as_slice() {
        [end] => (if *end < 0 { -1 } else { 1 }, None, *end),
        [start, end] => (*start, None, *end),
        [start, step, end] => (*start, Some(*step), *end),
        _ => return Err(SHAPE),
    };
    let step = step.unwrap_or(if end < start { -1 } else { 1 });
    if step == 0 || (step > 0 && end < start) || (step < 0 && end > start) {
        return Err("its steps do not lead from the start to the end");
    }
    if hex && (start < 0 || end < 0) {
        return Err("'~SEQx' counts no negative numbers");
    }
    Ok(Repeat::Sequence {
        name,
        next: Some(start),
        step,
        end,
        hex,
    })
}

/// A number the way C reads it. None at all is 0; one that is too large is the largest.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if text.is_empty() {
        return Some(0);
    }
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    Some(if negative { -magnitude } else { magnitude })
}

fn list(inside: &str) -> Result<Repeat, &'static str> {
    const SHAPE: &str = "write '~LST(VAR, VALUE, …)' or '~LST({VAR, VAR}, {VALUE, VALUE}, …)', with no blanks and braces within a value";
    let mut groups = Vec::new();
    let mut rest = Some(inside);
    while let Some(text) = rest {
        let text = text.trim_start();
        let (group, behind) = match text.strip_prefix('{') {
            Some(text) => text.split_once('}').ok_or(SHAPE)?,
            None => text.split_at(text.find(',').unwrap_or(text.len())),
        };
        let separator = if text.starts_with('{') { ',' } else { '\0' };
        let values: Vec<String> = group
            .split(separator)
            .map(|value| value.trim().to_owned())
            .collect();
        let odd = |value: &String| value.contains(|c: char| c.is_whitespace() || "{}".contains(c));
        if values.iter().any(odd) {
            return Err(SHAPE);
        }
        groups.push(values);
        rest = match behind.trim() {
            "" => None,
            more => Some(more.strip_prefix(',').ok_or(SHAPE)?),
        };
    }
    let mut groups = groups.into_iter();
    let names = groups.next().unwrap_or_default();
    let values: Vec<Vec<String>> = groups.rev().collect();
    if values.is_empty() {
        return Err(SHAPE);
    }
    if values.iter().any(|group| group.len() > names.len()) {
        return Err("it has more values at once than variables");
    }
    Ok(Repeat::List { names, values })
}

impl Iterator for Repeat {
    /// Variables and their values.
    type Item = Vec<(String, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Sequence {
                name,
                next,
                step,
                end,
                hex,
            } => {
                let value = (*next)?;
                let following = value.checked_add(*step);
                let inside = |value: &i64| {
                    if *step > 0 {
                        value <= end
                    } else {
                        value >= end
                    }
                };
                *next = following.filter(inside);
                let shown = if *hex {
                    format!("{value:x}")
                } else {
                    value.to_string()
                };
                Some(vec![(name.clone(), shown)])
            }
            Self::List { names, values } => {
                let mut group = values.pop()?.into_iter();
                let pairs = names
                    .iter()
                    .map(|name| (name.clone(), group.next().unwrap_or_default()));
                Some(pairs.collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of one variable, or of several joined by dots; nothing when the line is invalid.
    fn values(line: &str) -> Vec<String> {
        let Some(Head { kind, inside }) = Head::of(line) else {
            return vec!["plain".to_owned()];
        };
        let Some((from, to)) = inside else {
            return Vec::new();
        };
        let Ok(repeat) = read(kind, &line[from..to]) else {
            return Vec::new();
        };
        repeat
            .take(10)
            .map(|pairs| {
                let values: Vec<String> = pairs.into_iter().map(|(_, value)| value).collect();
                values.join(".")
            })
            .collect()
    }

    #[test]
    fn sequences_count_as_keepalived_counts() {
        let cases: [(&str, &[&str]); 31] = [
            ("~SEQ(A,1,3) x", &["1", "2", "3"]),
            ("~SEQ(A,3)", &["1", "2", "3"]),
            ("~SEQ(A,2,2,7)", &["2", "4", "6"]),
            ("~SEQ(A,1,3,6)", &["1", "4"]),
            ("~SEQ(A,3,1)", &["3", "2", "1"]),
            ("~SEQ(A,-2)", &["-1", "-2"]),
            ("~SEQ(A,0)", &["1", "0"]),
            ("~SEQ(A,5,-2,0)", &["5", "3", "1"]),
            ("~SEQ(A,5,5)", &["5"]),
            ("~SEQ(A,5,1,5)", &["5"]),
            ("~SEQ(A,+1,+2)", &["1", "2"]),
            ("~SEQ(A,1,-2)", &["1", "0", "-1", "-2"]),
            ("~SEQx(A,8,0x0c)", &["8", "9", "a", "b", "c"]),
            ("~SEQx(A, 0x12, -1, 0x10)", &["12", "11", "10"]),
            ("~SEQ( A , 1 , 2 )", &["1", "2"]),
            ("~SEQ (A,1,2)", &["1", "2"]),
            ("~SEQ(A,010,9)", &["8", "9"]),
            ("~SEQ(A,,2)", &["0", "1", "2"]),
            (
                "~SEQ(A,9223372036854775806,99999999999999999999)",
                &["9223372036854775806", "9223372036854775807"],
            ),
            ("~SEQ(A,1,0,3)", &[]),
            ("~SEQ(A,1,-1,3)", &[]),
            ("~SEQ(A,5,1,1)", &[]),
            ("~SEQ(A,a,2)", &[]),
            ("~SEQ(A,1,2,3,4)", &[]),
            ("~SEQ(A,1 2)", &[]),
            ("~SEQ(A,1.5)", &[]),
            ("~SEQ(A)", &[]),
            ("~SEQ(A,1,2", &[]),
            ("~SEQX(A,1,2)", &[]),
            ("~SEQx(A,-2,1)", &[]),
            ("~FOO(A,1,2)", &["plain"]),
        ];
        for (line, expected) in cases {
            assert_eq!(values(line), expected, "{line}");
        }
    }

    #[test]
    fn lists_name_their_values() {
        let cases: [(&str, &[&str]); 17] = [
            ("~LST(A,1,2,3) x", &["1", "2", "3"]),
            ("~LST( A , 1 , 2 )", &["1", "2"]),
            ("~LST(A,1,,2)", &["1", "", "2"]),
            ("~LST(A,)", &[""]),
            ("~LST(A,$D,b)", &["$D", "b"]),
            ("~LST(A,a.b-c_d/24,e:f)", &["a.b-c_d/24", "e:f"]),
            ("~LST({A,B},{1,2}, {3 ,4},{ 5,6 })", &["1.2", "3.4", "5.6"]),
            ("~LST({A,B},{1},{2,3})", &["1.", "2.3"]),
            ("~LST({A,B},1,2)", &["1.", "2."]),
            ("~LST(A,{1},{2})", &["1", "2"]),
            ("~LST({A},{1},{2})", &["1", "2"]),
            ("~LST(A, a b , c)", &[]),
            ("~LST(A,${D})", &[]),
            ("~LST(A)", &[]),
            ("~LST(A,{1,2})", &[]),
            ("~LST({K,L},{1,2,3},{3})", &[]),
            ("~LST(A,1,2", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(values(line), expected, "{line}");
        }
    }
}

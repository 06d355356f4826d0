//! Prometheus text, as far as a test needs to read it.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Scrape {
    /// Reads the text format; lines that are no samples are skipped.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter_map(sample).collect();
        Self { samples }
    }

    /// All samples of a metric.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }

    /// The value of the one sample of `name` that bears these labels; `None` if there is none or
    /// more than one.
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.all(name).filter(|sample| {
            labels
                .iter()
                .all(|&(key, value)| sample.labels.get(key).is_some_and(|have| have == value))
        });
        let value = found.next()?.value;
        found.next().is_none().then_some(value)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: rest.split_whitespace().next()?.parse().ok()?,
    })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquote(quoted)?;
        labels.insert(key.to_owned(), value);
        rest = after;
    }
}

/// The text up to the closing quote, escapes undone, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(match characters.next()? {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP x_total Help { not a sample }
# TYPE x_total counter
x_total{service="tcp/192.168.1.200:80",real_server="a"} 3
x_total{service="tcp/192.168.1.200:80",real_server="b"} 4.5
odd{path="a \"b\" {c}, \\d"} 1 1700000000
up 1
# EOF
"#;

    #[test]
    fn a_sample_is_found_by_its_labels() {
        let scrape = Scrape::parse(TEXT);
        let b = [("real_server", "b"), ("service", "tcp/192.168.1.200:80")];
        assert_eq!(scrape.one("x_total", &b), Some(4.5));
        assert_eq!(scrape.one("up", &[]), Some(1.0));
    }

    #[test]
    fn what_is_missing_or_ambiguous_has_no_value() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.one("x_total", &[]), None);
        assert_eq!(scrape.one("x_total", &[("real_server", "c")]), None);
        assert_eq!(scrape.one("y", &[]), None);
    }

    #[test]
    fn escapes_in_labels_are_undone() {
        let scrape = Scrape::parse(TEXT);
        let odd: Vec<_> = scrape.all("odd").collect();
        assert_eq!(odd.len(), 1);
        assert_eq!(odd[0].labels["path"], r#"a "b" {c}, \d"#);
        assert!((odd[0].value - 1.0).abs() < f64::EPSILON);
    }
}

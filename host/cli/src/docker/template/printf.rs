//! Go's `printf`, as far as JSON has values for it.

use serde_json::Value;

use super::functions::shown;

/// Widest field: no terminal is wider.
const WIDEST: usize = 10_000;

/// One verb of a format: `%-10.3s`.
#[derive(Default)]
struct Verb {
    left: bool,
    zeroes: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Makes a text of a format and its values.
pub fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut values = arguments.iter();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let verb = verb(&mut letters);
        match letters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(kind) => match values.next() {
                Some(value) => out.push_str(&one(&verb, kind, value)),
                None => out.push_str(&format!("%!{kind}(MISSING)")),
            },
        }
    }
    let extra: Vec<String> = values.map(shown).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn verb(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Verb {
    let mut verb = Verb::default();
    while let Some(flag) = letters.next_if(|c| "-0+ #".contains(*c)) {
        match flag {
            '-' => verb.left = true,
            '0' => verb.zeroes = true,
            '+' => verb.plus = true,
            _ => {}
        }
    }
    verb.width = number(letters);
    if letters.next_if_eq(&'.').is_some() {
        verb.precision = Some(number(letters));
    }
    verb
}

fn number(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = letters.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10).unwrap_or(0) as usize;
        number = (number * 10 + digit).min(WIDEST);
    }
    number
}

fn one(verb: &Verb, kind: char, value: &Value) -> String {
    let text = match (kind, value) {
        ('q', _) => format!("{:?}", shown(value)),
        ('s' | 'v', Value::String(text)) => match verb.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.clone(),
        },
        ('d', Value::Number(number)) if number.is_i64() || number.is_u64() => match verb.plus {
            true if !number.to_string().starts_with('-') => format!("+{number}"),
            _ => number.to_string(),
        },
        ('f', Value::Number(number)) => {
            let digits = verb.precision.unwrap_or(6).min(100);
            format!("{:.digits$}", number.as_f64().unwrap_or_default())
        }
        ('x', Value::Number(number)) if number.is_u64() => {
            format!("{:x}", number.as_u64().unwrap_or_default())
        }
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('t', Value::Bool(truth)) => truth.to_string(),
        ('v', _) => shown(value),
        ('s', Value::Array(_)) => shown(value),
        (other, _) => format!("%!{other}({})", shown(value)),
    };
    let missing = verb.width.saturating_sub(text.chars().count());
    match (verb.left, verb.zeroes && value.is_number()) {
        (true, _) => text + &" ".repeat(missing),
        (false, true) => "0".repeat(missing) + &text,
        (false, false) => " ".repeat(missing) + &text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn verbs_are_gos() {
        for (format, arguments, expected) in [
            ("%s-%v", vec![json!("a"), json!(1)], "a-1"),
            ("%5s|%-5s|", vec![json!("a"), json!("b")], "    a|b    |"),
            ("%05d %x", vec![json!(42), json!(255)], "00042 ff"),
            ("%.1f%%", vec![json!(2.55)], "2.5%"),
            ("%t %q", vec![json!(true), json!("x\"")], "true \"x\\\"\""),
            ("%d", vec![json!("a")], "%!d(a)"),
            ("%s", vec![], "%!s(MISSING)"),
            ("x", vec![json!(1)], "x%!(EXTRA 1)"),
            ("%", vec![], "%!(NOVERB)"),
        ] {
            assert_eq!(printf(format, &arguments), expected, "{format}");
        }
        let wide = printf("%99999999999999999999s", &[json!("a")]);
        assert_eq!(wide.len(), WIDEST);
    }
}

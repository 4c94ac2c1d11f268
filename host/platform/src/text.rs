//! Text of strangers (a guest, a registry, an image), made fit to be shown.
//!
//! Called by: whoever puts such text on a terminal or into a message. It must never change what a
//! pipe or a file is given: that is data.

/// The text without what moves cursors, sets colours or titles: the reader's terminal must not be
/// steered by whoever wrote it. Line ends and tabs stay.
#[must_use]
pub fn without_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                let last = match letters.next_if_eq(&'[') {
                    Some(_) => '@'..='~',
                    None => '0'..='~',
                };
                // What lies between ends with the letter that closes the sequence; anything else,
                // such as the line's end, belongs to it no more.
                while letters
                    .next_if(|c| (' '..*last.start()).contains(c))
                    .is_some()
                {}
                letters.next_if(|c| last.contains(c));
            }
            '\n' | '\t' => out.push(letter),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

/// At most `most` characters, without controls; an ellipsis stands for the rest.
#[must_use]
pub fn clipped(text: &str, most: usize) -> String {
    let clean = without_controls(text);
    match clean.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_steer_the_readers_terminal() {
        let text = "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r\nred: \x1b[31mno\x1b[0m\x07\n";
        assert_eq!(without_controls(text), "SeaBIOS\nred: no\n");
        assert_eq!(without_controls("cut \x1b[3"), "cut ");
        // A sequence without its end takes nothing with it.
        assert_eq!(without_controls("a\x1b[3\nb"), "a\nb");
        assert_eq!(without_controls("a\x1b\nb\x1b[\tc"), "a\nb\tc");
        assert_eq!(
            without_controls("\x1b[1;31ma\x1b[0 qb\x1b(Bc\x1b[äd"),
            "abcäd"
        );
        // The same sequences in one byte of Latin-1.
        assert_eq!(without_controls("a\u{9b}2Jb"), "a2Jb");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(clipped("äöü", 2), "äö…");
        assert_eq!(clipped("äöü", 3), "äöü");
    }
}

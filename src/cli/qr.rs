//! A link as a QR code for a terminal: two modules per character, one above the other. Nobody else
//! is asked to draw it, for whoever draws it knows the secret.

#[cfg(feature = "qr")]
use std::io::IsTerminal;

#[cfg(feature = "qr")]
use qrcodegen::{QrCode, QrCodeEcc};

/// The picture, with line ends.
///
/// # Errors
/// One line: this build cannot draw, or the text is too long.
#[cfg(feature = "qr")]
pub fn draw(text: &str) -> Result<String, &'static str> {
    // The least correction makes the smallest picture; what is free is used all the same.
    let code = QrCode::encode_text(text, QrCodeEcc::Low).map_err(|_| TOO_LONG)?;
    Ok(picture(&code, std::io::stdout().is_terminal()))
}

/// The picture, with line ends.
///
/// # Errors
/// One line: this build cannot draw.
#[cfg(not(feature = "qr"))]
pub fn draw(_text: &str) -> Result<String, &'static str> {
    Err("this build draws no QR codes; install the full mtbox, or copy the link")
}

/// On a terminal black and white are set, so that its colours do not matter. Elsewhere light
/// modules are drawn, as for a terminal with a dark background.
#[cfg(feature = "qr")]
fn picture(code: &QrCode, is_terminal: bool) -> String {
    let (size, quiet) = (code.size(), quiet_zone(code.size()));
    let is_dark = |x: i32, y: i32| code.get_module(x, y);
    let mut out = String::new();
    for y in (-quiet..size + quiet).step_by(2) {
        if is_terminal {
            out.push_str(BLACK_ON_WHITE);
        }
        for x in -quiet..size + quiet {
            // Below the last row there is the terminal's own background.
            let has_lower = y + 1 < size + quiet;
            let (upper, lower) = (is_dark(x, y), is_dark(x, y + 1));
            let inked = match is_terminal {
                true => (upper, lower),
                false => (!upper, !lower && has_lower),
            };
            out.push(match inked {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            });
        }
        if is_terminal {
            out.push_str(PLAIN);
        }
        out.push('\n');
    }
    out
}

/// Light modules around the code: the standard asks for four, readers for one or two. As many as
/// leave the picture within 24 lines.
#[cfg(feature = "qr")]
fn quiet_zone(size: i32) -> i32 {
    (1..=4).rev().find(|quiet| (size + 2 * quiet + 1) / 2 < LINES).unwrap_or(2)
}

#[cfg(feature = "qr")]
const LINES: i32 = 24;
#[cfg(feature = "qr")]
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
#[cfg(feature = "qr")]
const PLAIN: &str = "\x1b[0m";
#[cfg(feature = "qr")]
const TOO_LONG: &str = "the link is too long for a QR code; use a shorter host name";

#[cfg(feature = "qr")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_the_same_modules_black_on_white() {
        let code = QrCode::encode_text("tg://proxy?port=443", QrCodeEcc::Low).unwrap();
        let inverse = |c: char| match c {
            '\u{2588}' => ' ',
            '\u{2580}' => '\u{2584}',
            '\u{2584}' => '\u{2580}',
            _ => '\u{2588}',
        };
        let (dark, light) = (picture(&code, false), picture(&code, true));
        let plain: Vec<String> = light
            .lines()
            .map(|line| line.replace(BLACK_ON_WHITE, "").replace(PLAIN, ""))
            .map(|line| line.chars().map(inverse).collect())
            .collect();
        let dark: Vec<&str> = dark.lines().collect();
        // In the last line the lower half may be no module at all.
        assert_eq!(plain[..plain.len() - 1], dark[..dark.len() - 1]);
        assert!(light.lines().all(|line| line.starts_with("\x1b[") && line.ends_with(PLAIN)));
    }
}
